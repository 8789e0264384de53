"""What an event changes of an allocation."""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.allocation.events import (
    AllocationEnded,
    AllocationInvoked,
    AllocationOpened,
    AllocationReady,
    AllocationStarted,
    EgressBarred,
    EndingRepeated,
    EndingUnclaimed,
    InvocationRefused,
    ReceiptDisputed,
    ReceiptReceived,
    RequesterCameBack,
    RequesterWentAway,
    RunEnded,
    RunSampled,
    StopBegun,
)
from dms_proto.allocation.freezing import AllocationFrozen, AllocationThawed
from dms_proto.allocation.resizing import SizeChanged, SizeChanging, SizeKept
from dms_proto.allocation.state import Allocation, LifePhase, reservation_of, task_of
from dms_proto.machine import Event
from dms_proto.messages import Resized
from dms_proto.work import Logs

REPEAT_MS: Final = (1_000, 2_000, 5_000, 15_000, 60_000)
"""Pauses between repeats of an ending that has no receipt."""


def evolve(allocation: Allocation, event: Event) -> Allocation:  # noqa: C901, PLR0911, PLR0912 - one case per event kind
    """The state after `event`."""
    change = msgspec.structs.replace
    match event:
        case AllocationOpened(reservation=reservation, invoke_by=invoke_by):
            return change(allocation, reservation=reservation, invoke_by=invoke_by, phase=LifePhase.COMMITTED)
        case AllocationInvoked(task=task):
            return change(allocation, task=task, phase=LifePhase.PREPARING)
        case InvocationRefused(why=why):
            return change(allocation, refused=why)
        case AllocationReady():
            return change(allocation, phase=LifePhase.STARTING)
        case AllocationStarted(handle=handle, at=at):
            stopping = allocation.phase is LifePhase.STOPPING
            return change(
                allocation,
                handle=handle,
                started_at=allocation.started_at or at,
                phase=LifePhase.STOPPING if stopping else LifePhase.RUNNING,
            )
        case StopBegun(reason=reason):
            return change(allocation, stopping_for=reason, phase=LifePhase.STOPPING)
        case AllocationFrozen():
            return change(allocation, frozen=allocation.frozen.giving_way(event))
        case AllocationThawed():
            return change(allocation, frozen=allocation.frozen.let_go(event))
        case EgressBarred(barred=barred):
            return change(allocation, barred=(*allocation.barred, barred))
        case RunSampled(usage=usage):
            return change(allocation, usage=usage)
        case RunEnded(ending=ending):
            return change(allocation, ending=ending, usage=ending.usage, phase=LifePhase.STORING)
        case AllocationEnded(ending=ending, outputs=outputs, price=price, at=at):
            return change(
                allocation,
                phase=LifePhase.ENDED,
                ending=ending,
                usage=ending.usage,
                outputs=outputs,
                logs=Logs(event.log_bytes, event.log_digests),
                price=price,
                ended_at=at,
                repeat_at=at + REPEAT_MS[0],
                gone_until=0,
            )
        case EndingRepeated(repeat=repeat, at=at):
            pause = REPEAT_MS[min(repeat, len(REPEAT_MS) - 1)]
            return change(allocation, repeats=repeat, repeat_at=at + pause)
        case ReceiptReceived() | ReceiptDisputed() | EndingUnclaimed():
            return change(allocation, phase=LifePhase.CLOSED)
        case SizeChanging(change=wanted, resources=to):
            return change(allocation, sizes=change(allocation.sizes, changing=wanted, to=to))
        case SizeChanged(answer=answer):
            return _resized(allocation, answer)
        case SizeKept(answer=answer):
            return change(allocation, sizes=change(allocation.sizes, changing=None, to=None, answer=answer))
        case RequesterWentAway(until=until):
            return change(allocation, gone_until=until)
        case RequesterCameBack():
            return change(allocation, gone_until=0)
        case _:
            return allocation


def _resized(allocation: Allocation, answer: Resized) -> Allocation:
    reservation, sizes, change = reservation_of(allocation), allocation.sizes, msgspec.structs.replace
    assert sizes.changing is not None and sizes.to is not None, "what has changed was changing"  # noqa: PT018 - one fact
    after = change(sizes.changed(reservation.resources, sizes.to, answer.at_ms), answer=answer)
    held = change(reservation, resources=sizes.to, price=sizes.changing.price)
    return change(allocation, reservation=held, task=change(task_of(allocation), resources=sizes.to), sizes=after)
