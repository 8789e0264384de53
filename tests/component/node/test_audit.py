"""audit.export at both parties of a real job, and what a third machine makes of the files."""

from __future__ import annotations

from dms.audit.report import Report
from dms.audit.verify import verify
from dms.cli.text import plain
from dms.cli.views.jobs import allocation
from dms.cli.views.jobs import job as job_words
from dms.node.api import LocalApi
from dms.rpc.api.allocations import AllocationParams
from dms.rpc.api.audit import AuditExportParams
from dms.rpc.api.jobs import JobParams
from dms.testing.market import until
from dms_actors.events import to_row
from dms_proto.allocation.events import ReceiptDisputed
from dms_proto.ids import PeerId
from dms_proto.market.auction_events import AttemptEnded
from dms_proto.messages import Receipt
from dms_proto.work import EndReason, Usage

from .conftest import Local, spec


def api_of(local: Local, peer: PeerId) -> LocalApi:
    """The interface of the node that has this name."""
    (found,) = (api for api in local.apis if api._me == peer)
    return found


async def whole_file(api: LocalApi, job: str, frames: int) -> Report:
    """What a file proves, once so many frames are in the log: what a node sends is written down after it was sent."""

    async def checked() -> Report:
        return verify((await api.audit_export(AuditExportParams(job))).text.encode())

    return await until(checked, lambda report: report.frames >= frames)


async def test_both_parties_export_the_same_agreement_and_each_file_is_sound(local: Local) -> None:
    await local.api.node_pause()  # so that another node runs it
    view = await local.run(spec("print", "hello\n", "write", "out/a.txt", "42", outputs=("out/*",)))
    (attempt,) = view.slots[0].attempts
    asked, ran = local.api, api_of(local, attempt.provider)

    mine, theirs = [await whole_file(api, view.summary.job_id, frames) for api, frames in ((asked, 5), (ran, 6))]

    assert (mine.faults, theirs.faults) == ((), ())
    assert mine.sound
    assert theirs.sound
    assert (mine.exporter, theirs.exporter) == (asked._me, attempt.provider)
    assert mine.agreements == theirs.agreements
    (agreed,) = mine.agreements
    assert agreed.is_acknowledged
    assert (agreed.provider, agreed.requester) == (attempt.provider, asked._me)
    (run,) = agreed.runs
    assert (run.allocation_id, run.reason) == (attempt.allocation_id, EndReason.COMPLETED)
    assert run.claimed == run.confirmed == attempt.price > 0
    assert run.disputed == ()
    assert (mine.frames, theirs.frames) == (5, 6)  # the provider also has the request as it was sent


async def test_of_what_a_node_agreed_with_itself_nothing_is_missing(local: Local) -> None:
    for api in local.apis[1:]:
        await api.node_pause()
    view = await local.run(spec("print", "hello\n"))

    found = verify((await local.api.audit_export(AuditExportParams(view.summary.job_id))).text.encode())

    assert found.sound
    assert (found.agreements, found.frames) == ((), 0)
    assert found.events > 0


async def test_a_dispute_is_shown_by_both_sides(local: Local) -> None:
    """Written into both logs, since no honest node has one: how it gets there is the machines' matter."""
    await local.api.node_pause()
    view = await local.run(spec("print", "hello\n"))
    (attempt,) = view.slots[0].attempts
    provider = api_of(local, attempt.provider)
    told = "price: the provider says 9, the requester 5"
    receipt = Receipt(view.summary.job_id, attempt.allocation_id, EndReason.COMPLETED, Usage(), 5)
    disputed = to_row(attempt.allocation_id, ReceiptDisputed(receipt, (told,)), "test")
    ended = AttemptEnded(0, attempt.provider, attempt.allocation_id, attempt.ending, True, 5, claimed=9)  # type: ignore[arg-type] # it has ended
    await provider._services.store.append((disputed,))
    await local.api._services.store.append((to_row(view.summary.job_id, ended, "test"),))

    shown = [await api.alloc_show(AllocationParams(attempt.allocation_id)) for api in (provider, local.api)]
    assert [allocation.disputed for allocation in shown] == [told, told]
    job = await local.api.job_show(JobParams(view.summary.job_id))
    assert job.slots[0].attempts[0].disputed == told
    assert f"disputed: {told}" in "\n".join(plain(allocation(shown[0], {})))
    assert f"disputed: {told}" in "\n".join(plain(job_words(job, {}, 0)))
