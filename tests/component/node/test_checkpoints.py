"""Work that stops half-way goes on from what it left: at the same node or another, after faults and restarts, and nothing of it is kept too long."""

from __future__ import annotations

import pytest

from dms.jobs.spec import JobSpec
from dms.node.projecting.tables import pack
from dms.node.sweeping import _without_superseded, sweep
from dms.rpc.api.allocations import AllocationParams
from dms.rpc.api.jobs import JobParams, JobView, SubmitParams, WaitParams
from dms.store.tables import Scalar
from dms.testing.market import until
from dms_proto.checkpoints import CHECKPOINT_EXIT
from dms_proto.errors import UserError
from dms_proto.ids import PeerId, digest_of
from dms_proto.messages import Phase
from dms_proto.reputation import Kind
from dms_proto.units import HOUR
from dms_proto.verification.policy import Policy, Verification
from dms_proto.work import Ending, EndReason, Output

from .conftest import Local, spec
from .test_sweeping import make_old


def parts(count: int, *more: str, **changes: object) -> JobSpec:
    """Work of so many parts, each a run of its own."""
    return spec("parts", "state/done", str(count), *more, checkpoint="state", **changes)


def reasons(view: JobView) -> list[EndReason | None]:
    return [attempt.ending.reason if attempt.ending else None for attempt in view.slots[0].attempts]


def providers(view: JobView) -> list[PeerId]:
    return [attempt.provider for attempt in view.slots[0].attempts]


async def running_in_part(local: Local, job: str, part: int) -> JobView:
    """Waits until an attempt runs; from 1."""

    def is_there(view: JobView) -> bool:
        attempts = view.slots[0].attempts
        return len(attempts) == part and attempts[-1].phase is Phase.RUNNING

    return await until(lambda: local.show(job), is_there)


async def test_it_goes_on_part_by_part_and_is_paid_for_each(local: Local) -> None:
    view = await local.run(parts(3, "print", "done", "write", "out", "42", outputs=("out",)))

    assert view.summary.reason is EndReason.COMPLETED
    assert reasons(view) == [EndReason.CHECKPOINTED, EndReason.CHECKPOINTED, EndReason.COMPLETED]
    results = await local.api.job_results(JobParams(view.summary.job_id))
    assert [(file.path, file.digest) for file in results.slots[0].files] == [("out", digest_of(b"42"))]
    assert view.summary.price == sum(attempt.price for attempt in view.slots[0].attempts)
    evidence = (await local.market.nodes[0].state()).evidence
    assert all(set(seen.counts) == {Kind.KEPT} for seen in evidence.values()), "such an end is held against nobody"
    await local.market.drained()


async def test_what_its_provider_stops_goes_on_elsewhere_from_what_it_left_then(local: Local) -> None:
    await local.api.node_pause()
    job = await local.submit(parts(2, "on_stop", "85", "wait"))
    first = await running_in_part(local, job, 2)
    provider = local.apis[local.market.nodes.index(local.market.node_of(providers(first)[-1]))]

    await provider.alloc_cancel(AllocationParams(first.slots[0].attempts[-1].allocation_id))

    second = await running_in_part(local, job, 3)
    assert reasons(second)[:2] == [EndReason.CHECKPOINTED, EndReason.PROVIDER_STOPPED]
    assert providers(second)[2] != providers(second)[1]
    here = second.slots[0].attempts[2]
    inside = local.market.node_of(here.provider).services.workbench.directory(here.allocation_id)
    assert (inside / "state" / "done").read_text() == "xxx", "two parts were done before it came here"
    await local.api.job_cancel(JobParams(job))
    await local.api.job_wait(WaitParams(job, 20_000))
    await local.market.drained()


async def test_the_checkpoint_outlives_the_requesters_node(local: Local) -> None:
    await local.api.node_pause()
    job = await local.submit(parts(2, "wait"))
    await running_in_part(local, job, 2)

    await local.restart(0)

    view = await running_in_part(local, job, 2)
    assert reasons(view)[0] is EndReason.CHECKPOINTED
    await local.api.job_cancel(JobParams(job))
    await local.api.job_wait(WaitParams(job, 20_000))


async def test_only_the_newest_checkpoint_of_an_open_job_is_kept_for_it(local: Local) -> None:
    job = await local.submit(parts(3, "wait"))
    await running_in_part(local, job, 3)
    services = local.market.nodes[0].services
    old, new = digest_of(b"x"), digest_of(b"xx")
    assert services.blobs.path(old) is not None
    make_old(local)

    await sweep(services, local.api._runner, services.clock() + 10_000 * HOUR)

    assert services.blobs.path(old) is None
    assert services.blobs.path(new) is not None
    await local.api.job_cancel(JobParams(job))


def test_who_leaves_nothing_makes_nobody_let_go_of_the_checkpoint_before() -> None:
    def ended(name: str, at: int, reason: EndReason, *outputs: Output) -> dict[str, Scalar]:
        ending = pack(Ending(reason, CHECKPOINT_EXIT))
        figures = {"request_id": "r", "slot": 0, "open": 0, "ended_at": at}
        return {"allocation_id": name, **figures, "ending": ending, "outputs": pack(outputs)}

    state = Output("state", digest_of(b"one"), 1)
    first, second = (ended(name, at, EndReason.CHECKPOINTED, state) for at, name in enumerate(("first", "second")))
    liar = ended("liar", 2, EndReason.PROVIDER_FAULT)

    assert list(_without_superseded((first, second, liar))) == [liar, second]


async def test_the_exit_code_without_a_checkpoint_ends_the_job(local: Local) -> None:
    view = await local.run(spec("exit", "85", checkpoint="state", retry_job_failures=1))

    assert view.summary.reason is EndReason.EXIT_NONZERO
    ending = view.slots[0].ending
    assert ending is not None
    assert ending.detail == "exit code 85, and there is no file at its checkpoint state"


async def test_results_that_are_checked_do_not_go_on(local: Local) -> None:
    with pytest.raises(UserError, match="checkpoint: does not go with `verify`"):
        await local.api.job_submit(SubmitParams(parts(2, verify=Verification(Policy.REPLICATE))))
