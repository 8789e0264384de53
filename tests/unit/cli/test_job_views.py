"""Jobs in words, while they run and after."""

from __future__ import annotations

import msgspec

from dms.cli.text import plain
from dms.cli.views import jobs, words
from dms.jobs.spec import JobSpec
from dms.rpc.api.allocations import AllocationList, AllocationView, Side
from dms.rpc.api.jobs import Attempt, JobPhase, JobSummary, JobView, SlotView
from dms.testing.samples import PROVIDER
from dms_proto.capability import Capability
from dms_proto.ids import AllocationId, BidId, RequestId, short
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


def test_an_allocation_that_stands_still_says_why_and_for_how_long() -> None:
    view = AllocationView(
        AllocationId("a-one"),
        RequestId("r-one"),
        BidId("b-one"),
        0,
        Side.PROVIDER,
        PROVIDER.peer_id,
        PROVIDER.peer_id,
        Phase.RUNNING,
        Task("scripted"),
        frozen="the machine runs on its battery",
        frozen_since=words.now_ms() - 125_000,
    )
    row = list(plain(jobs.allocation_list(AllocationList((view,), 1), NAMES)))[1]
    assert "frozen for 2 min: the machine runs on its battery" in row
    assert "running" not in row
    assert any("frozen for 2 min" in line for line in plain(jobs.allocation(view, NAMES)))
