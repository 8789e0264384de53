"""Four equal nodes get an equal share of many equal tasks, however they come, by the preferences that a node has by default."""

from __future__ import annotations

from collections import Counter

import pytest

from dms_proto.sim.plan import JobSpec, NodeSpec, Plan, Weather
from dms_proto.sim.simulation import Simulation

TASKS = 400
OFF = 15
WORK_MS = 1_000
JOINED_MS = 5_000
EQUALLY_FAR = Weather(delay_ms=(2, 2), jitter_ms=2, until=0)


@pytest.mark.parametrize(
    ("apart_ms", "count"),
    [(0, 1), (WORK_MS // 4, 1), (WORK_MS // 10, 1), (0, TASKS)],
    ids=["all at once", "four at a time", "ten at a time", "as one job"],
)
@pytest.mark.parametrize("cores", [4, 20])
def test_four_equal_nodes_get_a_quarter_each(apart_ms: int, count: int, cores: int) -> None:
    nodes = (NodeSpec(accepts_work=False), *(NodeSpec(cores=cores, memory=64 * 2**30) for _ in range(4)))
    jobs = tuple(
        JobSpec(0, JOINED_MS + index * apart_ms, count=count, work_ms=WORK_MS) for index in range(TASKS // count)
    )
    simulation = Simulation(Plan(nodes, jobs, weather=EQUALLY_FAR), seed=1)
    simulation.run()
    asking = simulation.nodes[0]
    done = Counter(
        attempt.provider
        for request in asking.requests().values()
        for slot in request.slots
        for attempt in slot.settled[-1:]
    )
    assert sum(done.values()) == TASKS
    assert len(done) == 4, done
    assert all(abs(tasks - TASKS / 4) <= OFF for tasks in done.values()), done
