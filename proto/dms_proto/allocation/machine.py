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

from typing import Final

import msgspec

from dms_proto.allocation.effects import Close, Execute, FetchInputs, FreeCapacity, StopRun, StoreOutputs
from dms_proto.allocation.endings import cancel, end, ending_told, hear_receipt, repeat_ending, stop, stopped
from dms_proto.allocation.events import (
    AllocationInvoked,
    AllocationOpened,
    AllocationReady,
    AllocationStarted,
    EgressBarred,
    InvocationRefused,
    RequesterCameBack,
    RequesterWentAway,
    RunEnded,
    RunSampled,
)
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.freezing import FreezeFailed, FreezeWished, ThawWished
from dms_proto.allocation.giving_way import as_found, as_frozen, evict, freeze, not_frozen, thaw
from dms_proto.allocation.resizing import SizeSet, SizeWished
from dms_proto.allocation.size_changes import answered_again, change_size, refuse_size, set_again, size_set, told_again
from dms_proto.allocation.state import (
    EARLY,
    GIVING_WAY,
    RUNS,
    WORKING,
    Allocation,
    LifePhase,
    is_party,
    reservation_of,
    status_of,
    task_of,
)
from dms_proto.allocation.stimuli import (
    CancelHeard,
    InputsArrived,
    Invoked,
    NodeRestarted,
    Opened,
    OutputsStored,
    ReceiptHeard,
    RequesterBack,
    RequesterGone,
    RunBarred,
    RunExited,
    RunStarted,
    RunUsed,
    StopWished,
)
from dms_proto.checkpoints import brought_home, is_at_checkpoint
from dms_proto.egress import MAX_BARRED
from dms_proto.ids import PeerId
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
    earliest,
    ignore,
)
from dms_proto.market.offer_judgement import task_fits
from dms_proto.messages import InvocationAck
from dms_proto.units import MINUTE
from dms_proto.wire import Offence
from dms_proto.work import Ending, EndReason, Output, Task

REQUESTER_GONE_MS: Final = 15 * MINUTE
"""How long work goes on for a requester that cannot be reached."""


def decide(allocation: Allocation, stimulus: Stimulus, now: int) -> Decision:
    """What the provider does about `stimulus` at `now` (Unix ms)."""
    return TABLE[allocation.phase, type(stimulus)].handler(allocation, stimulus, now)


def next_deadline(allocation: Allocation) -> int | None:
    """When time alone changes something."""
    return earliest(
        allocation.invoke_by if allocation.phase is LifePhase.COMMITTED else None,
        allocation.repeat_at if allocation.phase is LifePhase.ENDED else None,
        allocation.gone_until or None if allocation.phase in WORKING else None,
        allocation.frozen.evict_at if allocation.phase in GIVING_WAY else None,
    )


def resume(allocation: Allocation) -> tuple[Effect, ...]:
    """After a restart: the step that was under way is taken again. For a run, the shell first says `NodeRestarted`."""
    match allocation.phase:
        case LifePhase.PREPARING:
            return (FetchInputs(reservation_of(allocation).requester, task_of(allocation)),)
        case LifePhase.STORING:
            return (_take_in(allocation),)
        case LifePhase.ENDED:
            return FreeCapacity(reservation_of(allocation).allocation_id), *ending_told(allocation)
        case LifePhase.CLOSED:
            return (FreeCapacity(reservation_of(allocation).allocation_id), Close())
        case LifePhase.RUNNING if allocation.sizes.answer is not None:
            return told_again(allocation)
        case _:
            return ()


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
    reservation = reservation_of(allocation)
    if not is_party(allocation, stimulus.requester, stimulus.request_id):
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
    if not is_party(allocation, stimulus.requester, stimulus.request_id):
        return _turn_away(allocation, stimulus)
    told = Send(stimulus.requester, status_of(allocation))
    return Decision((), (_ack(allocation, stimulus.requester), *answered_again(allocation), told))


def _turn_away(allocation: Allocation, stimulus: Invoked) -> Decision:
    """Is told of nothing but what it said itself."""
    why = "it was committed to somebody else"
    answer = InvocationAck(stimulus.request_id, reservation_of(allocation).allocation_id, why)
    return Decision((), (Send(stimulus.requester, answer),))


def _ack(allocation: Allocation, requester: PeerId, refused: str = "") -> Send:
    reservation = reservation_of(allocation)
    return Send(requester, InvocationAck(reservation.request_id, reservation.allocation_id, refused))


