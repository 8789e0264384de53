"""A peer without a node on the fabric of a seeded market: its key, and whatever a test has it say. Under the market's own clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dms.testing.seeded_market import SeededMarket, SeededNode
from dms.testing.seeded_world import TTL_MS
from dms_actors.ports import FrameReceived, GossipReceived, PeerDown, PeerUp
from dms_proto.capability import Capability
from dms_proto.ids import MessageId, PeerId, uuid_of
from dms_proto.membership.machine import PROTOCOL_VERSION
from dms_proto.messages import AnyMessage, Hello
from dms_proto.wire import Envelope, Signer, read_frame, seal

M = TypeVar("M", bound=AnyMessage)


class Guest:
    """Connects, says and hears. It answers nothing by itself.

    Attributes:
        signer: its key.
        heard: the messages it got, oldest first.
        goodbyes: why its connections ended, oldest first.
        on_heard: called with each message and who said it.
    """

    def __init__(self, market: SeededMarket, remote: str = "") -> None:
        """`remote`: the IP address it is seen to come from."""
        self.signer = Signer(market.loop.rng.randbytes(32))
        self.heard: list[AnyMessage] = []
        self.goodbyes: list[str] = []
        self.on_heard: Callable[[PeerId, AnyMessage], object] = lambda _peer, _message: None
        self._market = market
        market.fabric.up[self.peer] = (None, self)
        market.fabric.remotes[self.peer] = remote

    @property
    def peer(self) -> PeerId:
        """Its id."""
        return self.signer.peer_id

    def tell(self, event: object) -> None:
        """What the network says."""
        match event:
            case FrameReceived(peer=peer, frame=frame) | GossipReceived(forwarder=peer, frame=frame):
                opened = read_frame(frame)
                assert isinstance(opened, Envelope), opened
                self.heard.append(opened.message)
                self.on_heard(peer, opened.message)
            case PeerDown(reason=reason):
                self.goodbyes.append(reason)
            case PeerUp():
                pass

    def connect(self, node: SeededNode) -> None:
        """Dials a node."""
        self._market.fabric.connect(self.peer, node.signer.peer_id)

    def leave(self, node: SeededNode) -> None:
        """Ends the connection."""
        self._market.fabric.disconnect(self.peer, node.signer.peer_id)

    def is_connected(self, node: SeededNode) -> bool:
        """Whether it is."""
        return node.signer.peer_id in self._market.fabric.links_of(self.peer)

    def say(self, node: SeededNode, message: AnyMessage) -> None:
        """A good envelope around any message; a gossiped kind travels by a direct stream, as it may."""
        self.say_bytes(node, self.sealed(node, message))

    def sealed(self, node: SeededNode, message: AnyMessage) -> bytes:
        """A message as it would be sent now."""
        loop = self._market.loop
        id_ = MessageId(loop.rng.randbytes(16))
        return seal(self.signer, message, id=id_, sent=loop.now, ttl_ms=TTL_MS, to=node.signer.peer_id)

    def say_bytes(self, node: SeededNode, frame: bytes) -> None:
        """Any bytes."""
        self._market.fabric.send(self.peer, node.signer.peer_id, frame)

    def hello(self, **changed: object) -> Hello:
        """A good hello, with anything changed."""
        told: dict[str, object] = {
            "version": PROTOCOL_VERSION,
            "software": "guest",
            "now": self._market.loop.now,
            "uuid": uuid_of(self.signer.public_key),
            "name": "guest",
            "addresses": (),
            "summary": Capability(),
        }
        return Hello(**(told | changed))  # type: ignore[arg-type]

    def last(self, kind: type[M]) -> M | None:
        """The last message of a kind that it heard."""
        return next((message for message in reversed(self.heard) if isinstance(message, kind)), None)
