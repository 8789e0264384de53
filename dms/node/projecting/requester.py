"""Read models of this node as a requester: its jobs, their allocations, the bids it received, the requests it sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from dms.node.projecting.tables import (
    ALLOCATIONS,
    BIDS,
    JOBS,
    REQUESTS,
    TRUST,
    add_to,
    add_total,
    change_row,
    number,
    pack,
    text,
    unpack,
)
from dms.store.projections import Rows
from dms.store.tables import Change, Delete, Upsert
from dms_actors.ports import StoredEvent
from dms_proto.ids import AllocationId, BidId, PeerId
from dms_proto.machine import Event
from dms_proto.market.agreement import difference
from dms_proto.market.auction_events import (
    AllocationAdvanced,
    AllocationFinished,
    AttemptEnded,
    AwardMade,
    BidPassedOver,
    BidReceived,
    BidsReleased,
    CancelRequested,
    CommitConfirmed,
    CommitFailed,
    CopyCalled,
    RequestAnnounced,
    RequestEnded,
    RequestOpened,
    RequestWaiting,
    ResultJudged,
    RoundCalled,
    TurnAwaited,
)
from dms_proto.market.auction_fold import first_slots
from dms_proto.market.auction_terms import Terms
from dms_proto.market.seekers import turn_in_words
from dms_proto.membership.machine import PeerSucceeded
from dms_proto.messages import Phase
from dms_proto.reputation.evidence import Kind, kinds_of
from dms_proto.units import format_count
from dms_proto.work import EndReason

Handler = Callable[[PeerId, Rows, StoredEvent, Any], Iterable[Change]]


def _opened(me: PeerId, _rows: Rows, row: StoredEvent, event: RequestOpened) -> Iterator[Change]:
    terms = event.terms
    yield Upsert(
        JOBS.name,
        (row.stream,),
        {
            "name": terms.name,
            "phase": "asking",
            "reason": "",
            "detail": "",
            "open": 1,
            "count": terms.count,
            "verified": int(terms.verify.is_on),
            "submitted_at": event.at,
            "ended_at": 0,
            "price": 0,
            "held": 0,
            "running": 0,
            "done": 0,
            "pieces": pack(tuple(slot.piece for slot in first_slots(terms)) if terms.verify.is_on else ()),
            "terms": pack(terms),
        },
    )
    yield Upsert(
        REQUESTS.name,
        (row.stream, "sent"),
        {
            "requester": me,
            "answer": "",
            "outcome": "",
            "at": event.at,
            "round": 0,
            "count": terms.count,
            "max_price": terms.max_price,
            "needs": pack(terms.needs),
            "clauses": pack(()),
        },
    )


def _asking(_me: PeerId, rows: Rows, row: StoredEvent, _event: RoundCalled) -> Iterator[Change]:
    yield from _unless_held(rows, row.stream, "asking", "asking for bids")


def _announced(_me: PeerId, rows: Rows, row: StoredEvent, event: RequestAnnounced) -> Iterator[Change]:
    known = f"{format_count(event.known, 'node')} known"
    yield from _unless_held(rows, row.stream, "asking", f"asking for bids, round {event.round + 1}, {known}")
    yield from change_row(rows, REQUESTS, (row.stream, "sent"), round=event.round)


def _waiting(_me: PeerId, rows: Rows, row: StoredEvent, event: RequestWaiting) -> Iterator[Change]:
    yield from _unless_held(rows, row.stream, "waiting", event.why)


def _awaited(_me: PeerId, rows: Rows, row: StoredEvent, event: TurnAwaited) -> Iterator[Change]:
    yield from _unless_held(rows, row.stream, "waiting", turn_in_words(event.ahead))


def _unless_held(rows: Rows, stream: str, phase: str, detail: str) -> Iterator[Change]:
    """A job with a slot that has a provider is running, whatever the search for the others does."""
    job = rows.get(JOBS.name, (stream,))
    if job is None or text(job, "phase") == "cancelling":
        return
    if not number(job, "held"):
        yield Upsert(JOBS.name, (stream,), {"phase": phase, "detail": detail})
    else:
        yield Upsert(JOBS.name, (stream,), {"detail": detail})


def _bid(me: PeerId, rows: Rows, row: StoredEvent, event: BidReceived) -> Iterator[Change]:
    own = rows.get(BIDS.name, (event.bid.bid_id,)) is not None
    values: dict[str, Any] = {"received": 1}
    if not own:
        values |= {
            "request_id": row.stream,
            "provider": event.provider,
            "requester": me,
            "state": "open",
            "reason": "",
            "sent": 0,
            "at": row.at,
            "valid_until": event.usable_until,
            "bid": pack(event.bid),
            "awarded": pack(()),
        }
    yield Upsert(BIDS.name, (event.bid.bid_id,), values)


def _passed_over(_me: PeerId, rows: Rows, _row: StoredEvent, event: BidPassedOver) -> Iterator[Change]:
    reason = f"{event.clause.dimension}: {event.clause.observed}"
    yield from change_row(rows, BIDS, (event.bid_id,), state="released", reason=reason)


def _released(_me: PeerId, rows: Rows, _row: StoredEvent, event: BidsReleased) -> Iterator[Change]:
    for bid_id in event.bid_ids:
        bid = rows.get(BIDS.name, (bid_id,))
        if bid is not None and text(bid, "state") == "open":
            yield Upsert(BIDS.name, (bid_id,), {"state": "released", "reason": "another bid was better"})


def _awarded(_me: PeerId, rows: Rows, row: StoredEvent, event: AwardMade) -> Iterator[Change]:
    for bid_id, slots in event.taken:
        yield from change_row(rows, BIDS, (bid_id,), awarded=pack(slots))
    held = sum(len(slots) for _, slots in event.taken)
    yield from add_to(rows, JOBS, (row.stream,), held=held)
    yield from change_row(rows, JOBS, (row.stream,), phase="running", detail="")


def _confirmed(me: PeerId, rows: Rows, row: StoredEvent, event: CommitConfirmed) -> Iterator[Change]:
    bid = rows.get(BIDS.name, (event.bid_id,))
    if bid is None:
        return
    yield Upsert(BIDS.name, (event.bid_id,), {"state": "committed"})
    job = rows.get(JOBS.name, (row.stream,))
    assert job is not None, "a commit is of a request"
    terms, pieces = unpack(job["terms"], Terms), unpack(job["pieces"], tuple[int, ...])
    for slot in unpack(bid["awarded"], tuple[int, ...]):
        key = (terms.allocation_of(BidId(event.bid_id), slot),)
        values: dict[str, Any] = {"requested": 1, "open": 1, "open_there": 1, "asked_phase": Phase.COMMITTED.value}
        if rows.get(ALLOCATIONS.name, key) is None:
            values |= new_allocation(row.stream, event.bid_id, slot, text(bid, "provider"), me, event.at)
        values["piece"] = pieces[slot] if pieces else slot
        yield Upsert(ALLOCATIONS.name, key, values)


def new_allocation(  # noqa: PLR0917 - the columns, in their order
    request: str, bid: str, slot: int, provider: str, requester: str, at: int
) -> dict[str, Any]:
    """The columns of an allocation that both sides know from the commit on."""
    return {
        "request_id": request,
        "bid_id": bid,
        "slot": slot,
        "provider": provider,
        "requester": requester,
        "disputed": "",
        "opened_at": at,
        "started_at": 0,
        "ended_at": 0,
        "price": 0,
        "log_out": 0,
        "log_err": 0,
    }


def _failed(_me: PeerId, rows: Rows, row: StoredEvent, event: CommitFailed) -> Iterator[Change]:
    bid = rows.get(BIDS.name, (event.bid_id,))
    if bid is not None:
        yield Upsert(BIDS.name, (event.bid_id,), {"state": "refused", "reason": event.why})
        yield from add_to(rows, JOBS, (row.stream,), held=-len(unpack(bid["awarded"], tuple[int, ...])))


def _advanced(_me: PeerId, rows: Rows, row: StoredEvent, event: AllocationAdvanced) -> Iterator[Change]:
    yield from _enter(rows, row, event.allocation_id, event.phase)


def _finished(_me: PeerId, rows: Rows, row: StoredEvent, event: AllocationFinished) -> Iterator[Change]:
    status = event.status
    yield from _enter(rows, row, status.allocation_id, Phase.ENDED)
    yield from change_row(
        rows, ALLOCATIONS, (status.allocation_id,), log_out=status.log_bytes[0], log_err=status.log_bytes[1]
    )


def _enter(rows: Rows, row: StoredEvent, allocation: AllocationId, phase: Phase) -> Iterator[Change]:
    before = rows.get(ALLOCATIONS.name, (allocation,))
    if before is None:
        return
    ran, runs = text(before, "asked_phase") == Phase.RUNNING, phase is Phase.RUNNING
    values: dict[str, Any] = {"asked_phase": phase.value}
    if runs and not number(before, "started_at"):
        values["started_at"] = row.at
    yield Upsert(ALLOCATIONS.name, (allocation,), values)
    yield from add_to(rows, JOBS, (row.stream,), running=runs - ran)


def _attempt_ended(_me: PeerId, rows: Rows, row: StoredEvent, event: AttemptEnded) -> Iterator[Change]:
    if event.provider:
        yield from _enter(rows, row, event.allocation_id, Phase.ENDED)
        yield from add_to(rows, JOBS, (row.stream,), held=-1)
        yield from _close(rows, row, event)
        yield from _judge(rows, event)
    job = rows.get(JOBS.name, (row.stream,))
    is_verified = job is not None and bool(number(job, "verified"))
    yield from add_to(rows, JOBS, (row.stream,), done=int(event.final and not is_verified), price=event.price)
    yield from add_total(rows, "spent", event.price)


def _copy_called(_me: PeerId, rows: Rows, row: StoredEvent, event: CopyCalled) -> Iterator[Change]:
    job = rows.get(JOBS.name, (row.stream,))
    if job is not None:
        yield Upsert(JOBS.name, (row.stream,), {"pieces": pack((*unpack(job["pieces"], tuple[int, ...]), event.piece))})


def _judged(_me: PeerId, rows: Rows, row: StoredEvent, event: ResultJudged) -> Iterator[Change]:
    """A piece of work is over when its result is judged; nothing is owed for a wrong one."""
    unpaid = sum(answer.price for answer in event.wrong)
    yield from add_to(rows, JOBS, (row.stream,), done=1, price=-unpaid)
    yield from add_total(rows, "spent", -unpaid)
    for answer in event.wrong:
        disputed = f"wrong: {difference('price', answer.price, 0)}"
        yield from change_row(rows, ALLOCATIONS, (answer.allocation_id,), price=0, disputed=disputed)


def _close(rows: Rows, row: StoredEvent, event: AttemptEnded) -> Iterator[Change]:
    before = rows.get(ALLOCATIONS.name, (event.allocation_id,))
    if before is None:
        return
    values: dict[str, Any] = {"open_there": 0, "open": number(before, "open_here")}
    if not number(before, "ended_at"):
        values |= {"ended_at": row.at, "ending": pack(event.ending), "price": event.price}
    disputed = difference("price", event.claimed, event.price) if event.claimed else ""
    values |= {"outputs": pack(event.outputs), "disputed": disputed}
    yield Upsert(ALLOCATIONS.name, (event.allocation_id,), values)


def _judge(rows: Rows, event: AttemptEnded) -> Iterator[Change]:
    """Whether the provider is to blame: it is not for a job that fails by itself."""
    kinds = kinds_of(event.ending.reason)
    if not kinds:
        return
    good = Kind.KEPT in kinds
    yield _trusted(rows, event.provider, int(good), int(not good))


def _trusted(rows: Rows, provider: PeerId, successes: int, failures: int) -> Change:
    row = rows.get(TRUST.name, (provider,)) or {"successes": 0, "failures": 0}
    counts = {"successes": number(row, "successes") + successes, "failures": number(row, "failures") + failures}
    return Upsert(TRUST.name, (provider,), dict(counts))


def _succeeded(_me: PeerId, rows: Rows, _row: StoredEvent, event: PeerSucceeded) -> Iterator[Change]:
    before = rows.get(TRUST.name, (event.old,))
    if before is not None:
        yield Delete(TRUST.name, (event.old,))
        yield _trusted(rows, event.new, number(before, "successes"), number(before, "failures"))


def _cancelling(_me: PeerId, rows: Rows, row: StoredEvent, _event: CancelRequested) -> Iterator[Change]:
    yield from change_row(rows, JOBS, (row.stream,), phase="cancelling", detail="is being stopped")


def _ended(_me: PeerId, rows: Rows, row: StoredEvent, event: RequestEnded) -> Iterator[Change]:
    ended = {"phase": "ended", "open": 0, "held": 0, "running": 0, "ended_at": event.at, "price": event.price}
    yield from change_row(
        rows,
        JOBS,
        (row.stream,),
        reason=event.reason.value,
        detail=event.detail,
        **ended,  # type: ignore[arg-type]
    )
    yield from add_total(rows, "jobs_done" if event.reason is EndReason.COMPLETED else "jobs_failed")


HANDLERS: Final[dict[type[Event], Handler]] = {
    RequestOpened: _opened,
    RoundCalled: _asking,
    RequestAnnounced: _announced,
    RequestWaiting: _waiting,
    TurnAwaited: _awaited,
    BidReceived: _bid,
    BidPassedOver: _passed_over,
    BidsReleased: _released,
    AwardMade: _awarded,
    CommitConfirmed: _confirmed,
    CommitFailed: _failed,
    AllocationAdvanced: _advanced,
    AllocationFinished: _finished,
    AttemptEnded: _attempt_ended,
    CopyCalled: _copy_called,
    ResultJudged: _judged,
    CancelRequested: _cancelling,
    RequestEnded: _ended,
    PeerSucceeded: _succeeded,
}
