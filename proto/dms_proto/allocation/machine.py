"""An allocation's life at its provider, from the commit to the receipt.

::

    COMMITTED ──invoked──▶ PREPARING ──inputs here──▶ RUNNING ──exited──▶ (outputs stored) ──▶ ENDED ──receipt──▶ closed
        │ not invoked in time    │ inputs not to be had   ▲ │ cancel, node stops, requester gone
        └────────────────────────┴──────────▶ ENDED       │ ▼
                                                        STOPPING ──exited──▶ ENDED

While it runs, or is on its way there, it may have to give way: frozen, thawed, evicted (`freezing`).

It always ends, with exactly one reason. The capacity goes back when nothing of it runs any more. The ending is repeated to the requester
until its receipt comes, because either machine may be off when it happens.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.accounts.book import answered, claim
from dms_proto.allocation.freezing import (
    AllocationFrozen,
    AllocationThawed,
    FreezeFailed,
    FreezeRun,
    FreezeWished,
    Frozen,
    ThawRun,
    ThawWished,
    frozen_by,
)
from dms_proto.allocation.resizing import (
    SetSize,
    SettleSize,
    SizeChanged,
    SizeChanging,
    SizeKept,
    SizeSet,
    SizeWished,
    answer_to,
)
from dms_proto.checkpoints import brought_home, is_at_checkpoint
from dms_proto.egress import MAX_BARRED, Barred
from dms_proto.ids import NO_DIGESTS, AllocationId, Digest, PeerId, RequestId
from dms_proto.machine import (
    IGNORED,
    Blame,
    Decision,
    Effect,
    Event,
    Row,
    Send,
    Stimulus,
    Table,
    TimeCame,
    Transient,
    earliest,
    ignore,
)
from dms_proto.market.agreement import differences
from dms_proto.market.ledger import Reservation
from dms_proto.market.offer_judgement import task_fits
from dms_proto.market.sizes import UNCHANGED, Sizes
from dms_proto.messages import AllocationStatus, InvocationAck, Phase, Receipt, Resized
from dms_proto.units import HOUR, MINUTE
from dms_proto.wire import Offence
from dms_proto.work import NO_LOGS, OWED, Ending, EndReason, Logs, Output, Task, Usage

REPEAT_MS: Final = (1_000, 2_000, 5_000, 15_000, 60_000)
"""Pauses between repeats of an ending that has no receipt."""
KEEP_MS: Final = 24 * HOUR
"""How long an ending without receipt is repeated, and outputs are kept."""
REQUESTER_GONE_MS: Final = 15 * MINUTE
"""How long work goes on for a requester that cannot be reached."""


# ---------------------------------------------------------------------------------------------------------------- stimuli


class Opened(Stimulus, frozen=True):
    """A commit reserved capacity; `task` if it carried the invocation."""

    reservation: Reservation
    task: Task | None
    invoke_within_ms: int


class Invoked(Stimulus, frozen=True):
    """An invocation from `requester`, for an allocation of its request. Repeating it asks for the status.

    `missing`: the right to it that was not shown, in words. What has begun goes on without.
    """

    requester: PeerId
    request_id: RequestId
    task: Task
    missing: str = ""


Fetched = tuple[tuple[PeerId, int], ...]


class InputsArrived(Stimulus, frozen=True):
    """All inputs are here and verified; or (`failed` non-empty) they are not. `ours`: it is this node that failed, not who has them.

    `fetched`: bytes of each node that served them; nothing of what was here before.
    """

    failed: str = ""
    ours: bool = False
    fetched: Fetched = ()


class RunStarted(Stimulus, frozen=True):
    """The executor has started it; `handle` finds it again after a restart of the node."""

    handle: str


class RunUsed(Stimulus, frozen=True):
    """Cumulative use so far."""

    usage: Usage


class RunBarred(Stimulus, frozen=True):
    """A connection of it to elsewhere was refused. After a restart of the node it comes again."""

    barred: Barred


class RunExited(Stimulus, frozen=True):
    """Nothing of it runs any more. `logs`: what it has written."""

    ending: Ending
    logs: Logs = NO_LOGS


class OutputsStored(Stimulus, frozen=True):
    """What it left is in the blob store; or could not be taken (`failed`). `ours`: it is this node that failed, not what was left."""

    outputs: tuple[Output, ...] = ()
    logs: Logs = NO_LOGS
    failed: str = ""
    ours: bool = False


class CancelHeard(Stimulus, frozen=True):
    """A node wants an allocation of its request stopped."""

    by: PeerId
    request_id: RequestId


class StopWished(Stimulus, frozen=True):
    """This node wants it stopped: for its owner, or because nobody waits for it any more. `reason` says which."""

    reason: EndReason


class ReceiptHeard(Stimulus, frozen=True):
    """`requester` has the ending, and states what it owes."""

    requester: PeerId
    receipt: Receipt


class RequesterGone(Stimulus, frozen=True):
    """The requester cannot be reached."""


class RequesterBack(Stimulus, frozen=True):
    """The requester can be reached again."""


class NodeRestarted(Stimulus, frozen=True):
    """The node process is new. `adopted`: the run was found alive and is being watched again."""

    adopted: bool


# ----------------------------------------------------------------------------------------------------------------- events


class AllocationOpened(Event, frozen=True):
    """Capacity is reserved for it."""

    reservation: Reservation
    invoke_by: int
    at: int


class AllocationInvoked(Event, frozen=True):
    """It has its work."""

    task: Task


class InvocationRefused(Event, frozen=True):
    """An invocation did not match what was agreed."""

    why: str


class AllocationReady(Event, frozen=True):
    """Its inputs are here; it is handed to the executor. `fetched`: bytes of each node that served them."""

    fetched: Fetched = ()


class AllocationStarted(Event, frozen=True):
    """It runs."""

    handle: str
    at: int


class RunSampled(Transient, frozen=True):
    """The run has used this much so far."""

    usage: Usage


class EgressBarred(Event, frozen=True):
    """A connection of it to elsewhere was refused. Written once for each destination and reason."""

    barred: Barred
    at: int


class StopBegun(Event, frozen=True):
    """It is being stopped, for `reason`."""

    reason: EndReason


class RunEnded(Event, frozen=True):
    """Nothing of it runs any more; what it left is being stored."""

    ending: Ending


class AllocationEnded(Event, frozen=True):
    """It is over: how, what it left, and what is owed for it."""

    ending: Ending
    outputs: tuple[Output, ...]
    log_bytes: tuple[int, int]
    price: int
    at: int
    log_digests: tuple[Digest, Digest] = NO_DIGESTS


class EndingRepeated(Event, frozen=True):
    """The ending was sent again, no receipt having come."""

    repeat: int
    at: int


class ReceiptReceived(Event, frozen=True):
    """The requester has the ending, and accepts this price; what it left may go."""

    price: int = 0


class ReceiptDisputed(Event, frozen=True):
    """The requester has the ending, and its receipt states other figures than the status did. What it left may go."""

    receipt: Receipt
    differences: tuple[str, ...]


class EndingUnclaimed(Event, frozen=True):
    """No receipt ever came; what it left may go."""


CLOSING: Final = (ReceiptReceived, ReceiptDisputed, EndingUnclaimed)
"""Events after which nothing of an allocation is left to do."""


class RequesterWentAway(Event, frozen=True):
    """The requester cannot be reached; the work goes on until `until`."""

    until: int


class RequesterCameBack(Event, frozen=True):
    """The requester can be reached again."""


# ---------------------------------------------------------------------------------------------------------------- effects


class FetchInputs(Effect, frozen=True):
    """Get and verify the task's inputs, lay them out; then say `InputsArrived`."""

    requester: PeerId
    task: Task


