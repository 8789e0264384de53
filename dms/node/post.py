"""The post: messages of the actors, signed and put on the network. Implements `dms_actors.world.Post`.

Signing happens on the caller's thread, the sending on the loop. A task's secrets are sealed to the provider it is sent to, this node included.
A message for a peer that is not connected waits while the peer is dialled where it said it can be reached; it is dropped when that fails or the
message expires. That is no loss: machines repeat what matters.

Messages that need a right carry the grant that their receiver wants to see, if the wallet has one. A bid request that is too long for gossip with its
grant is gossiped without; those asked by name get it in frames of their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Final

from dms.node.reaching import Reaching
from dms.node.sealing import Sealer
from dms.node.waiting import Waiting
from dms.tasks import cancel
from dms.trust.wallet import Wallet
from dms_actors.letters import Delivered
from dms_actors.loop_calls import LoopCalls
from dms_actors.ports import Network
from dms_proto.errors import DmsError, UserError
from dms_proto.grants.rights import KINDS, MARKET, may_need_right
from dms_proto.ids import MessageId, PeerId
from dms_proto.messages import AnyMessage, BidRequest, Revocation
from dms_proto.units import SECOND
from dms_proto.wire import Signer, seal

log = logging.getLogger(__name__)

DIRECT_TTL_MS: Final = 60_000
GOSSIP_TTL_MS: Final = 30_000
LEARNED: Final = 4_096
"""Peers whose addresses are remembered for an answer; bounds what strangers can make us remember."""


class NodePost:
    """One per node."""

    def __init__(
        self,
        *,
        signer: Signer,
        sealer: Sealer,
        me: PeerId,
        topic: str,
        network: Network,
        reaching: Reaching,
        wallet: Wallet,
        clock: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        calls: LoopCalls,
        forgive_s: float,
    ) -> None:
        self._signer = signer
        self._sealer = sealer
        self._me = me
        self._topic = topic
        self._network = network
        self._reaching = reaching
        self._wallet = wallet
        self._clock = clock
        self._loop = loop
        self._calls = calls
        self._forgive_s = forgive_s
        self._to_self: Callable[[Delivered], object] = lambda _message: None
        self._addresses: dict[PeerId, tuple[str, ...]] = {}
        self._waiting = Waiting()
        self._dials: dict[PeerId, asyncio.Task[None]] = {}
        self.dropped = 0

    def deliver_to_self_by(self, to_self: Callable[[Delivered], object]) -> None:
        """Sets where messages to this node itself go: the node's mailbox."""
        self._to_self = to_self

    # -------------------------------------------------------------------------------------------- from the actors' thread

    def send(self, peer: PeerId, message: AnyMessage, cause_id: str) -> bytes:
        """See `Post.send`."""
        message = self._sealer.address(message, peer)
        if peer == self._me:
            self._to_self(Delivered(message, cause_id))
            return b""
        auth = self._wallet.shown_to(peer, _rights_for(message)) if may_need_right(message) else b""
        frame = self._sealed(message, cause_id, to=peer, auth=auth)
        if frame is None:
            return b""
        self._on_loop(self._send, peer, frame)
        return frame

    def announce(self, message: BidRequest, peers: Sequence[PeerId], *, gossip: bool, cause_id: str) -> None:
        """See `Post.announce`."""
        others = tuple(peer for peer in peers if peer != self._me)
        if len(others) < len(peers):
            self._to_self(Delivered(message, cause_id))
        if not others and not gossip:
            return
        shown = [self._wallet.shown_to(peer) for peer in others]
        # Gossip reaches nodes as well that are not asked by name: one that takes no work now may take this later.
        carried = max(filter(None, shown), key=shown.count, default=b"") or (
            self._wallet.shown_to_most() if gossip else b""
        )
        frame, carried = self._announcement(message, cause_id, carried)
        for peer, wanted in zip(others, shown, strict=True):
            if wanted not in (b"", carried):
                self.send(peer, message, cause_id)
        if frame is not None:
            by_topic = tuple(p for p, wanted in zip(others, shown, strict=True) if wanted in (b"", carried))
            self._on_loop(self._announce, by_topic, frame, gossip)

    def _announcement(self, message: BidRequest, cause_id: str, grant: bytes) -> tuple[bytes | None, bytes]:
        """The frame for the topic, and the grant it carries: none if it would be too long with it."""
        try:
            return self._seal(message, cause_id, topic=self._topic, auth=grant), grant
        except UserError:
            return self._sealed(message, cause_id, topic=self._topic), b""

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """See `Post.learn`."""
        if addresses and peer != self._me and self._addresses.get(peer) != tuple(addresses):
            self._on_loop(self._learn, peer, tuple(addresses))

    def learn_anchors(self, peer: PeerId, anchors: Sequence[PeerId]) -> None:
        """See `Post.learn_anchors`."""
        self._wallet.note(peer, anchors)

    def learn_revocations(self, revocations: Sequence[Revocation]) -> None:
        """See `Post.learn_revocations`."""
        self._wallet.hear(revocations)

    def dial(self, peer: PeerId, addresses: Sequence[str], giver: PeerId) -> None:
        """See `Post.dial`."""
        if addresses:
            self._on_loop(self._dial, peer, tuple(addresses), giver)

    def drop(self, peer: PeerId, why: str) -> None:
        """See `Post.drop`."""
        log.info("dropping peer %s: %s", peer, why)
        self._on_loop(self._network.ban, peer, self._forgive_s)

    def spare(self, peer: PeerId, until: int) -> None:
        """See `Post.spare`."""
        self._on_loop(self._network.spare, peer, max(0.0, (until - self._clock()) / SECOND))

    def inherit(self, old: PeerId, new: PeerId) -> None:
        """See `Post.inherit`."""
        self._on_loop(self._network.inherit_ban, old, new)

    def check_fits(self, request: BidRequest) -> None:
        """Refuses a bid request that would not fit into a gossip frame.

        Raises:
            UserError: `bad_argument`.
        """
        now = self._clock()
        seal(self._signer, request, id=_new_id(), sent=now, ttl_ms=GOSSIP_TTL_MS, topic=self._topic)

    def _seal(self, message: AnyMessage, cause: str, *, to: str = "", topic: str = "", auth: bytes = b"") -> bytes:
        ttl, sent = GOSSIP_TTL_MS if topic else DIRECT_TTL_MS, self._clock()
        return seal(
            self._signer, message, id=_new_id(), sent=sent, ttl_ms=ttl, to=to, topic=topic, cause=cause, auth=auth
        )

    def _sealed(
        self, message: AnyMessage, cause_id: str, *, to: str = "", topic: str = "", auth: bytes = b""
    ) -> bytes | None:
        try:
            return self._seal(message, cause_id, to=to, topic=topic, auth=auth)
        except DmsError as error:  # too long for a frame, or it breaks a bound every receiver checks
            log.error("a %s could not be sent: %s", type(message).__name__, error)
            return None

    def _on_loop(self, call: Callable[..., object], *arguments: object) -> None:
        if not self._calls.call(call, *arguments):  # the loop has been closed: the node is stopping
            self.dropped += 1

    # ---------------------------------------------------------------------------------------------------------- on the loop

    def addresses_of(self, peer: PeerId) -> tuple[str, ...]:
        """Where a peer has said that it can be dialled; empty: it has not."""
        return self._addresses.get(peer, ())

    def peer_up(self, peer: PeerId) -> None:
        """Sends what waited for a peer."""
        for frame in self._waiting.take(peer, self._clock()):
            self._network.send(peer, frame)

    def send_now(self, peer: PeerId, message: AnyMessage, cause_id: str = "") -> bool:
        """As `send`, from the loop, for bulk such as logs: False when it could not be queued, so that the caller can slow down."""
        if peer == self._me:
            self._to_self(Delivered(message, cause_id))
            return True
        frame = self._sealed(message, cause_id, to=peer)
        return frame is not None and self._network.send(peer, frame)

    def _send(self, peer: PeerId, frame: bytes) -> None:
        if self._network.send(peer, frame):
            return
        if peer in self._network.links():
            self.dropped += 1  # its queue is full; what matters is repeated
            return
        addresses, now = self._addresses.get(peer), self._clock()
        if addresses and self._waiting.keep(peer, frame, now, now + DIRECT_TTL_MS):
            self._dial(peer, addresses, peer)
        else:
            self.dropped += 1

    def _announce(self, peers: tuple[PeerId, ...], frame: bytes, gossip: bool) -> None:
        for peer in peers:
            self._network.send(peer, frame)
        if gossip:
            self._network.publish(self._topic, frame)

    def _learn(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        self._reaching.least_of(peer)  # remembered, for when it is not connected any more
        if len(self._addresses) >= LEARNED and peer not in self._addresses:
            del self._addresses[next(iter(self._addresses))]
        self._addresses[peer] = addresses

    def _dial(self, peer: PeerId, addresses: tuple[str, ...], giver: PeerId) -> None:
        if peer not in self._dials and peer not in self._network.links():
            task = self._loop.create_task(self._try_dial(peer, addresses, giver), name=f"dial {peer}")
            self._dials[peer] = task
            task.add_done_callback(lambda _task: self._dials.pop(peer, None))

    async def _try_dial(self, peer: PeerId, addresses: tuple[str, ...], giver: PeerId) -> None:
        try:
            await self._reaching.dial(peer, addresses, giver)
        except DmsError as error:
            log.debug("dial %s: %s", peer, error)
            self.dropped += len(self._waiting.take(peer, self._clock()))

    async def close(self) -> None:
        """Gives up dials under way."""
        await cancel(self._dials.values())


def _new_id() -> MessageId:
    return MessageId(os.urandom(16))


def _rights_for(message: AnyMessage) -> Sequence[str]:
    """What a grant should allow that is shown with a message: where it is one of the market, all that a job takes."""
    kind = KINDS[type(message)]
    return MARKET if kind in MARKET else (kind,)
