"""The in-memory twin of `dms.net`: several `MemoryNetwork`s joined by one `MemoryFabric`, on one asyncio loop.

Frames between two peers keep their order; delivery is a loop callback, so nothing is delivered inside `send`. Gossip reaches every network
that listens and is reachable. `cut` and `heal` make and unmake a broken link.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dms_actors.ports import (
    AcceptTunnel,
    FrameReceived,
    GossipReceived,
    LinkFacts,
    NetworkEvent,
    PeerDown,
    PeerUp,
    Tunnel,
)
from dms_actors.splice import Splice
from dms_proto.errors import DmsError, PeerError, UserError
from dms_proto.ids import Digest, PeerId, digest_of
from dms_proto.scope import Scope
from dms_proto.tunnels import check_length, refused

BlobOpener = Callable[[PeerId, Digest], Path | None]
MAX_FRAME = 256 * 1024
MAX_GOSSIP = 4 * 1024


class MemoryFabric:
    """What connects the networks.

    Attributes:
        drops: asked for each frame with sender and receiver; True: it vanishes on its way, and nobody is told.
        silent: peers of which no content ever comes, though it was asked for.
    """

    def __init__(self) -> None:
        self.networks: dict[PeerId, MemoryNetwork] = {}
        self.cuts: set[frozenset[PeerId]] = set()
        self.drops: Callable[[PeerId, PeerId, bytes], bool] = lambda _sender, _receiver, _frame: False
        self.silent: set[PeerId] = set()

    def network(self, peer: PeerId, topic: str = "public") -> MemoryNetwork:
        """A network for `peer`, not yet started."""
        return MemoryNetwork(self, peer, topic)

    def reachable(self, one: PeerId, other: PeerId) -> MemoryNetwork | None:
        """The other's network, if it listens and the link is whole."""
        network = self.networks.get(other)
        return None if network is None or frozenset((one, other)) in self.cuts else network

    def cut(self, one: PeerId, other: PeerId) -> None:
        """Breaks the link; both sides see it go down."""
        self.cuts.add(frozenset((one, other)))
        for here, there in ((one, other), (other, one)):
            network = self.networks.get(here)
            if network is not None:
                network.lose(there, "lost")

    def heal(self, one: PeerId, other: PeerId) -> None:
        """The link can be dialled again."""
        self.cuts.discard(frozenset((one, other)))