class Execute(Effect, frozen=True):
    """Run the task; then say `RunStarted`, `RunUsed` …, `RunExited`."""

    task: Task


class StopRun(Effect, frozen=True):
    """Stop the run, killing it after the grace; `RunExited` follows."""

    grace_ms: int


class StoreOutputs(Effect, frozen=True):
    """Take logs into the blob store, and what the task's `outputs` name: of a run that is to go on, its checkpoint. Then say `OutputsStored`."""

    task: Task | None


class FreeCapacity(Effect, frozen=True):
    """Tell the offer book that the reservation is over."""

    allocation_id: AllocationId


class Close(Effect, frozen=True):
    """The allocation's directory and outputs may be removed; the actor ends."""


# ------------------------------------------------------------------------------------------------------------------ state


class LifePhase(StrEnum):
    """Where an allocation is, in more detail than the requester is told (`messages.Phase`)."""

    NEW = "new"
    COMMITTED = "committed"
    PREPARING = "preparing"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STORING = "storing"
    ENDED = "ended"
    CLOSED = "closed"


TOLD: Final[dict[LifePhase, Phase]] = {
    LifePhase.NEW: Phase.COMMITTED,
    LifePhase.COMMITTED: Phase.COMMITTED,
    LifePhase.PREPARING: Phase.PREPARING,
    LifePhase.STARTING: Phase.PREPARING,
    LifePhase.RUNNING: Phase.RUNNING,
    LifePhase.STOPPING: Phase.STOPPING,
    LifePhase.STORING: Phase.STOPPING,
    LifePhase.ENDED: Phase.ENDED,
    LifePhase.CLOSED: Phase.ENDED,
}
"""What the requester is told of each phase."""


