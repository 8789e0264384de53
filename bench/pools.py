"""What a pool of warm containers gains and costs: hits of each strategy beside the optimum, decisions, virtual containers, counters.

    python -m bench pools

Hit ratios are of reference strings of containers of one size, so that they can be held against the optimum, which knows the future; the guards (hot,
settled, thrashing) are not in them. Times are CPU time of this process, best of several repetitions.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dms.devnet.network import DevNet, DevNode, environment
from dms.devnet.topology import NodeSpec
from dms.store.events import EventStore
from dms_actors.events import EVENT_KINDS, from_row, to_row
from dms_proto.capability import Resources
from dms_proto.ids import PeerId
from dms_proto.machine import Event, TimeCame, Transient
from dms_proto.pool import machine
from dms_proto.pool.fold import after_restart, evolve
from dms_proto.pool.optimum import optimal, replayed
from dms_proto.pool.records import CallId, ContainerId, Image, Service
from dms_proto.pool.replacement import Strategy
from dms_proto.pool.state import (
    POOL_STREAM,
    Called,
    CallEnded,
    CapacityWished,
    HitsCounted,
    Pool,
    PoolRules,
    PoolSaved,
    RulesWished,
    Started,
)
from dms_proto.sim.traces import TRACES, trace
from dms_proto.units import CORE, GIB
from dms_proto.work import Usage

FRAMES = 20
LENGTH = 20_000
REPETITIONS = 5
CONTAINERS = 32
USERS = 320
CALLS = 2_000
ROOM = {"provider.cpu": "1", "provider.memory": "512MiB", "provider.disk": "2GiB"}
POOL = {"pool.cpu": "500m", "pool.memory": "128MiB", "pool.disk": "64MiB"}
SERVICE = ("python-script", "who")
SERVER = """
import os, socket
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"%d" % os.getpid())
"""


class Ratio(NamedTuple):
    """The share of calls that found their container warm, of a trace."""

    trace: str
    optimum: float
    strategies: dict[Strategy, float]


def hit_ratios() -> Iterator[Ratio]:
    """Every strategy on every trace, beside the optimum."""
    for name in TRACES:
        string = trace(name, LENGTH, seed=1)
        ratios = {strategy: replayed(string, FRAMES, strategy).hit_ratio for strategy in Strategy}
        yield Ratio(name, optimal(string, FRAMES).hit_ratio, ratios)


class Costs(NamedTuple):
    """What decisions cost in a pool of `CONTAINERS` containers that `USERS` users share.

    Attributes:
        virtual_us: a call that makes a virtual container: decided and folded.
        warm_us: a warm call, from its coming to its end: decided, folded, its counters made an event.
        per_second: decisions in a second, in a row of warm calls.
    """

    virtual_us: float
    warm_us: float
    per_second: float


def costs() -> Costs:
    """Measures the machine alone."""
    virtual = best(lambda: _Bench().fill(), REPETITIONS) / USERS
    bench = _Bench()
    bench.fill()
    warm = best(lambda: bench.warm_calls(CALLS), REPETITIONS) / CALLS
    return Costs(1e6 * virtual, 1e6 * warm, 3 / warm)


class Restoring(NamedTuple):
    """From a store that was killed to the state, in seconds: folding all of the stream, and what comes since it was written as one."""

    rows: int
    whole_s: float
    since_s: float


def restoring(rows: int = 50_000) -> Restoring:
    """Writes the counters of many lone calls, all of the state as the rules say, and opens it again."""
    bench = _Bench()
    bench.fill()
    bench.warm_calls(rows)
    log = [to_row(POOL_STREAM, event, "call") for event in bench.log if not isinstance(event, Transient)]

    async def measure(file: Path) -> Restoring:
        store = await EventStore.open(file, relaxed=frozenset(EVENT_KINDS))
        for at in range(0, len(log), 1_000):
            await store.append(log[at : at + 1_000])
        await store.close()
        took = [await _seconds(file, since) for since in ("", PoolSaved.__name__)]
        return Restoring(len(log), *took)

    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(measure(Path(directory) / "events.db"))


async def _seconds(file: Path, since: str) -> float:
    started = time.perf_counter()
    store = await EventStore.open(file)
    events = [from_row(row) for row in await store.read_stream(POOL_STREAM, since=since)]
    _folded(Pool(), events)
    took = time.perf_counter() - started
    await store.close()
    return took


class _Bench:
    """A pool, driven as fast as it goes."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.pool = Pool()
        self.log: list[Event] = []
        self._calls = 0
        self.tell(CapacityWished(Resources(CONTAINERS * CORE, CONTAINERS * GIB)))
        self.tell(RulesWished(PoolRules(ttl_ms=10**9)))
        for number in range(CONTAINERS):
            self.tell(Called(CallId(f"first-{number}"), PeerId("first"), service(number)))
        for container_id in tuple(self.pool.containers):
            self.tell(Started(ContainerId(container_id)))
        for number in range(CONTAINERS):
            self.tell(CallEnded(CallId(f"first-{number}")))
        self.tell(TimeCame())

    def tell(self, stimulus: object) -> None:
        decision = machine.decide(self.pool, stimulus, self.now)  # type: ignore[arg-type]
        for event in decision.events:
            self.pool = evolve(self.pool, event)
        self.log += decision.events

    def fill(self) -> None:
        """The first call of each user: a virtual container, and no process."""
        for user in range(USERS - CONTAINERS):
            self._call(user)

    def warm_calls(self, calls: int) -> None:
        """Calls one by one, each written down by itself."""
        for number in range(calls):
            self._call(number % (USERS - CONTAINERS))

    def _call(self, user: int) -> None:
        self._calls += 1
        self.now += 1
        call_id = CallId(f"call-{self._calls}")
        self.tell(Called(call_id, PeerId(f"user-{user}"), service(user % CONTAINERS)))
        self.tell(CallEnded(call_id, Usage(wall_ms=1)))
        self.tell(TimeCame())


