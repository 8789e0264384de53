"""Many simulations, spread over processes; of what fails, the first is shrunk and traced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import get_context
from typing import NamedTuple

from dms_proto.sim.scenarios import plan_of
from dms_proto.sim.shrink import shrink, trace_of
from dms_proto.sim.simulation import Simulation, Violation


class Failure(NamedTuple):
    """A seed that failed. `plan` and `trace` are there for the first one."""

    scenario: str
    seed: int
    invariant: str
    detail: str
    plan: str = ""
    trace: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What a campaign found."""

    steps: int
    reasons: Counter[str]
    failures: list[Failure]


_One = tuple[int, dict[str, int], Failure | None]


def run_campaign(
    work: Sequence[tuple[str, int]], *, processes: int = 1, progress: Callable[[int, int], None] | None = None
) -> Outcome:
    """Simulates each (scenario, seed).

    Args:
        work: what to simulate.
        processes: how many at once.
        progress: called with how many are done and how many failed.
    """
    outcome = Outcome(0, Counter(), [])
    if processes == 1 or len(work) < 2 * processes:
        outcome = _gather(map(_simulate, work), outcome, progress)
    else:
        with get_context("spawn").Pool(processes) as pool:
            outcome = _gather(pool.imap_unordered(_simulate, work, chunksize=4), outcome, progress)
    outcome.failures.sort(key=lambda failure: (failure.seed, failure.scenario))
    if outcome.failures:
        outcome.failures[0] = _explained(outcome.failures[0])
    return outcome


def _gather(results: Iterable[_One], outcome: Outcome, progress: Callable[[int, int], None] | None) -> Outcome:
    steps = 0
    for done, (taken, reasons, failure) in enumerate(results, 1):
        steps += taken
        outcome.reasons.update(reasons)
        if failure is not None:
            outcome.failures.append(failure)
        if progress is not None:
            progress(done, len(outcome.failures))
    return outcome._replace(steps=steps)


def _simulate(work: tuple[str, int]) -> _One:
    scenario, seed = work
    simulation = Simulation(plan_of(scenario, seed), seed)
    try:
        report = simulation.run()
    except Violation as violation:
        return simulation.steps, {}, Failure(scenario, seed, violation.name, violation.detail)
    return report.steps, {str(reason): count for reason, count in report.reasons.items()}, None


def _explained(failure: Failure) -> Failure:
    plan = shrink(plan_of(failure.scenario, failure.seed), failure.seed, failure.invariant)
    return failure._replace(plan=repr(plan), trace=tuple(trace_of(plan, failure.seed)))
