"""Offline work beside online work, on one trace: how late the online jobs become, and how busy the machine is.

    python -m bench colocation

The provider offers one core and lets batch jobs give way. Interactive jobs that need all of it come as a seeded trace says, whether
or not the one before is over; each takes a fixed amount of CPU. The trace is played alone and beside a batch job that never ends, in turns, so that
what else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec

from bench import market
from dms.devnet.network import DevNet
from dms.devnet.topology import NodeSpec
from dms.jobs.spec import JobSpec
from dms.rpc.async_client import AsyncClient
from dms_proto.capability import JobClass, Resources
from dms_proto.units import CORE, HOUR, MIB, SECOND
from dms_proto.work import Limits

JOBS = 50
"""Of a trace. The 99th percentile of all turns together is the second longest of a hundred."""
TURNS = 2
GAP_S = 1.0
"""Mean, of exponential gaps: the machine is idle more than half of the time."""
WORK = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
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


class Played(NamedTuple):
    """The trace, all turns of it: seconds to each result, CPU seconds of all jobs, and how long it took."""

    took_s: list[float]
    cpu_s: float
    wall_s: float

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
    def busy_percent(self) -> float:
        """How much of the offered core was used."""
        return 100 * self.cpu_s / self.wall_s


class Measured(NamedTuple):
    """The same trace, alone and with offline work beside it."""

    alone: Played
    beside: Played


def measure() -> Measured:
    """Plays the trace in turns."""
    gaps = Random(SEED)
    trace = [gaps.expovariate(1 / GAP_S) for _ in range(JOBS)]
    nodes = (
        NodeSpec("requester", "requester", {"provider.enabled": False}),
        NodeSpec("provider-1", "provider", PROVIDER),
    )
    with tempfile.TemporaryDirectory(prefix="dms-bench-") as root, DevNet(Path(root), nodes) as net:
        return asyncio.run(_in_turns(net, trace))


async def _in_turns(net: DevNet, trace: Sequence[float]) -> Measured:
    turns: dict[bool, list[Played]] = {False: [], True: []}
    async with market.connected(net["requester"]) as node:
        await market.run_one(node, online())
        for beside in (False, True) * TURNS:
            turns[beside].append(await _turn(node, trace, beside=beside))
    return Measured(_together(turns[False]), _together(turns[True]))


async def _turn(node: AsyncClient, trace: Sequence[float], *, beside: bool) -> Played:
    batch = (await node.call("job.submit", {"spec": msgspec.to_builtins(offline())}))["job_id"] if beside else ""
    if batch:
        await market.until_running(node, batch)
    begun, jobs = time.perf_counter(), []
    for gap in trace:
        await asyncio.sleep(gap)
        jobs.append(asyncio.create_task(_one(node)))
    done = await asyncio.gather(*jobs)
    wall = time.perf_counter() - begun
    cpu = sum(used for _, used in done)
    if batch:
        await node.call("job.cancel", {"job_id": batch})
        await market.until_ended(node, batch)
        cpu += await _cpu_s(node, batch)
    return Played([took for took, _ in done], cpu, wall)


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
    return Played(took, sum(turn.cpu_s for turn in turns), sum(turn.wall_s for turn in turns))
