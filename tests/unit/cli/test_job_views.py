"""Jobs in words, while they run and after."""

from __future__ import annotations

import msgspec

from dms.cli.text import plain
from dms.cli.views import jobs
from dms.jobs.spec import JobSpec
from dms.rpc.api.jobs import Attempt, JobPhase, JobSummary, JobView, SlotView
from dms.testing.samples import PROVIDER
from dms_proto.capability import Capability
from dms_proto.ids import AllocationId, RequestId, short
from dms_proto.messages import Phase
from dms_proto.work import Ending, EndReason, Task

NOW = 1_700_000_010_000
RUNNING = Attempt(1, PROVIDER.peer_id, AllocationId("a-one"), Phase.RUNNING, NOW - 4_000)
NAMES = {PROVIDER.peer_id: "attic"}


def shown(attempt: Attempt, ended_at: int = 0) -> list[str]:
    summary = JobSummary(RequestId("r-one"), "work", JobPhase.RUNNING, 1, 1, 0, NOW - 5_000, ended_at)
    spec = JobSpec(Task("scripted"), Capability(), max_price=1_000_000)
    slots = (SlotView(0, phase="held", attempts=(attempt,)),)
    return list(plain(jobs.job(JobView(summary, spec, slots, 1, 2, 0), NAMES, NOW)))


def test_a_running_job_says_how_long_it_has_taken_and_no_price_that_is_not_known() -> None:
    lines = shown(RUNNING)
    (row,) = (line for line in lines if f"attic ({short(PROVIDER.peer_id)})" in line)
    assert row.split("running")[1].split() == ["4", "s", "so", "far", "-", "-"]
    assert "  took         5 s so far" in lines
    assert "  price        0 credits so far, at most 1 credit per allocation" in lines


def test_a_job_that_is_over_says_how_long_it_took_and_what_it_cost() -> None:
    over = msgspec.structs.replace(
        RUNNING, phase=Phase.ENDED, ended_at=NOW - 1_000, ending=Ending(EndReason.COMPLETED, 0), price=20
    )
    lines = shown(over, NOW)
    (row,) = (line for line in lines if "attic" in line)
    assert row.split("ended")[1].split()[:5] == ["3", "s", "-", "0.00002", "credits"]
    assert "  took         5 s" in lines
