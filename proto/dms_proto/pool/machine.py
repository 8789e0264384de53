"""The pool's decisions: who gets which container, who starts, who goes, and when.

::

    WAITING ──room──▶ STARTING ──ready──▶ READY ──evicted, idle, unused──▶ STOPPING ──▶ gone
       │                 │ failed           │ over capacity, closing          ▲
       └──▶ gone         └──▶ gone          └──▶ DRAINING ──last call over────┘

A container that is admitted in the place of others WAITS until their processes are gone, so that together they never take more than the capacity.
Calls are given to it at once, and delivered when it is ready: one at a time, in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dms_proto.ids import PeerId
from dms_proto.machine import (
    IGNORED,
    Decision,
    Effect,
    Row,
    Stimulus,
    Table,
    TimeCame,
    earliest,
)
from dms_proto.market.arithmetic import fits_within, total_of
from dms_proto.pool.admission import Admitted, admit, seat_of
from dms_proto.pool.fold import saved
from dms_proto.pool.placement import Bounds, Option, Placement, place
from dms_proto.pool.records import (
    Because,
    Container,
    ContainerId,
    ContainerPhase,
    Service,
    VirtualContainer,
    VirtualId,
)
from dms_proto.pool.refusals import Code, Refusal
from dms_proto.pool.replacement import in_order
from dms_proto.pool.state import (
    Called,
    CallEnded,
    CallerGone,
    CallOver,
    CallPlaced,
    CallWithdrawn,
    CapacityChanged,
    CapacityWished,
    CloseWished,
    ContainerAdmitted,
    ContainerAdopted,
    ContainerDied,
    ContainerDraining,
    ContainerEnded,
    ContainerLost,
    ContainerReady,
    ContainersSpared,
    Fail,
    ImageWithdrawn,
    Pool,
    PoolClosed,
    PoolLooked,
    PoolOpened,
    PoolPhase,
    PoolRestarted,
    Refuse,
    RulesChanged,
    RulesWished,
    Started,
    StartFailed,
    StopContainer,
    VirtualChanged,
    VirtualClosed,
    VirtualOpened,
)
from dms_proto.pool.steps import Steps, counted
from dms_proto.pool.tiers import tier_of
from dms_proto.units import format_count, format_millis

CLOSED: Final = Refusal(Code.CLOSING, "the pool takes no more calls")
WITHDRAWN: Final = Refusal(Code.CLOSING, "its owner does not offer it any more")
SHRUNK: Final = Refusal(Code.NO_ROOM, "the pool has become smaller")
_STAYING: Final = frozenset(
    {ContainerPhase.WAITING, ContainerPhase.STARTING, ContainerPhase.READY, ContainerPhase.UNKNOWN}
)
"""Phases in which a container goes only if somebody has it go."""


def decide(pool: Pool, stimulus: Stimulus, now: int) -> Decision:
    """What the pool does about `stimulus` at `now` (Unix ms)."""
    return TABLE[pool.phase, type(stimulus)].handler(pool, stimulus, now)


def next_deadline(pool: Pool) -> int | None:
    """When time alone changes something, or what calls have come to is to be written down."""
    return earliest(pool.look_at or None, pool.count_at or None)


def resume(pool: Pool) -> tuple[Effect, ...]:
    """What was to be stopped is stopped again. What became of the rest `PoolRestarted` says."""
    stopping = (each for each in pool.containers.values() if each.phase is ContainerPhase.STOPPING)
    return tuple(StopContainer(each.container_id) for each in stopping)


# ---------------------------------------------------------------------------------------------------------------- calls


def _called(pool: Pool, stimulus: Called, now: int) -> Decision:
    if stimulus.call_id in pool.calls:
        return IGNORED
    steps = Steps(pool, now)
    _give(steps, stimulus)
    return steps.decision


def _turn_away(pool: Pool, stimulus: Called, _now: int) -> Decision:
    if stimulus.call_id in pool.calls:
        return IGNORED
    return Decision((), (Refuse(stimulus.call_id, CLOSED),))


def _give(steps: Steps, call: Called) -> None:
    """Gives a call to a container that is there, or to a new one, or refuses it: then nothing has changed."""
    known = virtual_of(steps.pool, call.user, call.service.name)
    if known is None and len(steps.pool.virtual) >= steps.pool.rules.most_virtual:
        most = format_count(steps.pool.rules.most_virtual, "virtual container")
        steps.want(Refuse(call.call_id, Refusal(Code.TOO_MANY, f"there are {most}, as many as may be")))
        return
    placement = place_call(steps.pool, call.service, known)
    container_id = placement.chosen or _admit(steps, call, placement)
    if container_id is None:
        return
    virtual_id = _open(steps, call) if known is None else _update(steps, known, call)
    steps.note(CallPlaced(call.call_id, virtual_id, container_id, placement, steps.now))
    if known is not None and known.container != container_id:
        steps.stop_unused(known.container)
    steps.deliver(container_id)


def virtual_of(pool: Pool, user: PeerId, service: str) -> VirtualContainer | None:
    """The virtual container that is a user's service, if there is one."""
    virtual_id = pool.by_service.get((user, service))
    return None if virtual_id is None else pool.virtual[virtual_id]


