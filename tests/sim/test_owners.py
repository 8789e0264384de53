"""Owners of simulated machines come and go. That every invariant holds meanwhile is shown in test_seeds.py."""

from __future__ import annotations

from typing import Any

import pytest

from dms_proto.allocation.freezing import AllocationFrozen, AllocationThawed
from dms_proto.market.auction_events import AttemptEnded
from dms_proto.sim.demands import Violation
from dms_proto.sim.plan import Crash, JobSpec, NodeSpec, OwnerComes, Plan
from dms_proto.sim.simulation import Simulation
from dms_proto.units import MINUTE, SECOND
from dms_proto.work import EndReason

WORK_MS = 12 * SECOND


def world(*faults: OwnerComes | Crash, providers: int = 1) -> Simulation:
    """One node asks for one job, some seconds before anything happens."""
    nodes = (NodeSpec(accepts_work=False), *(NodeSpec() for _ in range(providers)))
    return Simulation(Plan(nodes, (JobSpec(0, 3 * SECOND, work_ms=WORK_MS),), faults), 1)


def events(simulation: Simulation, kind: type[Any]) -> list[Any]:
    return [event for node in simulation.nodes for _, event in node.log if isinstance(event, kind)]


def attempts(simulation: Simulation) -> list[tuple[EndReason, bool]]:
    return [(event.ending.reason, event.final) for event in events(simulation, AttemptEnded)]


@pytest.mark.parametrize("sign", [{"cores": 1}, {"unplugged": True}])
def test_a_run_stands_still_while_the_owner_is_there_and_completes_afterwards(sign: dict[str, Any]) -> None:
    simulation = world(OwnerComes(1, 6 * SECOND, 30 * SECOND, **sign, evict_after_ms=10 * MINUTE))
    simulation.run()

    (frozen,), (thawed,) = events(simulation, AllocationFrozen), events(simulation, AllocationThawed)
    assert thawed.at - frozen.at > 20 * SECOND
    (attempt,) = events(simulation, AttemptEnded)
    assert (attempt.ending.reason, attempt.ending.usage.wall_ms) == (EndReason.COMPLETED, WORK_MS)


def test_what_an_owner_evicts_is_done_elsewhere() -> None:
    owners = (OwnerComes(node, 6 * SECOND, MINUTE, cores=1, evict_after_ms=SECOND) for node in (1, 2))
    simulation = world(*owners, providers=3)
    simulation.run()

    assert attempts(simulation)[-1] == (EndReason.COMPLETED, True)
    assert set(attempts(simulation)[:-1]) <= {(EndReason.EVICTED, False)}


def test_what_every_owner_evicts_waits_until_one_is_gone() -> None:
    simulation = world(OwnerComes(1, 6 * SECOND, MINUTE, cores=1, evict_after_ms=SECOND))
    simulation.run()

    assert attempts(simulation) == [(EndReason.EVICTED, False), (EndReason.COMPLETED, True)]


def test_one_that_was_frozen_when_its_node_died_and_forgot_it_goes_on() -> None:
    """Everything, seed 45: nobody was left who knew that the run stood still, so nobody ever let it go on."""
    owner = OwnerComes(1, 6 * SECOND, 9 * SECOND, cores=1, evict_after_ms=10 * MINUTE)
    simulation = world(owner, Crash(1, 9_100, down_ms=200, forgets=True))
    simulation.run()

    assert events(simulation, AllocationFrozen) == []
    assert attempts(simulation) == [(EndReason.COMPLETED, True)]


def test_a_machine_that_does_not_stand_still_is_noticed() -> None:
    simulation = world(OwnerComes(1, 6 * SECOND, MINUTE, cores=1))
    simulation.run_for(9 * SECOND)
    (run,) = simulation.nodes[1].machine.runs

    simulation.nodes[1].machine.thaw(run)

    with pytest.raises(Violation, match="what gives way stands still"):
        simulation.run()
