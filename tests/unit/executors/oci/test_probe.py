from __future__ import annotations

import pytest

from dms.executors.oci.passage import KEPT_OUT
from dms.executors.oci.probe import NEEDS_DELEGATION, held_of, way_out_of, why_closed
from dms_proto.capability import Meter
from dms_proto.errors import MachineError
from dms_proto.work import Ending, EndReason, Usage

SLOWED = Ending(EndReason.WALL_TIME, 137, usage=Usage(wall_ms=2_500, cpu_us=500_000))
ENDED = Ending(EndReason.OUT_OF_MEMORY, 137)
REFUSED = Ending(EndReason.EXIT_NONZERO, 2)
WELL = Ending(EndReason.COMPLETED, 0)


def test_what_held_is_what_is_offered() -> None:
    held = held_of({"cpu": SLOWED, "memory": ENDED, "processes": REFUSED})
    assert held.limits == ("cpu", "memory", "processes", "disk", "wall", "output")
    assert (held.meter, held.tells_oom) == (Meter.LOWER_BOUND, True)


def test_an_engine_without_figures_proves_nothing_of_the_processor() -> None:
    silent = Ending(EndReason.WALL_TIME, 137, usage=Usage(wall_ms=2_500))
    killed = Ending(EndReason.KILLED_BY_SIGNAL, 137)
    held = held_of({"cpu": silent, "memory": killed, "processes": REFUSED})
    assert "cpu" not in held.limits
    assert (held.meter, held.tells_oom) == (Meter.WALL, False)


@pytest.mark.parametrize(
    ("memory", "processes", "words"),
    [(WELL, REFUSED, "memory"), (ENDED, WELL, "processes"), (WELL, WELL, "memory and")],
)
def test_an_engine_that_lets_a_job_take_the_machine_is_not_offered(
    memory: Ending, processes: Ending, words: str
) -> None:
    """Rootless podman on cgroup v1 is one."""
    with pytest.raises(MachineError, match=f"no limit of {words}"):
        held_of({"cpu": SLOWED, "memory": memory, "processes": processes})


def test_an_engine_that_runs_no_trial_is_not_said_to_limit_nothing() -> None:
    silent = Ending(EndReason.PROVIDER_FAULT, -1, "the engine failed: no answer within 60 s")
    with pytest.raises(MachineError, match="could not be tried: the engine failed: no answer"):
        held_of({"cpu": SLOWED, "memory": ENDED, "processes": silent})


@pytest.mark.parametrize(
    ("complaint", "hint"),
    [
        ("crun: the requested cgroup controller `memory` is not available: OCI runtime error", NEEDS_DELEGATION),
        ("runc: rootless needs no limits + no cgrouppath when no permission is granted for cgroups", NEEDS_DELEGATION),
        ("container-init binary not found on the host", "dms doctor"),
    ],
)
def test_an_engine_whose_user_was_given_no_cgroups_is_told_so(complaint: str, hint: str) -> None:
    assert way_out_of(complaint) == hint


KEPT = Ending(EndReason.PROVIDER_FAULT, -1, KEPT_OUT)
SLOW = Ending(EndReason.PROVIDER_FAULT, -1, "it has not started in it within 30 s")
FULL = Ending(EndReason.PROVIDER_FAULT, -1, "the job's directory: No space left on device")


@pytest.mark.parametrize(
    ("tried", "alone", "closed"),
    [
        (KEPT, KEPT, KEPT_OUT),
        (SLOW, KEPT, KEPT_OUT),
        (KEPT, WELL, ""),
        (SLOW, SLOW, ""),
        (FULL, FULL, ""),
    ],
)
async def test_only_an_engine_that_keeps_a_container_from_its_node_closes_it(
    tried: Ending, alone: Ending, closed: str
) -> None:
    async def again() -> Ending:
        return alone

    assert await why_closed(tried, again) == closed
