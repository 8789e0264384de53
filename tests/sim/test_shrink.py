"""A failing plan becomes small and still fails in the same way."""

import msgspec

from dms_proto.sim.plan import Partition, Plan
from dms_proto.sim.scenarios import plan_of
from dms_proto.sim.shrink import broken_by, shrink, trace_of


def failing() -> Plan:
    """A plan whose horizon comes before its jobs are done."""
    return msgspec.structs.replace(plan_of("partitions", 4), horizon_ms=3_100)


def test_a_plan_that_holds_is_broken_by_nothing() -> None:
    assert broken_by(plan_of("calm", 1), 1) is None


def test_a_failing_plan_is_reduced_to_what_is_needed() -> None:
    plan = failing()
    violation = broken_by(plan, 4)
    assert violation is not None
    assert violation.name == "everything ends"

    small = shrink(plan, 4, violation.name)

    assert len(small.jobs) == 1
    assert small.faults == ()
    assert len(small.nodes) == small.jobs[0].node + 1 <= len(plan.nodes)
    again = broken_by(small, 4)
    assert again is not None
    assert again.name == violation.name


def test_nodes_that_faults_name_keep_their_meaning_when_others_go() -> None:
    plan = plan_of("partitions", 4)
    sides = [fault.side for fault in plan.faults if isinstance(fault, Partition)]

    small = shrink(msgspec.structs.replace(plan, horizon_ms=2_000), 4, "everything ends", tries=3)

    assert all(max(side) < len(plan.nodes) for side in sides)
    for fault in small.faults:
        assert isinstance(fault, Partition)
        assert max(fault.side) < len(small.nodes)


def test_the_trace_ends_with_what_broke() -> None:
    trace = trace_of(failing(), 4)

    assert "everything ends" in trace[-1]
    assert any("starts" in line for line in trace)