def place_call(pool: Pool, service: Service, virtual: VirtualContainer | None) -> Placement:
    """Which of the containers of its image a call of a service is to go to."""
    own = virtual.container if virtual is not None else ""
    options = (
        Option(
            each.container_id,
            each.number,
            each.phase,
            len(each.calls),
            len(each.virtual),
            each.container_id == own,
        )
        for each in pool.containers.values()
        if each.image == service.image
    )
    return place(options, Bounds(pool.rules.virtual, pool.rules.calls))


def _admit(steps: Steps, call: Called, placement: Placement) -> ContainerId | None:
    verdict = admit(steps.pool, call.service.image, call.tier, steps.now)
    if not isinstance(verdict, Admitted):
        steps.want(Refuse(call.call_id, verdict))
        return None
    container_id = ContainerId(f"c-{steps.pool.numbers + 1}")
    for victim in verdict.victims:
        steps.stop(victim, Because.EVICTED, container_id)
    if verdict.spared:
        steps.note(ContainersSpared(verdict.spared))
    image, size = call.service.image, verdict.size
    steps.note(ContainerAdmitted(container_id, image, size, call.tier, placement, steps.now))
    steps.start_those_with_room()
    return container_id


def _open(steps: Steps, call: Called) -> VirtualId:
    virtual_id = VirtualId(f"v-{steps.pool.numbers + 1}")
    steps.note(VirtualOpened(virtual_id, call.user, call.service, call.tier, steps.now))
    return virtual_id


def _update(steps: Steps, known: VirtualContainer, call: Called) -> VirtualId:
    if (known.service, known.tier) != (call.service, call.tier):
        steps.note(VirtualChanged(known.virtual_id, call.service, call.tier))
    return known.virtual_id


def _call_ended(pool: Pool, stimulus: CallEnded, now: int) -> Decision:
    call = pool.calls.get(stimulus.call_id)
    if call is None or not call.delivered_at:
        return IGNORED
    steps = Steps(pool, now)
    steps.note(CallOver(call.call_id, stimulus.usage, stimulus.log_bytes, now))
    _go_on(steps, call.container_id)
    return steps.decision


def _caller_gone(pool: Pool, stimulus: CallerGone, now: int) -> Decision:
    call = pool.calls.get(stimulus.call_id)
    if call is None or call.delivered_at:
        return IGNORED
    steps = Steps(pool, now)
    steps.note(CallWithdrawn(call.call_id, now))
    _go_on(steps, call.container_id)
    return steps.decision


def _go_on(steps: Steps, container_id: ContainerId) -> None:
    """A container has a call less: it gets the next, or has nothing to do any more."""
    container = steps.pool.containers[container_id]
    if container.because is not None and not container.calls and not container.is_starting:
        steps.stop(container_id, container.because)
        return
    steps.deliver(container_id)
    steps.stop_unused(container_id)


# ------------------------------------------------------------------------------------------------------------- containers


def _started(pool: Pool, stimulus: Started, now: int) -> Decision:
    container = pool.containers.get(stimulus.container_id)
    if container is None or container.phase is ContainerPhase.STOPPING:
        return Decision((), (StopContainer(stimulus.container_id),))
    if not container.is_starting:
        return IGNORED
    steps = Steps(pool, now)
    steps.note(ContainerReady(container.container_id, now))
    _go_on(steps, container.container_id)
    return steps.decision


def _start_failed(pool: Pool, stimulus: StartFailed, now: int) -> Decision:
    container = pool.containers.get(stimulus.container_id)
    if container is None or not container.is_starting:
        return IGNORED
    steps = Steps(pool, now)
    _never_ready(steps, container, stimulus.why)
    return steps.decision


def _never_ready(steps: Steps, container: Container, why: str) -> None:
    """A start has failed: who waits for it is told, since another start would most likely fail as well."""
    steps.refuse_all(container, Refusal(Code.START_FAILED, f"its container could not be started: {why}"))
    steps.gone(container.container_id, why)


def _died(pool: Pool, stimulus: ContainerDied, now: int) -> Decision:
    """The call at work has failed; those that wait get another container."""
    container = pool.containers.get(stimulus.container_id)
    if container is None or container.phase is ContainerPhase.WAITING:
        return IGNORED
    if container.is_starting:
        return _start_failed(pool, StartFailed(container.container_id, stimulus.why or "its process has ended"), now)
    steps = Steps(pool, now)
    _take_away(steps, container, stimulus.why)
    return steps.decision


