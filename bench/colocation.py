"""Offline work beside online work, on one trace: how late the online jobs become, and how busy the machine is.

    python -m bench colocation

The provider offers one core, on which it runs with all its jobs, and lets batch jobs give way: so both kinds want the same core, as does the node.
Interactive jobs that need all of it come as a seeded trace says, whether or not the one before is over; each takes a fixed amount of CPU. Each piece
of the trace is played twice, alone and beside a batch job that never ends, so that what else the machine does falls on both.

What the node itself has to wait for is told by the kernel: how long its threads were ready to run and did not.

How soon an online job has the core is measured from `job.submit` until all processes of the batch job stand still; how soon the owner has the machine
at a provider that puts its owner first, from the start of foreign programs on every core. The floor of both is a signal, until its process stands
still.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec

from bench import market
from dms.devnet.network import DevNet, DevNode
from dms.devnet.topology import NodeSpec
from dms.jobs.spec import JobSpec
from dms.rpc.async_client import AsyncClient
from dms.testing.foreign_load import foreign_load
from dms.testing.frozen import frozen
from dms_proto.capability import JobClass, Resources
from dms_proto.units import CORE, HOUR, MIB, SECOND
from dms_proto.work import Limits

JOBS = 10
"""Of a piece of the trace."""
PIECES = 16
GAP_S = 0.45
"""Mean, of exponential gaps: the machine is idle more than half of the time."""
WORK = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
FOREVER = "while :; do :; done"
SEED = 7
PROVIDER = {
    "provider.cpu": "1",
    "provider.memory": "1GiB",
    "provider.disk": "1GiB",
    "provider.offline_gives_way": True,
    "provider.evict_offline_after_s": HOUR // SECOND,
    "store.strangers_daily": "1TiB",
}
OWNER_FIRST = {
    "provider.cpu": "1",
    "provider.memory": "1GiB",
    "provider.disk": "1GiB",
    "owner_first.enabled": True,
    "owner_first.resume_after_s": 1,
}
TRIES = 5
FREE_S = 60
"""Longest wait for a machine that nobody else uses."""


class Played(NamedTuple):
    """Pieces of the trace: seconds to each result, CPU seconds of all jobs, how long it took, and for how long the node waited for the core."""

    took_s: list[float]
    cpu_s: float
    wall_s: float
    waited_s: float

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of what online jobs took."""
        ordered = sorted(self.took_s)
        return 1e3 * ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]

    @property
    def p50_ms(self) -> float:
        """The median."""
        return 1e3 * sorted(self.took_s)[len(self.took_s) // 2]

    @property
    def waited_ms(self) -> float:
        """For how long threads of the provider's node were ready and did not run, for each job."""
        return 1e3 * self.waited_s / len(self.took_s)

    @property
    def busy_percent(self) -> float:
        """How much of the offered core was used."""
        return 100 * self.cpu_s / self.wall_s


class Measured(NamedTuple):
    """The same trace, alone and with offline work beside it; and seconds until offline work has given way to an online job, for each try."""

    alone: Played
    beside: Played
    given_way_s: list[float]


def measure() -> Measured:
    """Plays each piece of the trace alone and beside offline work."""
    with _devnet(PROVIDER) as net:
        _pin(net["provider-1"], 0)
        return asyncio.run(_measure(net))


def until_stopped() -> list[float]:
    """Seconds from a signal until a program that burns a core stands still, for each try: no freeze is faster."""
    with subprocess.Popen(["sh", "-c", FOREVER]) as burning:
        took = [_stop(burning.pid) for _ in range(TRIES)]
        burning.kill()
    return took


def _stop(pid: int) -> float:
    begun = time.perf_counter()
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    took = time.perf_counter() - begun
    os.kill(pid, signal.SIGCONT)
    os.waitid(os.P_PID, pid, os.WCONTINUED)
    return took


def until_frozen() -> list[float]:
    """Seconds from foreign load to the last process of a job that stands still, for each try."""
    with _devnet(OWNER_FIRST) as net:
        return asyncio.run(_tries(net))


@contextlib.contextmanager
def _devnet(settings: dict[str, Any]) -> Iterator[DevNet]:
    asks = NodeSpec("requester", "requester", {"provider.enabled": False})
    nodes = (asks, NodeSpec("provider-1", "provider", settings))
    with tempfile.TemporaryDirectory(prefix="dms-bench-") as root, DevNet(Path(root), nodes) as net:
        yield net


def _pin(node: DevNode, core: int) -> None:
    """All that a node is, and all that it starts from now on, runs on one core."""
    assert node.process is not None
    for pid in market.tree(node.process.pid):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), {core})


async def _tries(net: DevNet) -> list[float]:
    async with market.connected(net["requester"]) as node:
        job = (await node.call("job.submit", {"spec": msgspec.to_builtins(offline())}))["job_id"]
        await _while_free(market.until_running(node, job))
        took = [await _one_try(net["provider-1"]) for _ in range(TRIES)]
        await node.call("job.cancel", {"job_id": job})
        await market.until_ended(node, job)
    return took


async def _one_try(provider: DevNode) -> float:
    await _while_free(_until(provider, {False}))
    with foreign_load():
        begun = time.perf_counter()
        await _until(provider, {True})
        return time.perf_counter() - begun


