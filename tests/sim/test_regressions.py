"""Failures the simulator found, each with its smallest plan. The docstrings tell what happened."""

from dms_proto.sim.crash_points import crash_points
from dms_proto.sim.plan import Crash, CrashPoint, JobSpec, NodeSpec, Plan
from dms_proto.sim.scenarios import plan_of
from dms_proto.sim.simulation import Simulation


def run(plan: Plan, seed: int = 1) -> Simulation:
    simulation = Simulation(plan, seed)
    simulation.run()
    return simulation


def test_a_requester_that_does_not_listen_is_not_bid_to_for_ever() -> None:
    """Skewed clocks, seed 227.

    1. Gossip brings a request from a node whose clock is so far off that it is refused as a peer: it never hears the answers.
    2. The provider declines for lack of capacity; the request stands.
    3. Capacity frees, the provider bids; nobody answers; the lock expires, which frees capacity, and the provider bids again …
    4. Each bid for a part set the end of standing anew, so this never ended.
    """
    nodes = tuple(NodeSpec(skew_ms=skew, bootstrap=known) for skew, known in _SKEWED)
    jobs = (
        JobSpec(0, 16_213, count=3, work_ms=4_000, inputs=True),
        JobSpec(1, 13_418, work_ms=4_000),
        JobSpec(1, 13_566, work_ms=300, inputs=True),
    )

    run(Plan(nodes, jobs), 227)
    run(plan_of("skewed-clocks", 227), 227)


_SKEWED = ((27_186, (1, 2)), (26_154, (0,)), (-1_926, (0, 1)), (-21_414, (2, 1)))


def test_a_task_that_may_have_run_is_not_run_again() -> None:
    """Two nodes, seed 0, provider dies after its seventh append.

    1. The allocation is handed to the executor; the node dies before it hears that the program started.
    2. The program runs and ends while the node is down.
    3. The node restarts, finds nothing running, and concludes that it never started.
    """
    plan = plan_of("two-nodes", 0)
    for crashing in crash_points(plan, 0, 1):
        (point,) = (fault for fault in crashing.faults if isinstance(fault, CrashPoint))
        if point.append >= 5:
            assert not run(crashing, 0).nodes[1].machine.began_twice


def test_a_task_is_not_run_twice_because_its_start_was_not_yet_written_down() -> None:
    """Crashes, seeds 3 and 25.

    1. The inputs are here, the task is handed to the executor; this was written down "soon", not before.
    2. The node dies and forgets it; after the restart the inputs are fetched again, and the task is handed over a second time.

    Now it is written before the executor hears of it (`WRITTEN_FIRST`).
    """
    for seed in (3, 25):
        run(plan_of("crashes", seed), seed)


def test_a_provider_that_dies_between_the_commit_and_the_opening_leaks_nothing() -> None:
    """Found by enumeration: the lock had become a reservation, and no allocation existed that could ever give it back."""
    plan = Plan(
        (NodeSpec(accepts_work=False), NodeSpec()),
        (JobSpec(0, 3_000, work_ms=300),),
    )
    committed = [
        append
        for append in range(1, Simulation(plan, 1).run().appends[1] + 1)
        for effects in (0, 1)
        if _leaves_a_reservation_without_allocation(plan, append, effects)
    ]

    assert committed


def _leaves_a_reservation_without_allocation(plan: Plan, append: int, effects: int) -> bool:
    point = CrashPoint(1, append, effects, down_ms=200)
    simulation = Simulation(Plan(plan.nodes, plan.jobs, (point,)), 1)
    simulation.run()
    kinds = [(stream, type(event).__name__) for stream, event in simulation.nodes[1].log]
    opened = [stream for stream, kind in kinds if kind == "AllocationOpened"]
    invoked = [stream for stream, kind in kinds if kind == "AllocationInvoked"]
    return bool(opened) and opened != invoked


def test_a_long_running_allocation_survives_its_requesters_restart() -> None:
    """The restarted requester took the provider's silence while it was itself away for the provider's fault."""
    plan = Plan(
        (NodeSpec(accepts_work=False), NodeSpec()),
        (JobSpec(0, 3_000, work_ms=60_000),),
        (Crash(0, 10_000, down_ms=30_000),),
    )

    simulation = run(plan)

    (request,) = simulation.nodes[0].requests().values()
    assert [slot.attempts for slot in request.slots] == [1]


def test_a_node_resumed_while_it_stops_is_resumed_once() -> None:
    """Hosts at work, seed 26.

    That the owner resumes and that the node starts again were one stimulus: told twice, the second undid the pause that the first had left.
    """
    run(plan_of("hosts-at-work", 26), 26)