class Allocation(msgspec.Struct, frozen=True):
    """The state of one allocation.

    Attributes:
        started_at: Unix ms; 0 before.
        usage: last figures heard; not stored until the end.
        stopping_for: why it is being stopped.
        repeats, repeat_at: of the ending without receipt.
        gone_until: when to stop for want of a requester; 0 while it can be reached.
        refused: why an invocation was refused; others after it are refused without being written down.
        frozen: whether it gives way to somebody now.
        barred: connections that were refused, at most `MAX_BARRED`.
        sizes: what it held before what it holds now.
    """

    reservation: Reservation | None = None
    phase: LifePhase = LifePhase.NEW
    task: Task | None = None
    invoke_by: int = 0
    handle: str = ""
    started_at: int = 0
    usage: Usage = Usage()
    stopping_for: EndReason | None = None
    ending: Ending | None = None
    outputs: tuple[Output, ...] = ()
    logs: Logs = NO_LOGS
    price: int = 0
    ended_at: int = 0
    repeats: int = 0
    repeat_at: int = 0
    gone_until: int = 0
    refused: str = ""
    frozen: Frozen = Frozen()
    barred: tuple[Barred, ...] = ()
    sizes: Sizes = UNCHANGED


def next_deadline(allocation: Allocation) -> int | None:
    """When time alone changes something."""
    return earliest(
        allocation.invoke_by if allocation.phase is LifePhase.COMMITTED else None,
        allocation.repeat_at if allocation.phase is LifePhase.ENDED else None,
        allocation.gone_until or None if allocation.phase in _WORKING else None,
        allocation.frozen.evict_at if allocation.phase in _GIVING_WAY else None,
    )


def resume(allocation: Allocation) -> tuple[Effect, ...]:
    """After a restart: the step that was under way is taken again. For a run, the shell first says `NodeRestarted`."""
    match allocation.phase:
        case LifePhase.PREPARING:
            return (FetchInputs(_of(allocation).requester, _task(allocation)),)
        case LifePhase.STORING:
            return (_take_in(allocation),)
        case LifePhase.ENDED:
            return (FreeCapacity(_of(allocation).allocation_id), Send(_of(allocation).requester, status_of(allocation)))
        case LifePhase.CLOSED:
            return (FreeCapacity(_of(allocation).allocation_id), Close())
        case LifePhase.RUNNING if allocation.sizes.answer is not None:
            return _told_again(allocation)
        case _:
            return ()


def status_of(allocation: Allocation) -> AllocationStatus:
    """What the requester is told. The number grows with the phase, so that an older status is recognised."""
    reservation, told = _of(allocation), TOLD[allocation.phase]
    ended = told is Phase.ENDED
    frozen = allocation.frozen if allocation.phase in _GIVING_WAY else Frozen()
    return AllocationStatus(
        request_id=reservation.request_id,
        allocation_id=reservation.allocation_id,
        number=list(Phase).index(told),
        phase=told,
        usage=allocation.usage,
        ending=allocation.ending if ended else None,
        outputs=allocation.outputs,
        log_bytes=allocation.logs.lengths,
        log_digests=allocation.logs.digests,
        price=allocation.price,
        frozen=frozen.because,
        evict_after_ms=frozen.evict_after_ms,
    )


# ----------------------------------------------------------------------------------------------------------------- decide


def decide(allocation: Allocation, stimulus: Stimulus, now: int) -> Decision:
    """What the provider does about `stimulus` at `now` (Unix ms)."""
    return TABLE[allocation.phase, type(stimulus)].handler(allocation, stimulus, now)


def _open(_allocation: Allocation, stimulus: Opened, now: int) -> Decision:
    opened = AllocationOpened(stimulus.reservation, now + stimulus.invoke_within_ms, now)
    if stimulus.task is None:
        return Decision((opened,))
    events, effect = _begin(stimulus.reservation.requester, stimulus.task)
    return Decision((opened, *events), (effect,))


