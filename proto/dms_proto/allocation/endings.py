"""An allocation is stopped, and ends: for a reason, at a price, told until its receipt comes."""

from __future__ import annotations

from functools import reduce
from typing import Final

import msgspec

from dms_proto.accounts.book import answered, claim
from dms_proto.allocation.effects import Close, FreeCapacity, StopRun
from dms_proto.allocation.events import (
    AllocationEnded,
    EndingRepeated,
    EndingUnclaimed,
    ReceiptDisputed,
    ReceiptReceived,
    StopBegun,
)
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.size_changes import answered_again, kept_at_end
from dms_proto.allocation.state import EARLY, Allocation, is_party, ran_ms, reservation_of, status_of, task_of
from dms_proto.allocation.stimuli import CancelHeard, ReceiptHeard, StopWished
from dms_proto.machine import IGNORED, Decision, Send, TimeCame
from dms_proto.market.agreement import differences
from dms_proto.units import HOUR
from dms_proto.work import NO_LOGS, OWED, Ending, EndReason, Logs, Output

KEEP_MS: Final = 24 * HOUR
"""How long an ending without receipt is repeated, and outputs are kept."""


def cancel(allocation: Allocation, stimulus: CancelHeard, now: int) -> Decision:
    """Its requester stops it; nobody else does."""
    if not is_party(allocation, stimulus.by, stimulus.request_id):
        return IGNORED
    return stop(allocation, StopWished(EndReason.CANCELLED), now)


def stop(allocation: Allocation, stimulus: StopWished, now: int) -> Decision:
    """Ended at once while nothing runs; what runs, or is about to, is asked to stop."""
    return (_stop_early if allocation.phase in EARLY else _stop_run)(allocation, stimulus, now)


def _stop_early(allocation: Allocation, stimulus: StopWished, now: int) -> Decision:
    """Nothing runs yet."""
    ending = Ending(stimulus.reason, detail="stopped before it started")
    return end(allocation, stopped(allocation, ending, stimulus.reason), now)


def _stop_run(allocation: Allocation, stimulus: StopWished, _now: int) -> Decision:
    """What is evicted has the grace of whom it gives way to, if that is less than its own."""
    grace_ms = task_of(allocation).limits.grace_ms
    if stimulus.reason is EndReason.EVICTED:
        grace_ms = min(grace_ms, allocation.frozen.grace_ms)
    return Decision((StopBegun(stimulus.reason),), (StopRun(grace_ms),))


def stopped(allocation: Allocation, ending: Ending, reason: EndReason) -> Ending:
    """The ending of what was stopped for `reason`; of what was evicted it says to whom it gave way."""
    if reason is EndReason.EVICTED:
        return msgspec.structs.replace(ending, reason=reason, detail=f"it gave way: {allocation.frozen.because}")
    return msgspec.structs.replace(ending, reason=reason)


def end(
    allocation: Allocation,
    ending: Ending,
    now: int,
    outputs: tuple[Output, ...] = (),
    logs: Logs = NO_LOGS,
) -> Decision:
    """It is over, billed for as long as it ran if its requester owes that, and its requester is told."""
    reservation = reservation_of(allocation)
    wall_ms = ending.usage.wall_ms or ran_ms(allocation, now)
    billed = allocation.started_at and ending.reason in OWED
    if billed and not ending.usage.wall_ms:  # its executor could not say: the bill names the time it rests on
        ending = msgspec.structs.replace(ending, usage=msgspec.structs.replace(ending.usage, wall_ms=wall_ms))
    owed = allocation.sizes.cost(reservation.tariff, reservation.resources, wall_ms) if billed else 0
    price = min(owed, reservation.price)
    event = AllocationEnded(ending, outputs, logs.lengths, price, now, logs.digests)
    kept = kept_at_end(allocation)
    after = evolve(reduce(evolve, kept, allocation), event)
    entry = claim(reservation.requester, reservation.request_id, reservation.allocation_id, price)
    return Decision((*kept, event), (*entry, FreeCapacity(reservation.allocation_id), *ending_told(after)))


def ending_told(allocation: Allocation) -> tuple[Send, ...]:
    """How it ended, after what its last change came to: the requester works out from both what it owes."""
    return *answered_again(allocation), Send(reservation_of(allocation).requester, status_of(allocation))


def hear_receipt(allocation: Allocation, stimulus: ReceiptHeard, _now: int) -> Decision:
    """Other figures than ours end the repeating as well: the requester would only say them again."""
    receipt = stimulus.receipt
    if not is_party(allocation, stimulus.requester, receipt.request_id):
        return IGNORED
    reservation, disputed = reservation_of(allocation), differences(status_of(allocation), receipt)
    entry = answered(
        reservation.requester,
        reservation.request_id,
        reservation.allocation_id,
        allocation.price,
        receipt.price,
        detail="; ".join(disputed),
    )
    closed = ReceiptDisputed(receipt, disputed) if disputed else ReceiptReceived(receipt.price)
    return Decision((closed,), (*entry, Close()))


def repeat_ending(allocation: Allocation, _stimulus: TimeCame, now: int) -> Decision:
    """No receipt came: told again, in longer and longer pauses, and not for ever."""
    if now < allocation.repeat_at:
        return IGNORED
    if now >= allocation.ended_at + KEEP_MS:
        return Decision((EndingUnclaimed(),), (Close(),))
    return Decision((EndingRepeated(allocation.repeats + 1, now),), ending_told(allocation))