def _inputs(allocation: Allocation, stimulus: InputsArrived, now: int) -> Decision:
    if stimulus.failed:
        reason = EndReason.PROVIDER_FAULT if stimulus.ours else EndReason.INPUT_UNAVAILABLE
        return end(allocation, Ending(reason, detail=stimulus.failed), now)
    return Decision((AllocationReady(stimulus.fetched),), (Execute(task_of(allocation)),))


def _started(allocation: Allocation, stimulus: RunStarted, now: int) -> Decision:
    event = AllocationStarted(stimulus.handle, now)
    after = evolve(allocation, event)
    return Decision((event,), (*as_frozen(after), Send(reservation_of(allocation).requester, status_of(after))))


def _started_while_stopping(allocation: Allocation, stimulus: RunStarted, now: int) -> Decision:
    """A run that is adopted says once more that it has started."""
    events = () if allocation.started_at else (AllocationStarted(stimulus.handle, now),)
    return Decision(events, (StopRun(task_of(allocation).limits.grace_ms),))


def _used(allocation: Allocation, stimulus: RunUsed, _now: int) -> Decision:
    """Told, not stored: the next sample replaces it, and the final figures come with the end."""
    event = RunSampled(stimulus.usage)
    return Decision((event,), (Send(reservation_of(allocation).requester, status_of(evolve(allocation, event))),))


def _barred(allocation: Allocation, stimulus: RunBarred, now: int) -> Decision:
    if stimulus.barred in allocation.barred or len(allocation.barred) >= MAX_BARRED:
        return IGNORED
    return Decision((EgressBarred(stimulus.barred, now),))


def _exited(allocation: Allocation, stimulus: RunExited, now: int) -> Decision:
    """With outputs to be taken in, these come first; without, this is the end."""
    ending = stimulus.ending
    if allocation.stopping_for is not None and ending.reason is not EndReason.COMPLETED:
        ending = stopped(allocation, ending, allocation.stopping_for)
    ended = RunEnded(ending)
    left = evolve(allocation, ended)
    if allocation.task is None or brought_home(allocation.task, ending):
        return Decision((ended,), (_take_in(left),))
    over = end(left, ending, now, logs=stimulus.logs)
    return Decision((ended, *over.events), over.effects)


def _take_in(allocation: Allocation) -> StoreOutputs:
    task, ending = allocation.task, allocation.ending
    if task is not None and ending is not None:
        task = msgspec.structs.replace(task, outputs=brought_home(task, ending))
    return StoreOutputs(task)


def _stored(allocation: Allocation, stimulus: OutputsStored, now: int) -> Decision:
    ending = allocation.ending
    assert ending is not None, "what a run left is stored after the run has ended"
    is_checkpoint = ending.reason is EndReason.EXIT_NONZERO and is_at_checkpoint(task_of(allocation), ending)
    if stimulus.failed and (is_checkpoint or ending.reason is EndReason.COMPLETED):
        reason = EndReason.PROVIDER_FAULT if stimulus.ours else EndReason.DISK_LIMIT
        ending = Ending(reason, ending.exit_code, stimulus.failed, ending.usage)
    elif is_checkpoint:
        ending = _checkpointed(task_of(allocation), ending, stimulus.outputs)
    return end(allocation, ending, now, stimulus.outputs, stimulus.logs)


def _checkpointed(task: Task, ending: Ending, left: tuple[Output, ...]) -> Ending:
    """How a run ended that says it has left a checkpoint."""
    if left:
        return Ending(EndReason.CHECKPOINTED, ending.exit_code, f"it goes on from {task.checkpoint}", ending.usage)
    detail = f"exit code {ending.exit_code}, and there is no file at its checkpoint {task.checkpoint}"
    return Ending(EndReason.EXIT_NONZERO, ending.exit_code, detail, ending.usage)


def _gone(allocation: Allocation, _stimulus: RequesterGone, now: int) -> Decision:
    return IGNORED if allocation.gone_until else Decision((RequesterWentAway(now + REQUESTER_GONE_MS),))


def _back(allocation: Allocation, _stimulus: RequesterBack, _now: int) -> Decision:
    told = Send(reservation_of(allocation).requester, status_of(allocation))
    return Decision((RequesterCameBack(),) if allocation.gone_until else (), (told,))


def _back_after_end(allocation: Allocation, _stimulus: RequesterBack, _now: int) -> Decision:
    return Decision((), ending_told(allocation))