def _begin(requester: PeerId, task: Task) -> tuple[tuple[Event, ...], Effect]:
    """It has its work. Without inputs to wait for it is handed to the executor at once."""
    if task.inputs or task.datasets:
        return (AllocationInvoked(task),), FetchInputs(requester, task)
    return (AllocationInvoked(task), AllocationReady()), Execute(task)


def _invoke(allocation: Allocation, stimulus: Invoked, _now: int) -> Decision:
    reservation = _of(allocation)
    if not _is_party(allocation, stimulus.requester, stimulus.request_id):
        return _turn_away(allocation, stimulus)
    why = stimulus.missing
    if not task_fits(stimulus.task, reservation.resources, reservation.wall_ms):
        why = "the task asks for more than was committed"
    if why:
        told = () if allocation.refused else (InvocationRefused(why),)
        return Decision(told, (_ack(allocation, stimulus.requester, why),))
    events, effect = _begin(reservation.requester, stimulus.task)
    return Decision(events, (_ack(allocation, stimulus.requester), effect))


def _tell(allocation: Allocation, stimulus: Invoked, _now: int) -> Decision:
    """A repeated invocation asks where it stands."""
    if not _is_party(allocation, stimulus.requester, stimulus.request_id):
        return _turn_away(allocation, stimulus)
    return Decision((), (_ack(allocation, stimulus.requester), Send(stimulus.requester, status_of(allocation))))


def _turn_away(allocation: Allocation, stimulus: Invoked) -> Decision:
    """Is told of nothing but what it said itself."""
    why = "it was committed to somebody else"
    answer = InvocationAck(stimulus.request_id, _of(allocation).allocation_id, why)
    return Decision((), (Send(stimulus.requester, answer),))


def _inputs(allocation: Allocation, stimulus: InputsArrived, now: int) -> Decision:
    if stimulus.failed:
        reason = EndReason.PROVIDER_FAULT if stimulus.ours else EndReason.INPUT_UNAVAILABLE
        return _end(allocation, Ending(reason, detail=stimulus.failed), now)
    return Decision((AllocationReady(stimulus.fetched),), (Execute(_task(allocation)),))


def _started(allocation: Allocation, stimulus: RunStarted, now: int) -> Decision:
    event = AllocationStarted(stimulus.handle, now)
    after = evolve(allocation, event)
    return Decision((event,), (*_as_frozen(after), Send(_of(allocation).requester, status_of(after))))


def _started_while_stopping(allocation: Allocation, stimulus: RunStarted, now: int) -> Decision:
    return Decision((AllocationStarted(stimulus.handle, now),), (StopRun(_task(allocation).limits.grace_ms),))


def _used(allocation: Allocation, stimulus: RunUsed, _now: int) -> Decision:
    """Told, not stored: the next sample replaces it, and the final figures come with the end."""
    event = RunSampled(stimulus.usage)
    return Decision((event,), (Send(_of(allocation).requester, status_of(evolve(allocation, event))),))


def _barred(allocation: Allocation, stimulus: RunBarred, now: int) -> Decision:
    if stimulus.barred in allocation.barred or len(allocation.barred) >= MAX_BARRED:
        return IGNORED
    return Decision((EgressBarred(stimulus.barred, now),))


def _exited(allocation: Allocation, stimulus: RunExited, now: int) -> Decision:
    """With outputs to be taken in, these come first; without, this is the end."""
    ending = stimulus.ending
    if allocation.stopping_for is not None and ending.reason is not EndReason.COMPLETED:
        ending = _stopped(allocation, ending, allocation.stopping_for)
    ended = RunEnded(ending)
    left = evolve(allocation, ended)
    if allocation.task is None or brought_home(allocation.task, ending):
        return Decision((ended,), (_take_in(left),))
    over = _end(left, ending, now, logs=stimulus.logs)
    return Decision((ended, *over.events), over.effects)


def _take_in(allocation: Allocation) -> StoreOutputs:
    task, ending = allocation.task, allocation.ending
    if task is not None and ending is not None:
        task = msgspec.structs.replace(task, outputs=brought_home(task, ending))
    return StoreOutputs(task)


