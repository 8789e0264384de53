"""Work that always gives the same is not run again where its own requester has the answer, and says so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dms.jobs.spec import JobSpec
from dms.node.sweeping import RECENT_MS, sweep
from dms.rpc.api.events import EventQuery, TraceParams
from dms.rpc.api.jobs import JobListParams, JobParams, SubmitParams, Submitted
from dms.testing.market import peer_of
from dms_proto.errors import UserError
from dms_proto.ids import short
from dms_proto.secrets import OpenSecret
from dms_proto.verification.policy import Policy, Verification

from .conftest import NEEDS, Local, spec


def work(*command: str, **changes: object) -> JobSpec:
    given: dict[str, object] = {"cache": True, "outputs": ("out",), **changes}
    return spec(*(command or ("print", "hello", "write", "out", "42")), **given)  # type: ignore[arg-type]


async def submitted(local: Local, wanted: JobSpec) -> Submitted:
    return await local.api.job_submit(SubmitParams(wanted))


async def done(local: Local, wanted: JobSpec) -> str:
    return (await local.run(wanted)).summary.job_id


async def test_the_same_work_is_answered_by_the_job_that_did_it(local: Local) -> None:
    first = await done(local, work())
    again = await submitted(local, work())
    view = await local.show(first)
    assert (again.job_id, again.answered_at) == (first, view.summary.ended_at)
    assert (await local.api.job_results(JobParams(again.job_id))).complete
    assert (await local.api.job_list(JobListParams())).total == 1


async def test_how_often_it_was_the_answer_and_when_is_shown_of_it_also_after_a_restart(local: Local) -> None:
    first, other = await done(local, work()), await done(local, work(environment={"A": "1"}))
    for _ in range(2):
        await submitted(local, work())
    latest = (await local.api.events_query(EventQuery(stream="answers"))).events[-1]
    for _ in range(2):
        given = (await local.show(first)).given_again
        assert (given.times, given.last_at) == (2, latest.body["at"])
        await local.restart(0)
    assert not (await local.show(other)).given_again.times
    told = [step.text for step in (await local.api.events_trace(TraceParams(first))).steps]
    assert told[-2:] == [f"not run again: {short(first)} is the answer"] * 2


async def test_without_the_wish_it_is_run_again(local: Local) -> None:
    first = await done(local, work())
    again = await submitted(local, work(cache=False))
    assert (again.job_id != first, again.answered_at) == (True, 0)


async def test_a_job_that_did_not_wish_so_itself_may_be_the_answer(local: Local) -> None:
    first = await done(local, work(cache=False, max_price=5_000_000))
    assert (await submitted(local, work())).job_id == first


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"A": "1"}},
        {"outputs": ("*",)},
        {"count": 2},
        {"needs": msgspec.structs.replace(NEEDS, cpu_millicores=2_000)},
        {"verify": Verification(Policy.REPLICATE, 2)},
    ],
)
async def test_what_differs_in_anything_that_matters_is_run(local: Local, changes: dict[str, object]) -> None:
    first = await done(local, work())
    again = await submitted(local, work(**changes))
    assert (again.job_id != first, again.answered_at) == (True, 0)


async def test_a_job_that_names_its_node_is_answered_by_one_that_ran_there(local: Local) -> None:
    here, there = (peer_of(node) for node in local.market.nodes[1:3])
    first = await done(local, work(node=here))
    assert (await submitted(local, work(node=here))).job_id == first
    assert (await submitted(local, work(node=there))).job_id != first


async def test_what_did_not_end_well_is_no_answer(local: Local) -> None:
    first = await done(local, work("exit", "3", outputs=()))
    assert (await submitted(local, work("exit", "3", outputs=()))).job_id != first


async def test_what_is_kept_no_longer_is_no_answer(local: Local) -> None:
    first = await done(local, work())
    services = local.market.nodes[0].services
    await sweep(services, local.api._runner, services.clock() + services.config.store.keep_jobs_ms + RECENT_MS + 1)
    assert (await submitted(local, work())).job_id != first


async def test_what_is_said_of_it_stands_over_a_restart(local: Local, tmp_path: Path) -> None:
    first = await done(local, work())
    await local.restart(0)
    assert (await submitted(local, work())).job_id == first


async def test_work_with_secrets_is_refused_the_wish(local: Local) -> None:
    with pytest.raises(UserError, match="cache: does not go with secrets"):
        await submitted(local, msgspec.structs.replace(work(), secrets=(OpenSecret("KEY", b"value"),)))
