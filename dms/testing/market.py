"""A small market in one process: real nodes (actors, SQLite stores, blob stores) on an in-memory network, with scripted or real executors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from dms.config import Config, Home, Identity
from dms.config.identity import create
from dms.executors.scripted import ScriptedExecutor
from dms.node.app import ASK_TIMEOUT, NodeApp, unix_ms
from dms.node.assembly import Probed
from dms.node.services import Services
from dms_actors.letters import ShowState, Submit, Told
from dms_actors.ports import Executor
from dms_actors.runtime import ask_from_loop
from dms_actors.testing.network import MemoryFabric
from dms_proto.capability import Capability, ExecutorOffer, Isolation, Price, Resources
from dms_proto.ids import PeerId, RequestId, request_id
from dms_proto.market.auction_state import Auction, AuctionPhase
from dms_proto.market.auction_terms import Terms
from dms_proto.market.offer_state import CapabilityMeasured, PolicyWished
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.units import GIB, MIB, MINUTE
from dms_proto.work import Limits, Task

DEADLINE = 10.0
"""Seconds a test waits for a condition that should come within milliseconds."""
SHOWN = 4_000
"""Characters of what was seen last that are shown when it was not enough."""
CAPABILITY = Capability(
    resources=Resources(cpu_millicores=4000, memory_bytes=8 * GIB, disk_bytes=50 * GIB),
    architecture="x86_64",
    cpu_score=1000,
    executors=(ExecutorOffer("scripted", "1", Isolation.NAMESPACES, ("cpu", "memory", "wall")),),
)
CONFIG = Config(market=msgspec.structs.replace(Config().market, bid_validity_ms=2_000))
"""A bid that got lost on its way holds capacity until it expires: not for long, here."""
TARIFF = Price(start=100, cpu_core_hour=20_000, memory_gib_hour=1_000)


class Market:
    """Nodes that know each other. ``async with Market(tmp_path, 3) as market``.

    Args:
        root: where the homes are.
        count: how many nodes.
        build: options of each node, by index: `capability`, `config`, `policy`, `executors`, `clock`.

    Attributes:
        executors: by index: they stand for the machine, and outlive the node as programs do.
    """

    def __init__(self, root: Path, count: int, *, build: Callable[[int], dict[str, Any]] | None = None) -> None:
        self.fabric = MemoryFabric()
        self.nodes: list[NodeApp] = []
        self.executors: dict[int, dict[str, tuple[Executor, ExecutorOffer]]] = {}
        self._root = root
        self._count = count
        self._options = build or (lambda _index: {})
        self._numbers = iter(range(1, 1_000_000))

    async def __aenter__(self) -> Self:
        try:
            for index in range(self._count):
                await self.start(index)
            for node in self.nodes[1:]:
                await self.connect(node, self.nodes[0])
            for node in self.nodes:
                await self.until_met(node, self._count - 1)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in reversed(self.nodes):
            await node.stop()
        if error is None:
            left_out = [mishap for node in self.nodes if (mishap := node.services.mishaps.last) is not None]
            assert not left_out, f"nothing may raise in an actor, whatever is told it: {left_out}"

    async def start(self, index: int) -> NodeApp:
        """Starts node `index` on its home; a home that was used before is continued."""
        home = Home(self._root / f"node{index}")
        home.prepare()
        identity = create(home) if not home.exists() else _load(home)
        options = self._options(index)
        offer = options.get("capability", CAPABILITY)
        if index not in self.executors:
            self.executors[index] = options.get("executors") or scripted()
        executors = self.executors[index]
        config = options.get("config", CONFIG)
        node = await NodeApp.start(
            home=home,
            config=config,
            identity=identity,
            network=self.fabric.network(identity.node_id.peer_id, config.network.topic),
            probe=lambda: _probed(executors),
            clock=options.get("clock", unix_ms),
        )
        policy = options.get("policy", ProviderPolicy(tariff=TARIFF))
        node.services.node.tell(Told(PolicyWished(policy), "test"))
        node.services.node.tell(Told(CapabilityMeasured(offer), "test"))
        if index < len(self.nodes):
            self.nodes[index] = node
        else:
            self.nodes.append(node)
        return node

    async def crash(self, index: int, *, lose_runs: bool = False) -> None:
        """Ends node `index` without a word to anybody; programs go on, or (`lose_runs`) die with it. `start` starts it again.

        The nearest to kill -9 that one process can do to a part of itself: the network is gone first, so nothing of the end is heard.
        """
        await self.nodes[index].services.network.stop()
        await self.nodes[index].abandon()
        if lose_runs:
            self.executors[index] = scripted()

    async def rejoin(self, index: int) -> NodeApp:
        """Starts node `index` again and connects it to the others that are up."""
        node = await self.start(index)
        for other in self.nodes:
            if other is not node and peer_of(other) in self.fabric.networks:
                await self.connect(node, other)
        return node

    async def drained(self) -> None:
        """Waits until nothing is locked or reserved anywhere; the capacity law holds."""
        for node in self.nodes:
            state = await until(node.state, lambda s: not s.book.ledger.locks and not s.book.ledger.reservations)
            state.book.ledger.check()
            assert state.book.ledger.available == state.book.ledger.registered

    def node_of(self, peer: PeerId) -> NodeApp:
        """The node with this peer id."""
        return next(node for node in self.nodes if peer_of(node) == peer)

    async def connect(self, one: NodeApp, other: NodeApp) -> None:
        """Has `one` dial `other`."""
        peer = other.services.identity.node_id.peer_id
        await one.services.network.dial((f"/memory/{peer}/p2p/{peer}",))

    async def until_met(self, node: NodeApp, count: int) -> None:
        """Waits until a node has greeted `count` others; peer exchange does it."""
        await until(lambda: _greeted(node), lambda greeted: greeted >= count)

    def terms(self, *command: str, **changes: Any) -> Terms:
        """Terms for a scripted task; `changes` are fields of `Terms`."""
        resources = changes.pop("resources", Resources(cpu_millicores=1000, memory_bytes=256 * MIB))
        task = Task("scripted", command, resources=resources, limits=Limits(wall_ms=MINUTE))
        needs = Capability(resources=resources, executors=(ExecutorOffer("scripted"),), max_wall_ms=task.limits.wall_ms)
        number = next(self._numbers)
        requester = self.nodes[0].services.identity.node_id.peer_id
        base = Terms(
            request_id=request_id(number.to_bytes(16, "big")),
            requester=requester,
            task=task,
            needs=needs,
            max_price=10_000_000,
        )
        return msgspec.structs.replace(base, **changes)


def scripted() -> dict[str, tuple[Executor, ExecutorOffer]]:
    """A machine that plays scripts, nothing running yet."""
    return {"scripted": (ScriptedExecutor(), CAPABILITY.executors[0])}


async def _probed(executors: dict[str, tuple[Executor, ExecutorOffer]]) -> Probed:
    return Probed(executors)


async def submit(services: Services, terms: Terms) -> RequestId:
    """Submits a request at a node; returns when it is written down."""
    answer: RequestId = await ask_from_loop(services.node, Submit(terms, "test"), ASK_TIMEOUT)
    return answer


async def auction_of(services: Services, request: RequestId) -> Auction | None:
    """The live state of a request, or None when its actor has ended."""
    address = services.orchestrators.get(request)
    if address is None:
        return None
    state: Auction = await ask_from_loop(address, ShowState(), ASK_TIMEOUT)
    return state


async def until_over(services: Services, request: RequestId, seconds: float = DEADLINE) -> Auction:
    """Waits for a request's end and returns its last state, from the log."""
    await until(lambda: _ended(services, request), bool, seconds)
    return await stored_auction(services, request)