def _stored(allocation: Allocation, stimulus: OutputsStored, now: int) -> Decision:
    ending = allocation.ending
    assert ending is not None, "what a run left is stored after the run has ended"
    is_checkpoint = ending.reason is EndReason.EXIT_NONZERO and is_at_checkpoint(_task(allocation), ending)
    if stimulus.failed and (is_checkpoint or ending.reason is EndReason.COMPLETED):
        reason = EndReason.PROVIDER_FAULT if stimulus.ours else EndReason.DISK_LIMIT
        ending = Ending(reason, ending.exit_code, stimulus.failed, ending.usage)
    elif is_checkpoint:
        ending = _checkpointed(_task(allocation), ending, stimulus.outputs)
    return _end(allocation, ending, now, stimulus.outputs, stimulus.logs)


def _checkpointed(task: Task, ending: Ending, left: tuple[Output, ...]) -> Ending:
    """How a run ended that says it has left a checkpoint."""
    if left:
        return Ending(EndReason.CHECKPOINTED, ending.exit_code, f"it goes on from {task.checkpoint}", ending.usage)
    detail = f"exit code {ending.exit_code}, and there is no file at its checkpoint {task.checkpoint}"
    return Ending(EndReason.EXIT_NONZERO, ending.exit_code, detail, ending.usage)


def _cancel(allocation: Allocation, stimulus: CancelHeard, now: int) -> Decision:
    if not _is_party(allocation, stimulus.by, stimulus.request_id):
        return IGNORED
    return decide(allocation, StopWished(EndReason.CANCELLED), now)


def _stop_early(allocation: Allocation, stimulus: StopWished, now: int) -> Decision:
    """Nothing runs yet."""
    ending = Ending(stimulus.reason, detail="stopped before it started")
    return _end(allocation, _stopped(allocation, ending, stimulus.reason), now)


def _stop_run(allocation: Allocation, stimulus: StopWished, _now: int) -> Decision:
    """What is evicted has the grace of whom it gives way to, if that is less than its own."""
    grace_ms = _task(allocation).limits.grace_ms
    if stimulus.reason is EndReason.EVICTED:
        grace_ms = min(grace_ms, allocation.frozen.grace_ms)
    return Decision((StopBegun(stimulus.reason),), (StopRun(grace_ms),))


def _stopped(allocation: Allocation, ending: Ending, reason: EndReason) -> Ending:
    """The ending of what was stopped for `reason`; of what was evicted it says to whom it gave way."""
    if reason is EndReason.EVICTED:
        return msgspec.structs.replace(ending, reason=reason, detail=f"it gave way: {allocation.frozen.because}")
    return msgspec.structs.replace(ending, reason=reason)


# ------------------------------------------------------------------------------------------------------ decide: giving way


def _freeze(allocation: Allocation, stimulus: FreezeWished, now: int) -> Decision:
    if stimulus.to in allocation.frozen.priors:
        return IGNORED
    event = frozen_by(allocation.frozen, stimulus, now)
    after = evolve(allocation, event)
    if event.evict_at <= now:
        return _then(Decision((event,)), _evict(after, now))
    return Decision((event,), (*_as_frozen(after), Send(_of(allocation).requester, status_of(after))))


def _thaw(allocation: Allocation, stimulus: ThawWished, now: int) -> Decision:
    if stimulus.to not in allocation.frozen.priors:
        return IGNORED
    event = AllocationThawed(stimulus.to, now)
    after = evolve(allocation, event)
    return Decision((event,), (*_as_frozen(after), Send(_of(allocation).requester, status_of(after))))


def _not_frozen(allocation: Allocation, _stimulus: FreezeFailed, now: int) -> Decision:
    return _evict(allocation, now) if allocation.frozen.priors else IGNORED


def _evict(allocation: Allocation, now: int) -> Decision:
    return decide(allocation, StopWished(EndReason.EVICTED), now)


def _as_frozen(allocation: Allocation) -> tuple[Effect, ...]:
    """Has the run stand still or go on, as it should; nothing where it has never been frozen, or does not run yet."""
    if allocation.phase is not LifePhase.RUNNING:
        return ()
    if (until := allocation.frozen.evict_at) is not None:
        return (FreezeRun(until),)
    return (ThawRun(),) if allocation.frozen.times else ()


def _then(first: Decision, second: Decision) -> Decision:
    return Decision((*first.events, *second.events), (*first.effects, *second.effects))