class MemoryNetwork:
    """One node's network, in memory.

    Attributes:
        spared: peers that would be asked for no proof of work.
    """

    def __init__(self, fabric: MemoryFabric, peer: PeerId, topic: str) -> None:
        self._fabric = fabric
        self._peer = peer
        self._topic = topic
        self._listener: Callable[[NetworkEvent], None] = lambda _event: None
        self._open_blob: BlobOpener = lambda _peer, _digest: None
        self._links: dict[PeerId, LinkFacts] = {}
        self._banned: set[PeerId] = set()
        self.spared: set[PeerId] = set()
        self._accept: AcceptTunnel = _refuse_all
        self._tunnels: set[tuple[PeerId, Splice]] = set()

    async def start(self, listener: Callable[[NetworkEvent], None]) -> tuple[str, ...]:
        """See `Network.start`."""
        self._listener = listener
        self._fabric.networks[self._peer] = self
        return (self._address(),)

    def send(self, peer: PeerId, frame: bytes) -> bool:
        """See `Network.send`."""
        other = self._fabric.reachable(self._peer, peer)
        if other is None or peer not in self._links or len(frame) > MAX_FRAME:
            return False
        if not self._fabric.drops(self._peer, peer, frame):
            other.tell(FrameReceived(self._peer, bytes(frame)))
        return True

    def publish(self, topic: str, frame: bytes) -> bool:
        """See `Network.publish`."""
        if topic != self._topic or self._peer not in self._fabric.networks or len(frame) > MAX_GOSSIP:
            return False
        for peer, other in self._fabric.networks.items():
            joined = peer != self._peer and other._topic == topic and self._fabric.reachable(self._peer, peer)
            if joined and not self._fabric.drops(self._peer, peer, frame):
                other.tell(GossipReceived(topic, self._peer, bytes(frame)))
        return True

    async def dial(self, addresses: Sequence[str], least: Scope = Scope.MACHINE) -> PeerId:
        """See `Network.dial`. Addresses have no scope in memory."""
        tried = []
        for address in addresses:
            peer = PeerId(address.rpartition("/p2p/")[2])
            other = self._fabric.reachable(self._peer, peer)
            if other is not None and peer not in self._banned and self._peer not in other._banned:
                self.link(peer)
                other.link(self._peer, inbound=True)
                return peer
            tried.append(f"{address}: nobody there")
        raise PeerError("peer_unreachable", "; ".join(tried) or "no address given")

    def serve_blobs(self, open_blob: BlobOpener) -> None:
        """See `Network.serve_blobs`."""
        self._open_blob = open_blob

    async def fetch(
        self,
        holders: Sequence[PeerId],
        digest: Digest,
        size: int,
        into: Path,
        chunks: Path | None = None,
        *,
        came: Counter[PeerId] | None = None,
    ) -> tuple[PeerId, ...]:
        """See `Network.fetch`. One holder after the other is asked for all of it."""
        wrong: list[PeerId] = []
        failed = PeerError("peer_unreachable", "nobody was named who holds it")
        del chunks
        for peer in holders:
            try:
                await self._fetch(peer, digest, size, into)
            except PeerError as error:
                failed = error
                wrong += [peer] if error.code == "digest_mismatch" else []
            else:
                if came is not None:
                    came[peer] += size
                return tuple(wrong)
        raise failed

    async def _fetch(self, peer: PeerId, digest: Digest, size: int, into: Path) -> None:
        other = self._fabric.reachable(self._peer, peer)
        if other is None or peer not in self._links:
            raise PeerError("peer_unreachable", f"{peer} is not connected")
        if peer in self._fabric.silent:
            await asyncio.Event().wait()
        source = other._open_blob(self._peer, digest)
        if source is None:
            raise PeerError("peer_unreachable", f"{peer} refused {digest}", retryable=False)
        partial = into.with_name(into.name + ".part")
        partial.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(shutil.copyfile, source, partial)
        data = partial.read_bytes()
        if digest_of(data) != digest or len(data) != size:
            partial.unlink()
            raise PeerError("digest_mismatch", f"{peer} sent something else than {digest}", retryable=False)
        partial.replace(into)

    def took(self, heard: FrameReceived | GossipReceived) -> None:
        """See `Network.took`. Here nobody waits for it: a frame is with its listener as soon as it is sent."""

    def serve_tunnels(self, accept: AcceptTunnel) -> None:
        """See `Network.serve_tunnels`."""
        self._accept = accept

    async def open_tunnel(self, peer: PeerId, opening: bytes) -> Tunnel:
        """See `Network.open_tunnel`."""
        check_length(opening)
        other = self._fabric.reachable(self._peer, peer)
        if other is None or peer not in self._links:
            raise PeerError("peer_unreachable", f"not connected to {peer}")
        try:
            tunnel = Splice(await other._accept(self._peer, opening))
        except DmsError as error:
            raise refused(error.code, error.message) from None
        self._tunnels = {known for known in self._tunnels if not known[1].is_over} | {(peer, tunnel)}
        return tunnel

    def links(self) -> Mapping[PeerId, LinkFacts]:
        """See `Network.links`."""
        return dict(self._links)

    def ban(self, peer: PeerId, seconds: float) -> None:
        """See `Network.ban`."""
        if seconds <= 0:
            self._banned.discard(peer)
            return
        self._banned.add(peer)
        self.lose(peer, "banned")
        other = self._fabric.networks.get(peer)
        if other is not None:
            other.lose(self._peer, "closed")

    def inherit_ban(self, old: PeerId, new: PeerId) -> None:
        """See `Network.inherit_ban`."""
        if old in self._banned:
            self.ban(new, 1)  # in memory a ban has no end of its own

    def spare(self, peer: PeerId, seconds: float) -> None:
        """See `Network.spare`. Nobody is asked for any here, so it is only noted."""
        self.spared.discard(peer)
        if seconds > 0:
            self.spared.add(peer)

    async def stop(self) -> None:
        """See `Network.stop`."""
        if self._fabric.networks.pop(self._peer, None) is None:
            return
        for peer in tuple(self._links):
            self.lose(peer, "closed")
            other = self._fabric.networks.get(peer)
            if other is not None:
                other.lose(self._peer, "closed")

    # ------------------------------------------------------------------------------------------------- for the fabric

    def tell(self, event: NetworkEvent) -> None:
        """Delivers an event with the loop's next step."""
        asyncio.get_running_loop().call_soon(self._listener, event)

    def link(self, peer: PeerId, *, inbound: bool = False) -> None:
        """A connection is open."""
        if peer not in self._links:
            address = f"/memory/{peer}/p2p/{peer}"
            self._links[peer] = LinkFacts(peer, (address,), rtt_us=100, inbound=inbound)
            self.tell(PeerUp(peer, (address,)))

    def lose(self, peer: PeerId, reason: str) -> None:
        """A connection is gone."""
        if self._links.pop(peer, None) is not None:
            self.tell(PeerDown(peer, reason))
        for network, at in ((self, peer), (self._fabric.networks.get(peer), self._peer)):
            for led_to, tunnel in network._tunnels if network is not None else ():
                if led_to == at:
                    tunnel.cut(f"the connection with the peer ended: {reason}")

    def _address(self) -> str:
        return f"/memory/{self._peer}/p2p/{self._peer}"


async def _refuse_all(_peer: PeerId, _opening: bytes) -> socket.socket:
    raise UserError("not_found", "this node gives no tunnels")