async def stored_auction(services: Services, request: RequestId) -> Auction:
    """A request's state as the log tells it."""
    from dms_actors.events import from_row  # noqa: PLC0415 - tests only
    from dms_proto.market.auction_fold import evolve  # noqa: PLC0415 - tests only

    state = Auction()
    for row in await services.store.read_stream(request):
        state = evolve(state, from_row(row))
    return state


async def until(look: Callable[[], Any], is_enough: Callable[[Any], bool], seconds: float = DEADLINE) -> Any:
    """Looks (plain or async) until it is enough.

    Raises:
        AssertionError: not within `seconds`; says what was seen last.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        seen = look()
        if asyncio.iscoroutine(seen):
            seen = await seen
        if is_enough(seen):
            return seen
        assert loop.time() < deadline, f"not within {seconds} s; last seen: {seen!r}"[:SHOWN]
        await asyncio.sleep(0.005)


async def _greeted(node: NodeApp) -> int:
    return len((await node.state()).membership.greeted())


async def _ended(services: Services, request: RequestId) -> bool:
    state = await stored_auction(services, request)
    return state.phase is AuctionPhase.ENDED


def _load(home: Home) -> Identity:
    from dms.config.identity import load  # noqa: PLC0415 - tests only

    return load(home)


def peer_of(node: NodeApp) -> PeerId:
    """A node's peer id."""
    return node.services.identity.node_id.peer_id