def _take_away(steps: Steps, container: Container, why: str) -> None:
    waiting = []
    for call_id in container.calls:
        call = steps.pool.calls[call_id]
        virtual = steps.pool.virtual[call.virtual_id]
        if call.delivered_at:
            steps.want(Fail(call_id, f"its container has ended{': ' + why if why else ''}"))
        else:
            waiting.append(Called(call_id, virtual.user, virtual.service, virtual.tier))
        steps.note(CallWithdrawn(call_id, steps.now))
    steps.gone(container.container_id, why)
    for again in waiting:
        if steps.pool.phase is PoolPhase.OPEN:
            _give(steps, again)
        else:
            steps.want(Refuse(again.call_id, CLOSED))


# --------------------------------------------------------------------------------------------------------- owner's wishes


def _resize(pool: Pool, stimulus: CapacityWished, now: int) -> Decision:
    if stimulus.capacity == pool.capacity:
        return IGNORED
    steps = Steps(pool, now)
    steps.note(CapacityChanged(stimulus.capacity))
    staying = [each for each in steps.pool.containers.values() if each.phase in _STAYING]
    for container in _cheapest_first(steps.pool, staying):
        if fits_within(total_of(each.size for each in staying), stimulus.capacity):
            break
        staying.remove(container)
        _let_go(steps, container.container_id, Because.OVER_CAPACITY, SHRUNK)
    steps.start_those_with_room()
    return steps.decision


def _cheapest_first(pool: Pool, containers: Iterable[Container]) -> list[Container]:
    """What goes when there is no longer room for all: idle ones first, of these the lower tiers, of these as the strategy says."""
    by_id = {each.container_id: each for each in containers}
    ordered = [by_id[ContainerId(seat.name)] for seat in in_order(pool.rules.strategy, map(seat_of, by_id.values()))]
    return sorted(ordered, key=lambda each: (not each.is_idle, tier_of(each, pool.virtual)))


def _let_go(steps: Steps, container_id: ContainerId, because: Because, refusal: Refusal) -> None:
    """A container ends as soon as it has nothing more to do; what waits for a process that may not be there is refused."""
    container = steps.pool.containers[container_id]
    match container.phase:
        case ContainerPhase.WAITING:
            steps.refuse_all(container, refusal)
            steps.note(ContainerEnded(container_id, container.tally, refusal.why))
        case ContainerPhase.UNKNOWN:
            steps.refuse_all(container, refusal)
            steps.stop(container_id, because)
        case ContainerPhase.READY if container.is_idle:
            steps.stop(container_id, because)
        case ContainerPhase.READY | ContainerPhase.STARTING:
            steps.note(ContainerDraining(container_id, because))


def _withdraw(pool: Pool, stimulus: ImageWithdrawn, now: int) -> Decision:
    steps = Steps(pool, now)
    for container in pool.containers.values():
        if container.image == stimulus.image:
            _let_go(steps, container.container_id, Because.WITHDRAWN, WITHDRAWN)
    for virtual in tuple(steps.pool.virtual.values()):
        if virtual.service.image == stimulus.image and not virtual.calls:
            steps.note(VirtualClosed(virtual.virtual_id, virtual.tally, virtual.log_bytes))
    return steps.decision


def _rules(pool: Pool, stimulus: RulesWished, _now: int) -> Decision:
    return IGNORED if stimulus.rules == pool.rules else Decision((RulesChanged(stimulus.rules),))


def _close(pool: Pool, stimulus: CloseWished, now: int) -> Decision:
    if stimulus.open:
        return IGNORED
    steps = Steps(pool, now)
    steps.note(PoolClosed())
    for container_id in pool.containers:
        _let_go(steps, container_id, Because.CLOSING, CLOSED)
    return steps.decision


def _reopen(_pool: Pool, stimulus: CloseWished, _now: int) -> Decision:
    return Decision((PoolOpened(),)) if stimulus.open else IGNORED


# --------------------------------------------------------------------------------------------------------------- restart


def _restarted(pool: Pool, stimulus: PoolRestarted, now: int) -> Decision:
    """What is alive is taken over; what is not and is wanted is started again, under its own control block."""
    steps = Steps(pool, now)
    for container_id in pool.containers:
        _find(steps, container_id, is_alive=container_id in stimulus.alive)
    for container_id in stimulus.alive:
        if container_id not in pool.containers:
            steps.want(StopContainer(container_id))
    steps.start_those_with_room()
    return steps.decision


