"""Read models of this node as a provider: requests heard, bids made, allocations run for others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from dms.node.projecting.requester import Handler, new_allocation
from dms.node.projecting.tables import (
    ALLOCATIONS,
    BIDS,
    REQUESTS,
    add_total,
    change_row,
    number,
    pack,
    text,
)
from dms.store.projections import Rows
from dms.store.tables import Change, Upsert
from dms_actors.ports import StoredEvent
from dms_proto.allocation.events import (
    AllocationEnded,
    AllocationInvoked,
    AllocationStarted,
    ReceiptDisputed,
    RunEnded,
    StopBegun,
)
from dms_proto.capability import Capability
from dms_proto.ids import PeerId
from dms_proto.machine import Event
from dms_proto.market.offer_state import (
    BidCommitted,
    BidMade,
    CommitTurnedDown,
    LockExpired,
    LockReleased,
    RequestDeclined,
    RequestWithdrawn,
)
from dms_proto.messages import Phase

RECEIVED: Final = "received"


def _bid(me: PeerId, rows: Rows, row: StoredEvent, event: BidMade) -> Iterator[Change]:
    bid, lock = event.bid, event.lock
    yield from _heard(rows, bid.request_id)
    values: dict[str, Any] = {"requester": lock.requester, "round": bid.round, "answer": "bid", "outcome": "open"}
    values |= {"clauses": pack(())}
    if rows.get(REQUESTS.name, (bid.request_id, RECEIVED)) is None:
        # The bid names what was locked, not all that was asked for.
        needs = Capability(resources=lock.slots[0], max_wall_ms=lock.wall_ms)
        values |= {"at": row.at, "count": len(lock.slots), "max_price": bid.price, "needs": pack(needs)}
    if event.stands is not None:
        values |= _asked(event.stands)
    yield Upsert(REQUESTS.name, (bid.request_id, RECEIVED), values)
    yield Upsert(
        BIDS.name,
        (bid.bid_id,),
        {
            "request_id": bid.request_id,
            "provider": me,
            "requester": lock.requester,
            "state": "open",
            "reason": "",
            "sent": 1,
            "received": 0,
            "at": row.at,
            "valid_until": bid.valid_until,
            "bid": pack(bid),
            "awarded": pack(()),
        },
    )
    yield from add_total(rows, "bids")


def _asked(request: msgspec.Struct) -> dict[str, Any]:
    count, max_price, needs = (getattr(request, name) for name in ("count", "max_price", "needs"))
    return {"count": count, "max_price": max_price, "needs": pack(needs)}


def _heard(rows: Rows, request_id: str) -> Iterator[Change]:
    if rows.get(REQUESTS.name, (request_id, RECEIVED)) is None:
        yield from add_total(rows, "heard")


def _declined(_me: PeerId, rows: Rows, row: StoredEvent, event: RequestDeclined) -> Iterator[Change]:
    request = event.request
    yield from _heard(rows, request.request_id)
    before = rows.get(REQUESTS.name, (request.request_id, RECEIVED))
    values: dict[str, Any] = {
        "requester": event.requester,
        "round": request.round,
        "answer": "standing" if event.stands_until else "declined",
        "clauses": pack(event.clauses),
    }
    if before is None:
        values |= {"at": row.at, "outcome": ""}
    yield Upsert(REQUESTS.name, (request.request_id, RECEIVED), values | _asked(request))
    yield from add_total(rows, "declines")


def _withdrawn(_me: PeerId, rows: Rows, _row: StoredEvent, event: RequestWithdrawn) -> Iterator[Change]:
    before = rows.get(REQUESTS.name, (event.request_id, RECEIVED))
    if before is not None and text(before, "answer") == "standing":
        yield Upsert(REQUESTS.name, (event.request_id, RECEIVED), {"answer": "declined"})


def _unlocked(state: str, reason: str) -> Handler:
    def handle(_me: PeerId, rows: Rows, _row: StoredEvent, event: LockReleased | LockExpired) -> Iterator[Change]:
        bid = rows.get(BIDS.name, (event.bid_id,))
        if bid is None:
            return  # what the owner held back
        if text(bid, "state") == "open":
            yield Upsert(BIDS.name, (event.bid_id,), {"state": state, "reason": reason})
        yield from change_row(rows, REQUESTS, (bid["request_id"], RECEIVED), outcome="lost")

    return handle


def _committed(me: PeerId, rows: Rows, row: StoredEvent, event: BidCommitted) -> Iterator[Change]:
    bid = rows.get(BIDS.name, (event.bid_id,))
    if bid is not None:
        yield Upsert(BIDS.name, (event.bid_id,), {"state": "committed"})
        yield from change_row(rows, REQUESTS, (bid["request_id"], RECEIVED), outcome="won")
    yield from add_total(rows, "won")
    for reservation in event.reservations:
        key = (reservation.allocation_id,)
        values: dict[str, Any] = {"provided": 1, "open": 1, "open_here": 1, "run_phase": Phase.COMMITTED.value}
        if rows.get(ALLOCATIONS.name, key) is None:
            values |= new_allocation(
                reservation.request_id, event.bid_id, reservation.slot, me, event.requester, row.at
            )
        yield Upsert(ALLOCATIONS.name, key, values)


def _turned_down(_me: PeerId, rows: Rows, _row: StoredEvent, event: CommitTurnedDown) -> Iterator[Change]:
    bid = rows.get(BIDS.name, (event.bid_id,))
    if bid is not None and number(bid, "sent") and text(bid, "state") == "open":
        yield Upsert(BIDS.name, (event.bid_id,), {"reason": f"a commit was refused: {event.refusal}"})


def _invoked(_me: PeerId, rows: Rows, row: StoredEvent, event: AllocationInvoked) -> Iterator[Change]:
    yield from change_row(rows, ALLOCATIONS, (row.stream,), run_phase=Phase.PREPARING.value, task=pack(event.task))


def _started(_me: PeerId, rows: Rows, row: StoredEvent, event: AllocationStarted) -> Iterator[Change]:
    before = rows.get(ALLOCATIONS.name, (row.stream,))
    if before is not None:
        stopping = text(before, "run_phase") == Phase.STOPPING
        phase = Phase.STOPPING if stopping else Phase.RUNNING
        yield Upsert(ALLOCATIONS.name, (row.stream,), {"run_phase": phase.value, "started_at": event.at})


def _stopping(_me: PeerId, rows: Rows, row: StoredEvent, _event: StopBegun | RunEnded) -> Iterator[Change]:
    yield from change_row(rows, ALLOCATIONS, (row.stream,), run_phase=Phase.STOPPING.value)


def _ended(_me: PeerId, rows: Rows, row: StoredEvent, event: AllocationEnded) -> Iterator[Change]:
    before = rows.get(ALLOCATIONS.name, (row.stream,))
    if before is None:
        return
    yield Upsert(
        ALLOCATIONS.name,
        (row.stream,),
        {
            "run_phase": Phase.ENDED.value,
            "open_here": 0,
            "open": number(before, "open_there"),
            "ended_at": event.at,
            "price": event.price,
            "ending": pack(event.ending),
            "outputs": pack(event.outputs),
            "log_out": event.log_bytes[0],
            "log_err": event.log_bytes[1],
        },
    )
    yield from add_total(rows, "earned", event.price)


def _disputed(_me: PeerId, rows: Rows, row: StoredEvent, event: ReceiptDisputed) -> Iterator[Change]:
    yield from change_row(rows, ALLOCATIONS, (row.stream,), disputed="; ".join(event.differences))


HANDLERS: Final[dict[type[Event], Handler]] = {
    BidMade: _bid,
    RequestDeclined: _declined,
    RequestWithdrawn: _withdrawn,
    LockReleased: _unlocked("released", "its requester took another"),
    LockExpired: _unlocked("expired", "it was not taken in time"),
    BidCommitted: _committed,
    CommitTurnedDown: _turned_down,
    AllocationInvoked: _invoked,
    AllocationStarted: _started,
    StopBegun: _stopping,
    RunEnded: _stopping,
    AllocationEnded: _ended,
    ReceiptDisputed: _disputed,
}
