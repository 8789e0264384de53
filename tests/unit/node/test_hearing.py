"""What the network says reaches the node actor, also one that was built anew and has forgotten it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from dms.net.config import NetConfig
from dms.net.pipe import cost
from dms.node.hearing import Hearing
from dms.node.reaching import Reaching
from dms_actors.behaviour import Address
from dms_actors.mailbox import CAPACITY
from dms_actors.ports import FrameReceived, GossipReceived, LinkFacts, NetworkEvent, NetworkUp, PeerUp
from dms_actors.runtime import ThreadRuntime
from dms_actors.testing.network import MemoryFabric, MemoryNetwork
from dms_proto.ids import PeerId


class Ear:
    """Stands for the node actor, and for the post."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def tell(self, event: object) -> None:
        self.heard.append(event)

    def peer_up(self, peer: PeerId) -> None:
        """What waited for it would be sent."""


async def test_a_node_actor_that_was_built_anew_hears_where_each_peer_comes_from() -> None:
    """It forgot their sources, and for it all of them came from one place."""
    network = MemoryFabric().network(PeerId("me"))
    network._links[PeerId("a")] = LinkFacts(PeerId("a"), ("/memory/a/p2p/a",), remote="20.0.0.1")
    hearing, ear = Hearing(network, Reaching(PeerId("me"), network), {}), Ear()
    hearing.listen(ear, ear)  # type: ignore[arg-type]
    hearing.hear(NetworkUp(()))
    ear.heard.clear()

    hearing.introduce()

    assert ear.heard == [NetworkUp(()), PeerUp(PeerId("a"), ("/memory/a/p2p/a",), remote="20.0.0.1")]


class Told(MemoryNetwork):
    """A network that remembers what it was told of."""

    def __init__(self) -> None:
        super().__init__(MemoryFabric(), PeerId("me"), "topic")
        self.told: list[NetworkEvent] = []
        self.changed = asyncio.Event()
        self.threads = set[str]()
        self.loop = asyncio.get_running_loop()

    def took(self, heard: FrameReceived | GossipReceived) -> None:
        self.told.append(heard)
        self.threads.add(threading.current_thread().name)
        self.loop.call_soon_threadsafe(self.changed.set)

    async def until(self, expected: Sequence[NetworkEvent]) -> None:
        async with asyncio.timeout(10):
            while sorted(map(str, self.told)) != sorted(map(str, expected)):
                self.changed.clear()
                await self.changed.wait()


class Held:
    """An actor that deals with nothing until it may, and fails at one frame."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.begun = threading.Event()

    def start(self, me: Address, *, is_new: bool) -> None:
        """Nothing to do."""

    def receive(self, batch: Sequence[object], now: int) -> Sequence[object]:
        if batch:
            self.begun.set()
            self.may.wait(10)
        if any(isinstance(heard, FrameReceived) and heard.frame == b"bad" for heard in batch):
            raise ValueError("as told")
        return [None] * len(batch)

    def deadline(self) -> int | None:
        return None

    def stop(self) -> None:
        """Nothing to let go of."""


async def test_the_network_is_told_when_a_frame_is_dealt_with_whatever_came_of_it() -> None:
    """Not before: what waits in the mailbox counts. Refused by a full mailbox, handled, failed at, or left behind by an actor that has ended."""
    network, held = Told(), Held()
    hearing = Hearing(network, Reaching(PeerId("me"), network), {})
    runtime = ThreadRuntime(lambda: 0)
    node = runtime.spawn("node", lambda: held, is_new=True, capacity=2)
    hearing.listen(node, Ear())  # type: ignore[arg-type]
    peer = PeerId("a")
    first, bad, gossip, refused = (
        FrameReceived(peer, b"first"),
        FrameReceived(peer, b"bad"),
        GossipReceived("topic", peer, b"news"),
        FrameReceived(peer, b"one too many"),
    )
    try:
        hearing.hear(first)
        assert await asyncio.to_thread(held.begun.wait, 10)
        for event in (bad, gossip, refused):
            hearing.hear(event)
        await network.until([refused])
        network.threads.clear()
        held.may.set()
        await network.until([refused, first, bad, gossip])
        assert network.threads == {"actors"}, "the loop is not woken for it"
    finally:
        held.may.set()
        await asyncio.to_thread(runtime.stop_all)
    after = FrameReceived(peer, b"after its end")
    hearing.hear(after)
    await network.until([refused, first, bad, gossip, after])


def test_frames_of_peers_leave_room_in_the_mailbox_of_the_node() -> None:
    """However short they are: what the owner and the node's own actors say is not refused because of them."""
    assert NetConfig(private_key=bytes(32)).pipe_window // cost(b"") < CAPACITY * 0.9
