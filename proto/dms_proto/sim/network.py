"""The simulated network: connections between nodes, and what the weather does to messages on them.

As over libp2p, a message needs a connection, and one connection keeps the order of its messages unless the weather disturbs it. A gossiped
message is forwarded by every node that sees it first, to `MESH` of the peers it is connected to. Each delivery counts, forwarding included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from dms_proto.ids import PeerId
from dms_proto.messages import AnyMessage, BidRequest, Hello, Message
from dms_proto.sim.clock import Clock
from dms_proto.sim.plan import Weather

if TYPE_CHECKING:
    from dms_proto.sim.node import SimNode

MESH: Final = 6
"""Peers to which a gossiped message is forwarded: the mesh degree of GossipSub."""
GOSSIP_MEMORY_MS: Final = 60_000
NOTICE_MS: Final = (20, 3_000)
"""How long it takes until both sides notice that the way between them is gone."""

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(AnyMessage).decode
_Pair = tuple[PeerId, PeerId]


class SimNetwork:
    """All connections and everything under way on them."""

    def __init__(self, clock: Clock, rng: Random, weather: Weather, *, wire: bool) -> None:
        self.nodes: dict[PeerId, SimNode] = {}
        self.links: dict[PeerId, dict[PeerId, int]] = {}
        self.delivered: Counter[str] = Counter()
        self.dropped = 0
        self._clock = clock
        self._rng = rng
        self._weather = weather
        self._wire = wire
        self._rough = bool(weather.loss or weather.duplication or weather.reordering)
        self._epoch = 0
        self._delays: dict[_Pair, int] = {}
        self._arrivals: dict[_Pair, int] = {}
        self._sides: list[frozenset[PeerId]] = []
        self._down: set[PeerId] = set()
        self._waiting: dict[_Pair, list[Message]] = {}
        self._gossip: dict[tuple[str, int], set[PeerId]] = {}
        self._meshes: dict[PeerId, tuple[PeerId, ...]] = {}

    def add(self, node: SimNode) -> None:
        """A node that may be reached once it is up."""
        self.nodes[node.peer] = node
        self.links[node.peer] = {}

    # ----------------------------------------------------------------------------------------------------------- sending

    def send(self, sender: SimNode, to: PeerId, message: Message) -> None:
        """Sends on the connection to `to`; without one it is opened if there is a way."""
        if to == sender.peer:
            self._clock.after(0, self._deliver, sender.peer, to, message, sender.life)
            return
        epoch = self.links[sender.peer].get(to)
        if epoch is None:
            self._open_and_send(sender, to, message)
            return
        self._send(sender.peer, to, message, epoch)

    def gossip(self, author: SimNode, request: BidRequest) -> None:
        """Publishes on the topic."""
        key = (request.request_id, request.round)
        if key not in self._gossip:
            self._gossip[key] = {author.peer}
            self._clock.after(GOSSIP_MEMORY_MS, self._forget_gossip, key)
        self._forward(author.peer, author.peer, request, author.peer)

    def _open_and_send(self, sender: SimNode, to: PeerId, message: Message) -> None:
        pair = (sender.peer, to)
        if pair in self._waiting:
            self._waiting[pair].append(message)
        elif self._is_reachable(*pair):
            self._waiting[pair] = [message]
            self._clock.after(2 * self._delay(pair), self._opened, pair)
        else:
            self.dropped += 1

    def _opened(self, pair: _Pair) -> None:
        messages = self._waiting.pop(pair)
        self._connect(*pair)
        sender = self.nodes[pair[0]]
        if sender.up and pair[1] in self.links[pair[0]]:
            for message in messages:
                self.send(sender, pair[1], message)

    def _send(self, sender: PeerId, to: PeerId, message: Message, epoch: int) -> None:
        pair = (sender, to)
        rough = self._rough and self._clock.now < self._weather.until and not isinstance(message, Hello)
        if rough and self._rng.random() < self._weather.loss:
            self.dropped += 1
            return
        arrival = self._clock.now + self._delay(pair) + self._rng.randint(0, self._weather.jitter_ms)
        if rough and self._rng.random() < self._weather.reordering:
            arrival += self._rng.randint(0, 400)
        else:
            arrival = self._arrivals[pair] = max(arrival, self._arrivals.get(pair, 0))
        self._clock.at(arrival, self._deliver, sender, to, message, epoch)
        if rough and self._rng.random() < self._weather.duplication:
            again = arrival + self._rng.choice((0, 1, 50, 700, 5_000))
            self._clock.at(again, self._deliver, sender, to, message, epoch)

    def _deliver(self, sender: PeerId, to: PeerId, message: Message, epoch: int) -> None:
        node = self.nodes[to]
        alive = node.life == epoch if sender == to else self.links[sender].get(to) == epoch
        if not alive or self.is_cut(sender, to):
            self.dropped += 1
            return
        self.delivered[type(message).__name__] += sender != to
        node.receive(sender, self._over_the_wire(message))

    def _over_the_wire(self, message: Message) -> Message:
        return _DECODE(_ENCODE(message)) if self._wire else message

    def _forward(self, via: PeerId, origin: PeerId, request: BidRequest, author: PeerId) -> None:
        links = self.links[via]
        for to in self._mesh(via, links):
            if to in links and to not in (origin, author):
                arrival = self._clock.now + self._delay((via, to)) + self._rng.randint(0, self._weather.jitter_ms)
                if not (self._rough and self._rng.random() < self._weather.loss):
                    self._clock.at(arrival, self._overhear, via, to, request, author, links[to])

    def _mesh(self, peer: PeerId, links: dict[PeerId, int]) -> Iterable[PeerId]:
        mesh = self._meshes.get(peer)
        if mesh is None:
            mesh = self._meshes[peer] = tuple(sorted(links, key=lambda to: _mesh_rank(peer, to))[:MESH])
        return mesh

    def _mesh_changed(self, *peers: PeerId) -> None:
        for peer in peers:
            self._meshes.pop(peer, None)

    def _overhear(self, via: PeerId, to: PeerId, request: BidRequest, author: PeerId, epoch: int) -> None:
        if self.links[via].get(to) != epoch or self.is_cut(via, to):
            return
        self.delivered["BidRequest (gossip)"] += 1
        seen = self._gossip.get((request.request_id, request.round))
        if seen is None or to in seen:
            return
        seen.add(to)
        node = self.nodes[to]
        if node.up:
            node.overhear(author, request)
            self._forward(to, via, request, author)

    def _forget_gossip(self, key: tuple[str, int]) -> None:
        del self._gossip[key]

    def _delay(self, pair: _Pair) -> int:
        delay = self._delays.get(pair)
        if delay is None:
            delay = self._rng.randint(*self._weather.delay_ms)
            self._delays[pair] = self._delays[pair[1], pair[0]] = delay
        return delay

    # ------------------------------------------------------------------------------------------------------- connections

    def dial(self, node: SimNode, to: PeerId) -> None:
        """Tries to connect; if there is no way, nothing happens."""
        pair = (node.peer, to)
        if to in self.nodes and to != node.peer and to not in self.links[node.peer]:
            self._clock.after(2 * self._delay(pair), self._connect, *pair)

    def drop(self, node: SimNode, to: PeerId) -> None:
        """Closes the connection."""
        self._disconnect(node.peer, to, "closed", "closed")

    def is_cut(self, a: PeerId, b: PeerId) -> bool:
        """Whether nothing passes between two nodes now."""
        if not (self._down or self._sides) or a == b:
            return False
        if a in self._down or b in self._down:
            return True
        return any((a in side) != (b in side) for side in self._sides)

    def _is_reachable(self, a: PeerId, b: PeerId) -> bool:
        return b in self.nodes and self.nodes[a].up and self.nodes[b].up and not self.is_cut(a, b)

    def _connect(self, a: PeerId, b: PeerId) -> None:
        if b in self.links[a] or not self._is_reachable(a, b):
            return
        self._epoch += 1
        self.links[a][b] = self.links[b][a] = self._epoch
        self._mesh_changed(a, b)
        one, other = self.nodes[a], self.nodes[b]
        one.connected(b, f"/sim/{other.index}")
        if other.up:
            other.connected(a, f"/sim/{one.index}")

    def _disconnect(self, a: PeerId, b: PeerId, to_a: str, to_b: str) -> None:
        if self.links[a].pop(b, None) is None:
            return
        self.links[b].pop(a, None)
        self._mesh_changed(a, b)
        self.nodes[a].disconnected(b, to_a)
        self.nodes[b].disconnected(a, to_b)

    # ------------------------------------------------------------------------------------------------------------ faults

    def node_died(self, peer: PeerId) -> None:
        """Its connections are reset; the other sides notice soon."""
        for other in list(self.links[peer]):
            epoch = self.links[peer].pop(other)
            self._mesh_changed(peer, other)
            self._clock.after(self._rng.randint(1, 30), self._notice_death, other, peer, epoch)

    def _notice_death(self, other: PeerId, dead: PeerId, epoch: int) -> None:
        if self.links[other].get(dead) == epoch:
            del self.links[other][dead]
            self._mesh_changed(dead, other)
            self.nodes[other].disconnected(dead, "lost")

    def part(self, side: frozenset[PeerId]) -> None:
        """Nothing passes between `side` and the others any more. Both sides notice after a while."""
        self._sides.append(side)
        for a in sorted(side):
            for b in list(self.links[a]):
                if b not in side:
                    self._clock.after(self._rng.randint(*NOTICE_MS), self._notice_cut, a, b, self.links[a][b])

    def _notice_cut(self, a: PeerId, b: PeerId, epoch: int) -> None:
        if self.links[a].get(b) == epoch and self.is_cut(a, b):
            self._disconnect(a, b, "lost", "lost")

    def heal(self, side: frozenset[PeerId]) -> None:
        """The way is open again; whoever is missed is dialled by its peers."""
        self._sides.remove(side)

    def fail(self, peer: PeerId) -> None:
        """A node's own network process died."""
        self._down.add(peer)
        for other in list(self.links[peer]):
            self._disconnect(peer, other, "network_down", "lost")

    def recover(self, peer: PeerId) -> None:
        """It is back."""
        self._down.discard(peer)


def _mesh_rank(peer: PeerId, to: PeerId) -> int:
    """A stable order of a node's peers, different for each node."""
    return sum(map(int.__mul__, peer[-6:].encode(), to[-6:].encode())) % 257
