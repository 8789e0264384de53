"""Dying right after every single append, before, between and after the effects that follow it: enumerated, not sampled."""

import msgspec
import pytest

from dms_actors import draft
from dms_proto.sim import node
from dms_proto.sim.crash_points import crash_points
from dms_proto.sim.plan import CrashPoint, JobSpec, NodeSpec, Outcome, Plan
from dms_proto.sim.simulation import Simulation

ASKS = 0
WORKS = 1


def market(**job: object) -> Plan:
    """One node asks, two can do it."""
    asks = NodeSpec(accepts_work=False)
    spec = {"node": ASKS, "at": 3_000, "work_ms": 400, "inputs": True, "outputs": True, **job}
    return Plan((asks, NodeSpec(), NodeSpec()), (JobSpec(**spec),))  # type: ignore[arg-type]


@pytest.mark.parametrize("victim", [ASKS, WORKS])
@pytest.mark.parametrize(
    "job",
    [{}, {"count": 2}, {"outcome": Outcome.FAILS}, {"cancel_after": 300}],
    ids=["one allocation", "two allocations", "failing", "cancelled"],
)
def test_a_node_may_die_at_every_point(victim: int, job: dict[str, object]) -> None:
    plan = market(**job)
    tried = 0
    for crashing in crash_points(plan, 1, victim):
        report = Simulation(crashing, 1).run()
        assert sum(report.reasons.values()) == 1
        tried += 1

    assert tried > 100


def test_every_append_of_the_undisturbed_run_is_a_crash_point() -> None:
    plan = market()
    appends = Simulation(plan, 1).run().appends[WORKS]

    points = [fault for p in crash_points(plan, 1, WORKS) for fault in p.faults if isinstance(fault, CrashPoint)]

    assert {point.append for point in points} == set(range(1, appends + 1))
    assert {point.effects for point in points} == {0, 1, 2}


def test_a_node_dies_where_it_is_told_to() -> None:
    plan = msgspec.structs.replace(market(), faults=(CrashPoint(WORKS, append=9, effects=0, down_ms=500),))
    lines: list[str] = []

    simulation = Simulation(plan, 1, trace=lines.append)
    simulation.run()

    assert sum("dies" in line for line in lines) == 1
    assert simulation.nodes[WORKS].life == 3  # started, died, started


def test_what_a_crash_may_forget_is_what_no_promise_rests_on() -> None:
    assert node.WRITTEN_FIRST == draft.WRITTEN_FIRST