async def _while_free(waiting: Awaitable[None]) -> None:
    """Waits for what only happens on a machine that is free of others."""
    try:
        async with asyncio.timeout(FREE_S):
            await waiting
    except TimeoutError:
        raise AssertionError(f"others have used the machine for {FREE_S} s: measure again when it is quiet") from None


async def _until(provider: DevNode, wanted: set[bool]) -> None:
    """Waits until all processes of the job stand still, or none does."""
    assert provider.process is not None
    while frozen(filter(_is_of_job, market.tree(provider.process.pid))) != wanted:
        await asyncio.sleep(0.01)


def _is_of_job(pid: int) -> bool:
    """Whether a process is the program of the job, and not of the sandbox around it."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() == b"sh\0-c\0" + FOREVER.encode() + b"\0"
    return False


async def _measure(net: DevNet) -> Measured:
    gaps = Random(SEED)
    turns: dict[bool, list[Played]] = {False: [], True: []}
    provider = net["provider-1"]
    async with market.connected(net["requester"]) as node:
        await market.run_one(node, online())
        for piece in range(PIECES):
            trace = [gaps.expovariate(1 / GAP_S) for _ in range(JOBS)]
            for beside in (False, True) if piece % 2 else (True, False):
                turns[beside].append(await _turn(node, provider, trace, beside=beside))
        given_way = [await _give_way(node, provider) for _ in range(TRIES)]
    return Measured(_together(turns[False]), _together(turns[True]), given_way)


async def _give_way(node: AsyncClient, provider: DevNode) -> float:
    async with _under_way(node, offline()):
        await _until(provider, {False})
        begun = time.perf_counter()
        async with _under_way(node, long_online(), waits=False):
            await _until(provider, {True})
            return time.perf_counter() - begun


@contextlib.asynccontextmanager
async def _under_way(node: AsyncClient, job: JobSpec, *, waits: bool = True) -> AsyncIterator[str]:
    """A job, once it runs if that is to be waited for; it is cancelled in the end."""
    name = (await node.call("job.submit", {"spec": msgspec.to_builtins(job)}))["job_id"]
    if waits:
        await market.until_running(node, name)
    yield name
    await node.call("job.cancel", {"job_id": name})
    await market.until_ended(node, name)


async def _turn(node: AsyncClient, provider: DevNode, trace: Sequence[float], *, beside: bool) -> Played:
    if not beside:
        return await _play(node, provider, trace)
    async with _under_way(node, offline()) as batch:
        played = await _play(node, provider, trace)
    return played._replace(cpu_s=played.cpu_s + await _cpu_s(node, batch))


async def _play(node: AsyncClient, provider: DevNode, trace: Sequence[float]) -> Played:
    waited, begun, jobs = _waited(provider), time.perf_counter(), []
    for gap in trace:
        await asyncio.sleep(gap)
        jobs.append(asyncio.create_task(_one(node)))
    done = await asyncio.gather(*jobs)
    took = [each for each, _ in done]
    wall = time.perf_counter() - begun
    since = {thread: s - waited.get(thread, 0.0) for thread, s in _waited(provider).items()}
    return Played(took, sum(used for _, used in done), wall, sum(since.values()))


def _waited(provider: DevNode) -> dict[str, float]:
    """For how long the threads of a node were ready to run and did not, in seconds; those of its jobs are no threads of it."""
    assert provider.process is not None
    waited = {}
    for pid in market.tree(provider.process.pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/exe").readlink().name.startswith("python"):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    waited[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return waited


async def _one(node: AsyncClient) -> tuple[float, float]:
    begun = time.perf_counter()
    job = (await node.call("job.submit", {"spec": msgspec.to_builtins(online())}))["job_id"]
    ended = await market.until_ended(node, job)
    took = time.perf_counter() - begun
    assert ended["reason"] == "completed", ended
    return took, await _cpu_s(node, job)


async def _cpu_s(node: AsyncClient, job: str) -> float:
    view = await node.call("job.show", {"job_id": job})
    attempts = [attempt for slot in view["slots"] for attempt in slot["attempts"]]
    return sum(attempt["usage"].get("cpu_us", 0) for attempt in attempts) / 1e6


def online() -> JobSpec:
    """A job for which somebody waits; it needs the whole core."""
    return _of(JobClass.INTERACTIVE, WORK)


def long_online() -> JobSpec:
    """One that needs the core until it is cancelled."""
    return _of(JobClass.INTERACTIVE, f"{FOREVER} # online")


def offline() -> JobSpec:
    """A job that can wait."""
    return _of(JobClass.BATCH, FOREVER)


def _of(kind: JobClass, script: str) -> JobSpec:
    spec = market.spec("sh", "-c", script, bids_wanted=1)
    resources = Resources(CORE, 32 * MIB, 4 * MIB)
    task = msgspec.structs.replace(spec.task, resources=resources, limits=Limits(wall_ms=HOUR))
    needs = msgspec.structs.replace(spec.needs, resources=resources, job_classes=(kind,), max_wall_ms=HOUR)
    return msgspec.structs.replace(spec, task=task, needs=needs)


def _together(turns: Sequence[Played]) -> Played:
    took = [seconds for turn in turns for seconds in turn.took_s]
    cpu, wall, waited = (sum(figures) for figures in zip(*(turn[1:] for turn in turns), strict=True))
    return Played(took, cpu, wall, waited)
