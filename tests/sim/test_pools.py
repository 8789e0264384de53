"""A pool among many users whose node is killed again and again: every law holds, and the counters are what was delivered."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.capability import Resources
from dms_proto.pool.replacement import Strategy
from dms_proto.sim.invariants import Violation
from dms_proto.sim.pools import Plan, simulate
from dms_proto.units import CORE, GIB, SECOND

PLAN = Plan(users=12, for_ms=20 * SECOND, every_ms=150, kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", Strategy)
def test_every_law_holds_through_many_deaths_of_the_node(strategy: Strategy) -> None:
    rules = msgspec.structs.replace(PLAN.rules, strategy=strategy, reserved={1: Resources(CORE, 4 * GIB)})
    figures = simulate(msgspec.structs.replace(PLAN, rules=rules), seed=1)
    assert figures.kills == PLAN.kills
    assert figures.ended > figures.calls // 3
    assert figures.lost_with_node > 0
    assert figures.starts > 4


def test_the_same_seed_gives_the_same_figures() -> None:
    plan = msgspec.structs.replace(PLAN, for_ms=10 * SECOND, kills=1)
    assert simulate(plan, 7) == simulate(plan, 7)


def test_the_simulation_can_fail() -> None:
    """Counters that are written once a second are behind when the node dies."""
    rules = msgspec.structs.replace(PLAN.rules, count_ms=SECOND)
    plan = msgspec.structs.replace(PLAN, for_ms=10 * SECOND, kills=1, rules=rules)
    with pytest.raises(Violation, match="the log gives the live state"):
        simulate(plan, 7)