def _find(steps: Steps, container_id: ContainerId, *, is_alive: bool) -> None:
    container = steps.pool.containers[container_id]
    match container.phase:
        case ContainerPhase.STOPPING if is_alive:
            steps.want(StopContainer(container_id))
        case ContainerPhase.STOPPING:
            steps.gone(container_id, "")
        case ContainerPhase.UNKNOWN if is_alive:
            steps.note(ContainerAdopted(container_id, steps.now))
            _go_on(steps, container_id)
        case ContainerPhase.UNKNOWN if container.virtual:
            steps.note(ContainerLost(container_id))
        case ContainerPhase.UNKNOWN:
            _take_away(steps, container, "it has ended with the node")


# ------------------------------------------------------------------------------------------------------------------ time


def _time(pool: Pool, _stimulus: TimeCame, now: int) -> Decision:
    steps = Steps(pool, now)
    if pool.count_at and now >= pool.count_at:
        steps.note(counted(pool))
        if is_long(steps.pool):
            steps.note(saved(steps.pool))
    if pool.look_at and now >= pool.look_at:
        _look_around(steps)
    return steps.decision


def is_long(pool: Pool) -> bool:
    """Whether so much was written that all of the state is to be written as one."""
    return pool.unsaved >= max(pool.rules.save_every, len(pool.containers) + len(pool.virtual))


def _look_around(steps: Steps) -> None:
    ttl_ms = steps.pool.rules.ttl_ms
    for virtual in tuple(steps.pool.virtual.values()):
        if not virtual.calls and steps.now >= virtual.used_at + ttl_ms:
            steps.note(VirtualClosed(virtual.virtual_id, virtual.tally, virtual.log_bytes))
            steps.stop_unused(virtual.container)
    for container in tuple(steps.pool.containers.values()):
        if container.is_idle and steps.now >= container.used_at + ttl_ms:
            steps.stop(container.container_id, Because.IDLE)
        elif container.is_starting and steps.now >= container.started_at + steps.pool.rules.start_ms:
            _give_up(steps, container)
        else:
            steps.stop_unused(container.container_id)
    steps.note(PoolLooked(_next_look(steps.pool, steps.now)))


def _give_up(steps: Steps, container: Container) -> None:
    """A start takes too long: who waits for it is told, and what there is of it is stopped."""
    why = f"it did not start within {format_millis(steps.pool.rules.start_ms)}"
    steps.refuse_all(container, Refusal(Code.START_FAILED, f"its container could not be started: {why}"))
    steps.stop(container.container_id, Because.TOO_SLOW)


def _next_look(pool: Pool, now: int) -> int:
    """When something may be over after `now`; 0 for never."""
    ttl_ms, start_ms = pool.rules.ttl_ms, pool.rules.start_ms
    idle = (each.used_at + ttl_ms for each in pool.virtual.values() if not each.calls)
    warm = (each.used_at + ttl_ms for each in pool.containers.values() if each.is_idle)
    starting = (each.started_at + start_ms for each in pool.containers.values() if each.is_starting)
    due = earliest(*idle, *warm, *starting)
    return max(due, now + 1) if due is not None else 0


# ------------------------------------------------------------------------------------------------------------------ table

_ROWS: Final[dict[type[Stimulus], Row[Pool]]] = {
    Called: Row(
        _called,
        "given to an idle container, else to the shortest queue, else to a new one; or refused, and nothing changes",
    ),
    CallEnded: Row(_call_ended, "counted; its container gets the next call"),
    CallerGone: Row(_caller_gone, "a call that waits is forgotten; one at work goes on"),
    Started: Row(_started, "it gets the first call that waits for it; one that is not wanted any more is stopped"),
    StartFailed: Row(_start_failed, "it is gone; the calls that wait for it are refused"),
    ContainerDied: Row(_died, "its room is free; the call at work has failed, those that wait get another container"),
    CapacityWished: Row(_resize, "what there is no longer room for ends, as soon as it has nothing to do"),
    ImageWithdrawn: Row(_withdraw, "its containers end when they have nothing to do; what points to them is forgotten"),
    RulesWished: Row(_rules, "hold from now on; what they no longer keep ends"),
    CloseWished: Row(_close, "what is idle is stopped, the rest when its calls are over"),
    PoolRestarted: Row(
        _restarted, "what is alive is taken over; what is not is started again, if something points to it"
    ),
    TimeCame: Row(_time, "counters are written down; what was not used for long ends"),
}
_CLOSING: Final[dict[type[Stimulus], Row[Pool]]] = {
    Called: Row(_turn_away, "refused"),
    CloseWished: Row(_reopen, "calls are taken again, if that is wanted; what ends goes on ending"),
}

TABLE: Final[Table[Pool]] = {
    **{(phase, kind): row for phase in PoolPhase for kind, row in _ROWS.items()},
    **{(PoolPhase.CLOSING, kind): row for kind, row in _CLOSING.items()},
}
