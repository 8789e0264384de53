"""An allocation gives way, and goes on: what its machine decides. The way of it as a whole: `freezing`."""

from __future__ import annotations

from dms_proto.allocation.endings import stop
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.freezing import (
    AllocationThawed,
    FreezeFailed,
    FreezeRun,
    FreezeWished,
    ThawRun,
    ThawWished,
    frozen_by,
)
from dms_proto.allocation.state import Allocation, LifePhase, reservation_of, status_of
from dms_proto.allocation.stimuli import StopWished
from dms_proto.machine import IGNORED, Decision, Effect, Send
from dms_proto.work import EndReason


def freeze(allocation: Allocation, stimulus: FreezeWished, now: int) -> Decision:
    """It gives way to one more, unless it does already; evicted where it has no time left for that."""
    if stimulus.to in allocation.frozen.priors:
        return IGNORED
    event = frozen_by(allocation.frozen, stimulus, now)
    after = evolve(allocation, event)
    if event.evict_at <= now:
        return _then(Decision((event,)), evict(after, now))
    return Decision((event,), (*as_frozen(after), Send(reservation_of(allocation).requester, status_of(after))))


def thaw(allocation: Allocation, stimulus: ThawWished, now: int) -> Decision:
    """It gives way to one less."""
    if stimulus.to not in allocation.frozen.priors:
        return IGNORED
    event = AllocationThawed(stimulus.to, now)
    after = evolve(allocation, event)
    return Decision((event,), (*as_frozen(after), Send(reservation_of(allocation).requester, status_of(after))))


def not_frozen(allocation: Allocation, _stimulus: FreezeFailed, now: int) -> Decision:
    """What cannot be frozen and still has to give way is evicted."""
    return evict(allocation, now) if allocation.frozen.priors else IGNORED


def evict(allocation: Allocation, now: int) -> Decision:
    """Its capacity is needed, or it was frozen for too long."""
    return stop(allocation, StopWished(EndReason.EVICTED), now)


def as_frozen(allocation: Allocation) -> tuple[Effect, ...]:
    """Has the run stand still or go on, as it should; nothing where it has never been frozen, or does not run yet."""
    if allocation.phase is not LifePhase.RUNNING:
        return ()
    if (until := allocation.frozen.evict_at) is not None:
        return (FreezeRun(until),)
    return (ThawRun(),) if allocation.frozen.times else ()


def as_found(allocation: Allocation) -> tuple[Effect, ...]:
    """The same for a run that was found again: what was done to it last may have been forgotten, so it is told in any case."""
    return (ThawRun(),) if allocation.frozen.evict_at is None else as_frozen(allocation)


def _then(first: Decision, second: Decision) -> Decision:
    return Decision((*first.events, *second.events), (*first.effects, *second.effects))