def _receipt(allocation: Allocation, stimulus: ReceiptHeard, _now: int) -> Decision:
    """Other figures than ours end the repeating as well: the requester would only say them again."""
    receipt = stimulus.receipt
    if not _is_party(allocation, stimulus.requester, receipt.request_id):
        return IGNORED
    reservation, disputed = _of(allocation), differences(status_of(allocation), receipt)
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


def _gone(allocation: Allocation, _stimulus: RequesterGone, now: int) -> Decision:
    return IGNORED if allocation.gone_until else Decision((RequesterWentAway(now + REQUESTER_GONE_MS),))


def _back(allocation: Allocation, _stimulus: RequesterBack, _now: int) -> Decision:
    told = Send(_of(allocation).requester, status_of(allocation))
    return Decision((RequesterCameBack(),) if allocation.gone_until else (), (told,))


def _back_after_end(allocation: Allocation, _stimulus: RequesterBack, _now: int) -> Decision:
    return Decision((), (Send(_of(allocation).requester, status_of(allocation)),))


def _restarted(allocation: Allocation, stimulus: NodeRestarted, now: int) -> Decision:
    """What ran while the node was away is adopted, or honestly marked lost."""
    if stimulus.adopted:
        stop = (StopRun(_task(allocation).limits.grace_ms),) if allocation.phase is LifePhase.STOPPING else ()
        again = (*stop, *_as_frozen(allocation), *_set_again(allocation))
        return Decision((), (*again, Send(_of(allocation).requester, status_of(allocation))))
    reason = allocation.stopping_for or EndReason.PROVIDER_FAULT
    return _end(allocation, Ending(reason, detail="the node was restarted and the run did not survive"), now)


def _restarted_starting(allocation: Allocation, stimulus: NodeRestarted, now: int) -> Decision:
    """Handed to the executor, and the node died before it heard of a start.

    What is not running now may have run and ended meanwhile. An allocation never runs twice, so it ends; the requester decides what then.
    """
    if stimulus.adopted:
        return _started(allocation, RunStarted(allocation.handle), now)
    lost = Ending(EndReason.PROVIDER_FAULT, detail="the node was restarted while the run was being started")
    return _end(allocation, lost, now)


def _time(allocation: Allocation, _stimulus: TimeCame, now: int) -> Decision:
    if allocation.phase is LifePhase.COMMITTED and now >= allocation.invoke_by:
        ending = Ending(EndReason.NOT_INVOKED, detail="no invocation came in time")
        return _end(allocation, ending, now).then(Blame(_of(allocation).requester, Offence.ABANDONED))
    if allocation.frozen.evict_at is not None and now >= allocation.frozen.evict_at:
        return _evict(allocation, now)
    if allocation.phase in _WORKING and allocation.gone_until and now >= allocation.gone_until:
        return decide(allocation, StopWished(EndReason.REQUESTER_LOST), now)
    return IGNORED


def _repeat(allocation: Allocation, _stimulus: TimeCame, now: int) -> Decision:
    if now < allocation.repeat_at:
        return IGNORED
    if now >= allocation.ended_at + KEEP_MS:
        return Decision((EndingUnclaimed(),), (Close(),))
    told = Send(_of(allocation).requester, status_of(allocation))
    return Decision((EndingRepeated(allocation.repeats + 1, now),), (told,))


def _change_size(allocation: Allocation, stimulus: SizeWished, _now: int) -> Decision:
    """One change after the other: the offer book sees to it. A repeat gets the answer that there is."""
    change, sizes = stimulus.change, allocation.sizes
    if change.number <= sizes.number:
        return Decision((), () if sizes.changing is not None else _told_again(allocation))
    return Decision((SizeChanging(change, stimulus.resources),), (SetSize(change.number, stimulus.resources),))


def _refuse_size(allocation: Allocation, stimulus: SizeWished, _now: int) -> Decision:
    """Nothing runs whose limits could change. Once it is over, its capacity is free anyhow."""
    if stimulus.change.number <= allocation.sizes.number:
        return Decision((), _told_again(allocation))
    kept = SizeKept(answer_to(stimulus.change, why_not="its program does not run"))
    return Decision((kept,), _told_again(evolve(allocation, kept)))


def _size_set(allocation: Allocation, stimulus: SizeSet, now: int) -> Decision:
    """What is owed from now on follows the new size. No use that was told already is counted anew."""
    change = allocation.sizes.changing
    if change is None or change.number != stimulus.number:
        return IGNORED
    ran_ms = max(_ran_ms(allocation, now), allocation.usage.wall_ms)
    answer = answer_to(change, at_ms=0 if stimulus.failed else ran_ms, why_not=stimulus.failed)
    event = SizeKept(answer) if stimulus.failed else SizeChanged(answer)
    return Decision((event,), _told_again(evolve(allocation, event)))


