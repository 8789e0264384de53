"""Rows of the read models as callers see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from dms.node.api.base import Row
from dms.node.projecting.tables import number, text, unpack
from dms.rpc.api.allocations import AllocationView, Side
from dms.rpc.api.jobs import JobPhase, JobSummary
from dms.rpc.api.market import BidState, BidView, Direction, RequestView
from dms_proto.capability import Capability, Resources
from dms_proto.ids import AllocationId, BidId, PeerId, RequestId
from dms_proto.market.auction_messages import task_of
from dms_proto.market.auction_terms import Terms
from dms_proto.market.seekers import turn_in_words
from dms_proto.messages import Bid, Clause, Phase
from dms_proto.work import OWNERS, Ending, EndReason, Output, Task, Usage, shown


def _blob(row: Row, column: str, kind: Any, default: Any) -> Any:
    return default if row[column] is None else unpack(row[column], kind)


def job_summary(row: Row) -> JobSummary:
    """A row of `jobs`."""
    reason = EndReason(text(row, "reason")) if row["reason"] else None
    return JobSummary(
        job_id=RequestId(text(row, "request_id")),
        name=text(row, "name"),
        phase=JobPhase(text(row, "phase")),
        count=number(row, "count"),
        running=number(row, "running"),
        done=number(row, "done"),
        submitted_at=number(row, "submitted_at"),
        ended_at=number(row, "ended_at"),
        price=number(row, "price"),
        reason=reason,
        owner=OWNERS[reason] if reason is not None else None,
        detail=text(row, "detail"),
    )


def in_its_turn(job: JobSummary, ahead: Mapping[RequestId, int]) -> JobSummary:
    """A job with how many are before it now, if it is among those that wait for their turn."""
    before = ahead.get(job.job_id)
    return job if before is None else replace(job, detail=turn_in_words(before))


def phase_of(row: Row) -> Phase:
    """Where an allocation is: who runs it knows best."""
    return Phase(text(row, "run_phase") or text(row, "asked_phase") or Phase.COMMITTED)


class Live(NamedTuple):
    """What is known only while an allocation runs: its use so far, what it holds, if that has changed, and why it stands still since when."""

    used: Usage | None = None
    resources: Resources | None = None
    frozen: str = ""
    frozen_since: int = 0


NOT_LIVE: Final = Live()


def allocation_view(
    row: Row, terms: Mapping[str, Terms], logs: tuple[int, int] = (0, 0), live: Live = NOT_LIVE
) -> AllocationView:
    """A row of `allocations`.

    Args:
        row: the row.
        terms: of this node's own jobs, by request id.
        logs: length of (stdout, stderr) while it runs.
        live: while it runs.
    """
    ending: Ending | None = _blob(row, "ending", Ending, None)
    task = _task(row, terms)
    provided, requested = bool(row["provided"]), bool(row["requested"])
    side = Side.BOTH if provided and requested else Side.PROVIDER if provided else Side.REQUESTER
    ended = (number(row, "log_out"), number(row, "log_err"))
    return AllocationView(
        allocation_id=AllocationId(text(row, "allocation_id")),
        request_id=RequestId(text(row, "request_id")),
        bid_id=BidId(text(row, "bid_id")),
        slot=number(row, "slot"),
        side=side,
        provider=PeerId(text(row, "provider")),
        requester=PeerId(text(row, "requester")),
        phase=phase_of(row),
        task=task if live.resources is None else replace(task, resources=live.resources),
        started_at=number(row, "started_at"),
        ended_at=number(row, "ended_at"),
        usage=ending.usage if ending is not None else live.used or Usage(),
        price=number(row, "price"),
        ending=ending,
        owner=OWNERS[ending.reason] if ending is not None and ending.reason is not EndReason.COMPLETED else None,
        outputs=_blob(row, "outputs", tuple[Output, ...], ()),
        log_bytes=ended if any(ended) else logs,
        disputed=text(row, "disputed"),
        frozen=live.frozen,
        frozen_since=live.frozen_since,
    )


def _task(row: Row, terms: Mapping[str, Terms]) -> Task:
    """What it runs: as invoked here, or as this node's own job says; of a commit that was not invoked yet, nothing is known."""
    if row["task"] is not None:
        task: Task = unpack(row["task"], Task)
        return shown(task)
    own = terms.get(text(row, "request_id"))
    return shown(task_of(own, number(row, "piece"))) if own is not None else Task("")


def bid_view(row: Row, now: int) -> BidView:
    """A row of `bids`."""
    bid: Bid = unpack(row["bid"], Bid)
    sent, received = bool(row["sent"]), bool(row["received"])
    until = number(row, "valid_until")
    state = BidState(text(row, "state"))
    if state is BidState.OPEN and until <= now:
        state = BidState.EXPIRED
    return BidView(
        bid_id=bid.bid_id,
        request_id=bid.request_id,
        direction=Direction.BOTH if sent and received else Direction.SENT if sent else Direction.RECEIVED,
        provider=PeerId(text(row, "provider")),
        requester=PeerId(text(row, "requester")),
        slots=bid.slots,
        price=bid.price,
        tariff=bid.tariff,
        offer=bid.offer,
        at=number(row, "at"),
        valid_until=until,
        state=state,
        reason=text(row, "reason"),
    )


def request_view(row: Row) -> RequestView:
    """A row of `requests`."""
    return RequestView(
        request_id=RequestId(text(row, "request_id")),
        direction=Direction(text(row, "direction")),
        requester=PeerId(text(row, "requester")),
        at=number(row, "at"),
        round=number(row, "round"),
        needs=_blob(row, "needs", Capability, Capability()),
        count=number(row, "count"),
        max_price=number(row, "max_price"),
        answer=text(row, "answer"),
        clauses=_blob(row, "clauses", tuple[Clause, ...], ()),
        outcome=text(row, "outcome"),
    )
