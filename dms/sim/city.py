"""One large market at its daily work, for as long as is wanted: how fast it is simulated, and how many messages it takes.

The same checks as for the seeds: every step, one stimulus in three given twice, and every log folded at the end.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from dms_proto.sim import words
from dms_proto.sim.chance import chance
from dms_proto.sim.simulation import Report, Simulation, Violation
from dms_proto.units import MINUTE

SETTLED_MS: Final = MINUTE
"""When jobs begin: nodes join in the first half of it."""
EVERY_MS: Final = 30 * MINUTE
"""How often each node submits a job, on average."""
GPU_JOBS: Final = 0.02
"""Share of the jobs that want a GPU, which one node in twenty has."""
MEMBERSHIP: Final = frozenset({"Hello", "Probe"})
"""Kinds of messages that nodes exchange whether there are jobs or not."""

Progress = Callable[[int, int], None]
"""Called with the simulated milliseconds that are over, and how many there will be."""


class CityOutcome(NamedTuple):
    """What a simulated city did.

    Attributes:
        nodes: how many.
        for_ms: simulated time that was asked for, the joining included; what was under way then is ended as well.
        jobs: submitted.
        report: of the simulation.
        violation: the invariant that broke, and how; empty when all held.
        seconds: the simulation took.
        cpu_seconds: of this process's time.
    """

    nodes: int
    for_ms: int
    jobs: int
    report: Report
    violation: str
    seconds: float
    cpu_seconds: float

    @property
    def messages_per_job(self) -> float:
        """Of the market: from request to receipt, each forwarding of gossip counted."""
        return sum(count for kind, count in self._delivered.items() if kind not in MEMBERSHIP) / max(self.jobs, 1)

    @property
    def messages_per_node_minute(self) -> float:
        """Of the membership: hellos and probes."""
        told = sum(count for kind, count in self._delivered.items() if kind in MEMBERSHIP)
        return told / self.nodes / (max(self.report.ended_ms, 1) / MINUTE)

    @property
    def _delivered(self) -> Mapping[str, int]:
        return self.report.delivered


def run_city(
    nodes: int,
    for_ms: int,
    *,
    every_ms: int = EVERY_MS,
    gpu_jobs: float = GPU_JOBS,
    seed: int = 0,
    progress: Progress | None = None,
) -> CityOutcome:
    """Simulates a city.

    Args:
        nodes: how many.
        for_ms: simulated time; the first `SETTLED_MS` of it nodes join, then jobs are submitted.
        every_ms: how often each node submits one, on average.
        gpu_jobs: share of the jobs that want a GPU.
        seed: of the city and what happens in it.
        progress: told about once in a simulated minute.
    """
    plan = words.city(
        nodes,
        chance("city", seed),
        every_ms=every_ms,
        for_ms=max(for_ms - SETTLED_MS, 0),
        settled_ms=SETTLED_MS,
        gpu_jobs=gpu_jobs,
    )
    violation = ""
    with _rare_collections():
        began, cpu = time.perf_counter(), time.process_time()
        simulation = Simulation(plan, seed)
        try:
            for over in range(0, for_ms, MINUTE):
                if progress is not None:
                    progress(over, for_ms)
                simulation.run_for(min(MINUTE, for_ms - over))
            report = simulation.run()
        except Violation as broken:
            violation, report = str(broken), simulation.report()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    if progress is not None:
        progress(for_ms, for_ms)
    return CityOutcome(nodes, for_ms, len(plan.jobs), report, violation, seconds, cpu_seconds)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """A world is large, lives long and holds no cycles: walking it over and over would take a third of the time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