def _told_again(allocation: Allocation) -> tuple[Effect, ...]:
    """The last answer to its requester, and what the allocation holds to the offer book."""
    answer, reservation = allocation.sizes.answer, _of(allocation)
    if answer is None:
        return ()
    settle = SettleSize(answer.number, reservation.resources, reservation.price)
    return Send(reservation.requester, answer), settle


def _set_again(allocation: Allocation) -> tuple[Effect, ...]:
    """The change that was under way when the node died."""
    change, to = allocation.sizes.changing, allocation.sizes.to
    return () if change is None or to is None else (SetSize(change.number, to),)


def _ran_ms(allocation: Allocation, now: int) -> int:
    """For how long it has run, by the clock. It may have given way already before it started: nobody owes less than nothing for that."""
    if not allocation.started_at:
        return 0
    return max(0, now - allocation.started_at - allocation.frozen.total_ms(now))


def _end(
    allocation: Allocation,
    ending: Ending,
    now: int,
    outputs: tuple[Output, ...] = (),
    logs: Logs = NO_LOGS,
) -> Decision:
    reservation = _of(allocation)
    ran_ms = ending.usage.wall_ms or _ran_ms(allocation, now)
    billed = allocation.started_at and ending.reason in OWED
    if billed and not ending.usage.wall_ms:  # its executor could not say: the bill names the time it rests on
        ending = msgspec.structs.replace(ending, usage=msgspec.structs.replace(ending.usage, wall_ms=ran_ms))
    owed = allocation.sizes.cost(reservation.tariff, reservation.resources, ran_ms) if billed else 0
    price = min(owed, reservation.price)
    event = AllocationEnded(ending, outputs, logs.lengths, price, now, logs.digests)
    told = Send(reservation.requester, status_of(evolve(allocation, event)))
    entry = claim(reservation.requester, reservation.request_id, reservation.allocation_id, price)
    return Decision((event,), (*entry, FreeCapacity(reservation.allocation_id), told))


def _is_party(allocation: Allocation, peer: PeerId, request_id: RequestId) -> bool:
    """Whether a message is from the requester of the agreement and about its request. Knowing the ids makes nobody a party."""
    reservation = _of(allocation)
    return (peer, request_id) == (reservation.requester, reservation.request_id)


def _ack(allocation: Allocation, requester: PeerId, refused: str = "") -> Send:
    reservation = _of(allocation)
    return Send(requester, InvocationAck(reservation.request_id, reservation.allocation_id, refused))


def _of(allocation: Allocation) -> Reservation:
    assert allocation.reservation is not None, "a new allocation holds nothing"
    return allocation.reservation


def _task(allocation: Allocation) -> Task:
    assert allocation.task is not None, "it was not invoked"
    return allocation.task


# ----------------------------------------------------------------------------------------------------------------- evolve


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
    reservation, sizes, change = _of(allocation), allocation.sizes, msgspec.structs.replace
    assert sizes.changing is not None and sizes.to is not None, "what has changed was changing"  # noqa: PT018 - one fact
    after = change(sizes.changed(reservation.resources, sizes.to, answer.at_ms), answer=answer)
    held = change(reservation, resources=sizes.to, price=sizes.changing.price)
    return change(allocation, reservation=held, task=change(_task(allocation), resources=sizes.to), sizes=after)


# ------------------------------------------------------------------------------------------------------------------ table

_EARLY: Final = (LifePhase.COMMITTED, LifePhase.PREPARING)
_WORKING: Final = (LifePhase.PREPARING, LifePhase.STARTING, LifePhase.RUNNING)
_GIVING_WAY: Final = (*_EARLY, LifePhase.STARTING, LifePhase.RUNNING)
_ACTIVE: Final = (LifePhase.STARTING, LifePhase.RUNNING, LifePhase.STOPPING)
RUNS: Final = _ACTIVE
"""Phases in which something may run on the machine: after a restart of the node it is looked for."""
_AFTER: Final = (LifePhase.STORING, LifePhase.ENDED, LifePhase.CLOSED)
_STIMULI: Final = (
    Opened,
    Invoked,
    InputsArrived,
    RunStarted,
    RunUsed,
    RunBarred,
    RunExited,
    OutputsStored,
    CancelHeard,
    StopWished,
    FreezeWished,
    ThawWished,
    FreezeFailed,
    ReceiptHeard,
    RequesterGone,
    RequesterBack,
    NodeRestarted,
    SizeWished,
    SizeSet,
    TimeCame,
)