def _restarted(allocation: Allocation, stimulus: NodeRestarted, now: int) -> Decision:
    """What ran while the node was away is adopted, or honestly marked lost."""
    if stimulus.adopted:
        is_stopping = allocation.phase is LifePhase.STOPPING
        again = (StopRun(task_of(allocation).limits.grace_ms),) if is_stopping else as_found(allocation)
        again += set_again(allocation)
        return Decision((), (*again, Send(reservation_of(allocation).requester, status_of(allocation))))
    reason = allocation.stopping_for or EndReason.PROVIDER_FAULT
    return end(allocation, Ending(reason, detail="the node was restarted and the run did not survive"), now)


def _restarted_starting(allocation: Allocation, stimulus: NodeRestarted, now: int) -> Decision:
    """Handed to the executor, and the node died before it heard of a start.

    What is not running now may have run and ended meanwhile. An allocation never runs twice, so it ends; the requester decides what then.
    """
    if stimulus.adopted:
        started = _started(allocation, RunStarted(allocation.handle), now)
        return Decision(started.events, (*as_found(allocation), *started.effects))
    lost = Ending(EndReason.PROVIDER_FAULT, detail="the node was restarted while the run was being started")
    return end(allocation, lost, now)


def _time(allocation: Allocation, _stimulus: TimeCame, now: int) -> Decision:
    if allocation.phase is LifePhase.COMMITTED and now >= allocation.invoke_by:
        ending = Ending(EndReason.NOT_INVOKED, detail="no invocation came in time")
        return end(allocation, ending, now).then(Blame(reservation_of(allocation).requester, Offence.ABANDONED))
    if allocation.frozen.evict_at is not None and now >= allocation.frozen.evict_at:
        return evict(allocation, now)
    if allocation.phase in WORKING and allocation.gone_until and now >= allocation.gone_until:
        return stop(allocation, StopWished(EndReason.REQUESTER_LOST), now)
    return IGNORED


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
        for phase in (*WORKING, LifePhase.STOPPING, *_AFTER)
    },
    (LifePhase.PREPARING, InputsArrived): Row(
        _inputs, "handed to the executor, or ended: as INPUT_UNAVAILABLE, or as the fault of this node"
    ),
    (LifePhase.STARTING, RunStarted): Row(_started, "the requester is told"),
    (LifePhase.STOPPING, RunStarted): Row(_started_while_stopping, "it started after all: stopped again"),
    (LifePhase.RUNNING, RunUsed): Row(_used, "the requester is told"),
    **{(phase, RunBarred): Row(_barred, "written down, once") for phase in RUNS},
    (LifePhase.RUNNING, SizeWished): Row(
        change_size, "its run gets other limits; a repeat gets the answer that there is"
    ),
    **{
        (phase, SizeWished): Row(refuse_size, "refused: nothing runs whose limits could change")
        for phase in (*EARLY, LifePhase.STARTING, LifePhase.STOPPING)
    },
    **{
        (phase, SizeSet): Row(size_set, "it holds what was asked for, or what it held; its requester is told")
        for phase in (LifePhase.RUNNING, LifePhase.STOPPING)
    },
    **{(phase, RunExited): Row(_exited, "what it left is stored; with nothing to store it is over") for phase in RUNS},
    (LifePhase.STORING, OutputsStored): Row(_stored, "capacity is freed, the requester is told"),
    **{
        (phase, CancelHeard): Row(cancel, "its requester stops it; nobody else does")
        for phase in (*EARLY, LifePhase.STARTING, LifePhase.RUNNING)
    },
    **{(phase, StopWished): Row(stop, "ended: nothing runs yet") for phase in EARLY},
    (LifePhase.STARTING, StopWished): Row(stop, "stopped as soon as it has started"),
    (LifePhase.RUNNING, StopWished): Row(stop, "asked to stop, killed after the grace"),
    **{
        (phase, FreezeWished): Row(
            freeze, "frozen as soon as it runs, and the requester is told; evicted after a while, or at once"
        )
        for phase in GIVING_WAY
    },
    **{(phase, ThawWished): Row(thaw, "goes on if nobody else is before it") for phase in GIVING_WAY},
    (LifePhase.RUNNING, FreezeFailed): Row(not_frozen, "evicted: it cannot give way otherwise"),
    (LifePhase.ENDED, ReceiptHeard): Row(hear_receipt, "what it left may go; other figures than ours are written down"),
    **{(phase, RequesterGone): Row(_gone, "the work goes on for a while") for phase in WORKING},
    **{
        (phase, RequesterBack): Row(_back, "told where it stands")
        for phase in (*WORKING, LifePhase.STOPPING, LifePhase.STORING)
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
        for phase in (LifePhase.COMMITTED, *WORKING)
    },
    (LifePhase.ENDED, TimeCame): Row(repeat_ending, "the ending is told again until a receipt comes"),
}