def service(number: int) -> Service:
    return Service(f"service-{number}", Image("python", f"model-{number}", Resources(CORE, GIB)))


def _folded(begun: Pool, log: list[Event]) -> Pool:
    pool = begun
    for event in log:
        pool = evolve(pool, event)
    return after_restart(pool, 0)


class Back(NamedTuple):
    """A whole node that was killed, from its launch on, in seconds: median of several.

    Attributes:
        bare_s: until it answers, without a pool.
        ready_s: until it answers, with a pool.
        served_s: until the container that outlived it has answered a call.
    """

    bare_s: float
    ready_s: float
    served_s: float


def back(kills: int = 3) -> Back:
    """Kills a node without a pool and one whose container is warm, in turn."""
    with tempfile.TemporaryDirectory(prefix="dms-bench-") as root:
        net = DevNet(Path(root), (NodeSpec("bare", "provider", ROOM), NodeSpec("warm", "provider", {**ROOM, **POOL})))
        try:
            net.onboard()
            for name in ("bare", "warm"):
                net[name].launch()
                net[name].wait_ready()
            answer = _offered(net["warm"], Path(root))
            times = [_killed(net["bare"], net["warm"], answer) for _ in range(kills)]
            return Back(*(statistics.median(column) for column in zip(*times, strict=True)))
        finally:
            net.stop()


def _offered(node: DevNode, directory: Path) -> str:
    """Has a node offer `SERVER`, and calls it: what it answers, which tells its process."""
    (directory / "server.py").write_text(SERVER)
    size = ("--cpu", "250m", "--memory", "64MiB", "--disk", "16MiB")
    _dms(node, "service", "install", *SERVICE, "-p", f"script={directory}/server.py", "-p", "port=8080", *size)
    _dms(node, "service", "start", *SERVICE)
    return _dms(node, "service", "call", *SERVICE)


def _killed(bare: DevNode, warm: DevNode, answer: str) -> tuple[float, float, float]:
    bare_s = _relaunched(bare)
    started = time.perf_counter()
    ready_s = _relaunched(warm)
    assert _dms(warm, "service", "call", *SERVICE) == answer, "it is another process"
    return bare_s, ready_s, time.perf_counter() - started


def _relaunched(node: DevNode) -> float:
    node.kill()
    started = time.perf_counter()
    node.launch()
    node.wait_ready()
    return time.perf_counter() - started


def _dms(node: DevNode, *arguments: str) -> str:
    command = [Path(sys.executable).with_name("dms"), *arguments]
    return subprocess.run(
        command, env=environment(node), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout


class Counting(NamedTuple):
    """What writing the counters of one call costs in the real store, one by one, each waited for.

    Attributes:
        first_us: written, not synced: survives ``kill -9``.
        disk_bytes: of the store for each.
    """

    first_us: float
    disk_bytes: float


def counting(calls: int = 2_000) -> Counting:
    """Appends the event that a call comes to, again and again."""
    bench = _Bench()
    bench.fill()
    bench.warm_calls(1)
    row = to_row(POOL_STREAM, next(e for e in reversed(bench.log) if isinstance(e, HitsCounted)), "call")

    async def append(directory: Path) -> Counting:
        file = directory / "events.db"
        store = await EventStore.open(file, relaxed=frozenset({row.kind}))
        await store.append([row])
        before, started = size_of(directory), time.perf_counter()
        for _ in range(calls):
            await store.append([row])
        took = time.perf_counter() - started
        await store.close()
        return Counting(1e6 * took / calls, (size_of(directory) - before) / calls)

    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(append(Path(directory)))


def size_of(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def best(action: Callable[[], object], repetitions: int) -> float:
    """Seconds of CPU time."""
    least = float("inf")
    for _ in range(repetitions):
        started = time.process_time()
        action()
        least = min(least, time.process_time() - started)
    return least