TABLE: Final[Table[Allocation]] = {
    **{(phase, kind): ignore("late, repeated or not meant for this phase") for phase in LifePhase for kind in _STIMULI},
    (LifePhase.NEW, Opened): Row(
        _open, "capacity is reserved; with an invocation, its inputs are fetched at once, or it runs"
    ),
    (LifePhase.COMMITTED, Invoked): Row(_invoke, "checked against what was agreed; its inputs are fetched, or it runs"),
    **{
        (phase, Invoked): Row(_tell, "a repeat: answered with the status")
        for phase in (*_WORKING, LifePhase.STOPPING, *_AFTER)
    },
    (LifePhase.PREPARING, InputsArrived): Row(
        _inputs, "handed to the executor, or ended: as INPUT_UNAVAILABLE, or as the fault of this node"
    ),
    (LifePhase.STARTING, RunStarted): Row(_started, "the requester is told"),
    (LifePhase.STOPPING, RunStarted): Row(_started_while_stopping, "it started after all: stopped again"),
    (LifePhase.RUNNING, RunUsed): Row(_used, "the requester is told"),
    **{(phase, RunBarred): Row(_barred, "written down, once") for phase in _ACTIVE},
    (LifePhase.RUNNING, SizeWished): Row(
        _change_size, "its run gets other limits; a repeat gets the answer that there is"
    ),
    **{
        (phase, SizeWished): Row(_refuse_size, "refused: nothing runs whose limits could change")
        for phase in (*_EARLY, LifePhase.STARTING, LifePhase.STOPPING)
    },
    (LifePhase.RUNNING, SizeSet): Row(_size_set, "it holds what was asked for, or what it held; its requester is told"),
    **{
        (phase, RunExited): Row(_exited, "what it left is stored; with nothing to store it is over")
        for phase in _ACTIVE
    },
    (LifePhase.STORING, OutputsStored): Row(_stored, "capacity is freed, the requester is told"),
    **{
        (phase, CancelHeard): Row(_cancel, "its requester stops it; nobody else does")
        for phase in (*_EARLY, LifePhase.STARTING, LifePhase.RUNNING)
    },
    **{(phase, StopWished): Row(_stop_early, "ended: nothing runs yet") for phase in _EARLY},
    (LifePhase.STARTING, StopWished): Row(_stop_run, "stopped as soon as it has started"),
    (LifePhase.RUNNING, StopWished): Row(_stop_run, "asked to stop, killed after the grace"),
    **{
        (phase, FreezeWished): Row(
            _freeze, "halted as soon as it runs, and the requester is told; evicted after a while, or at once"
        )
        for phase in _GIVING_WAY
    },
    **{(phase, ThawWished): Row(_thaw, "goes on if nobody else is before it") for phase in _GIVING_WAY},
    (LifePhase.RUNNING, FreezeFailed): Row(_not_frozen, "evicted: it cannot give way otherwise"),
    (LifePhase.ENDED, ReceiptHeard): Row(_receipt, "what it left may go; other figures than ours are written down"),
    **{(phase, RequesterGone): Row(_gone, "the work goes on for a while") for phase in _WORKING},
    **{
        (phase, RequesterBack): Row(_back, "told where it stands")
        for phase in (*_WORKING, LifePhase.STOPPING, LifePhase.STORING)
    },
    (LifePhase.ENDED, RequesterBack): Row(_back_after_end, "the ending is told again"),
    (LifePhase.STARTING, NodeRestarted): Row(
        _restarted_starting, "adopted if it had started, otherwise ended as lost by this node"
    ),
    **{
        (phase, NodeRestarted): Row(_restarted, "adopted, or ended as lost by this node")
        for phase in (LifePhase.RUNNING, LifePhase.STOPPING)
    },
    **{
        (phase, TimeCame): Row(_time, "not invoked in time, its requester gone too long, or frozen for too long")
        for phase in (LifePhase.COMMITTED, *_WORKING)
    },
    (LifePhase.ENDED, TimeCame): Row(_repeat, "the ending is told again until a receipt comes"),
}
