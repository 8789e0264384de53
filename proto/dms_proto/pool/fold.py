"""The pool after an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from dms_proto.machine import Event, Transient
from dms_proto.market.ledger import remember, without
from dms_proto.pool import thrash
from dms_proto.pool.records import Because, Container, ContainerId, ContainerPhase, VirtualContainer, VirtualId
from dms_proto.pool.state import (
    Call,
    CallDelivered,
    CallOver,
    CallPlaced,
    CallWithdrawn,
    CapacityChanged,
    ContainerAdmitted,
    ContainerAdopted,
    ContainerDraining,
    ContainerEnded,
    ContainerLost,
    ContainerReady,
    ContainersSpared,
    ContainerStarting,
    ContainerStopping,
    HitsCounted,
    Pool,
    PoolClosed,
    PoolLooked,
    PoolOpened,
    PoolPhase,
    PoolSaved,
    RulesChanged,
    VirtualChanged,
    VirtualClosed,
    VirtualOpened,
)

change = msgspec.structs.replace
NOWHERE: Final = ContainerId("")


def evolve(pool: Pool, event: Event) -> Pool:
    """The state after `event`."""
    fold = _FOLDS.get(type(event))
    if fold is None:
        return pool
    pool = fold(pool, event)
    return pool if isinstance(event, Transient) else change(pool, unsaved=pool.unsaved + 1)


def after_restart(pool: Pool, now: int) -> Pool:
    """What is left when the process has ended: no calls, and nobody knows which containers are alive. Everything is looked at soon."""
    for each in pool.containers.values():
        if each.phase is ContainerPhase.DRAINING:
            pool = _unpointed(pool, each)
    containers = {
        key: change(each, phase=_FOUND_AS.get(each.phase, each.phase), calls=())
        for key, each in pool.containers.items()
    }
    virtual = {key: change(each, calls=0) for key, each in pool.virtual.items()}
    return change(
        pool, containers=containers, virtual=virtual, calls={}, uncounted=frozenset(), count_at=0, look_at=now
    )


_FOUND_AS: Final = {
    ContainerPhase.STARTING: ContainerPhase.UNKNOWN,
    ContainerPhase.READY: ContainerPhase.UNKNOWN,
    ContainerPhase.DRAINING: ContainerPhase.STOPPING,
}
"""What a container is after a restart of the node, by what it was before."""


# ------------------------------------------------------------------------------------------------------------- containers


def _admitted(pool: Pool, event: ContainerAdmitted) -> Pool:
    number = pool.numbers + 1
    container = Container(
        event.container_id, number, event.image, event.size, event.tier, event.at, position=pool.positions
    )
    window = pool.rules.window_ms
    recreated = pool.recreated
    if thrash.is_recreation(pool.evicted, event.image, event.at, window):
        recreated = (*thrash.within(recreated, event.at, window), thrash.Recreation(event.at, event.tier))
    return change(
        pool,
        containers={**pool.containers, event.container_id: container},
        numbers=number,
        positions=pool.positions + 1,
        recreated=recreated,
    )


def _spared(pool: Pool, event: ContainersSpared) -> Pool:
    for container_id in event.container_ids:
        pool = _with(pool, container_id, position=pool.positions, referenced=False)
        pool = change(pool, positions=pool.positions + 1)
    return pool


def _starting(pool: Pool, event: ContainerStarting) -> Pool:
    pool = _with(pool, event.container_id, phase=ContainerPhase.STARTING, started_at=event.at, ready_at=0)
    return _look(pool, event.at + pool.rules.start_ms)


def _ready(pool: Pool, event: ContainerReady) -> Pool:
    container = pool.containers[event.container_id]
    phase = ContainerPhase.READY if container.because is None else ContainerPhase.DRAINING
    return _look(_with(pool, event.container_id, phase=phase, ready_at=event.at), event.at + pool.rules.ttl_ms)


def _lost(pool: Pool, event: ContainerLost) -> Pool:
    return _with(pool, event.container_id, phase=ContainerPhase.WAITING)


def _adopted(pool: Pool, event: ContainerAdopted) -> Pool:
    ready_at = pool.containers[event.container_id].ready_at or event.at
    return _with(pool, event.container_id, phase=ContainerPhase.READY, ready_at=ready_at)


def _draining(pool: Pool, event: ContainerDraining) -> Pool:
    return _with(pool, event.container_id, phase=ContainerPhase.DRAINING, because=event.because)


def _stopping(pool: Pool, event: ContainerStopping) -> Pool:
    container = pool.containers.get(event.container_id)
    if container is None:
        return pool
    pool = _with(_unpointed(pool, container), event.container_id, phase=ContainerPhase.STOPPING, because=event.because)
    if event.because is not Because.EVICTED:
        return pool
    return change(pool, evicted=remember(pool.evicted, container.image, event.at, thrash.REMEMBERED))


def _ended(pool: Pool, event: ContainerEnded) -> Pool:
    container = pool.containers.get(event.container_id)
    if container is None:
        return pool
    pool = _unpointed(pool, container)
    return change(
        pool,
        containers=without(pool.containers, event.container_id),
        uncounted=pool.uncounted - {event.container_id},
    )


def _unpointed(pool: Pool, container: Container) -> Pool:
    """Nothing points to it any more."""
    virtual = dict(pool.virtual)
    for each in container.virtual:
        virtual[each] = change(virtual[each], container=NOWHERE)
    return change(_with(pool, container.container_id, virtual=()), virtual=virtual)


# -------------------------------------------------------------------------------------------------------------- virtual


def _opened(pool: Pool, event: VirtualOpened) -> Pool:
    virtual = VirtualContainer(event.virtual_id, event.user, event.service, event.tier, event.at)
    pool = change(
        pool,
        virtual={**pool.virtual, event.virtual_id: virtual},
        by_service={**pool.by_service, (event.user, event.service.name): event.virtual_id},
        numbers=pool.numbers + 1,
    )
    return _look(pool, event.at + pool.rules.ttl_ms)


def _changed(pool: Pool, event: VirtualChanged) -> Pool:
    return _with_virtual(pool, event.virtual_id, service=event.service, tier=event.tier)


def _closed(pool: Pool, event: VirtualClosed) -> Pool:
    virtual = pool.virtual.get(event.virtual_id)
    if virtual is None:
        return pool
    pool = _pointing(pool, virtual, NOWHERE)
    return change(
        pool,
        virtual=without(pool.virtual, event.virtual_id),
        by_service=without(pool.by_service, (virtual.user, virtual.service.name)),
        uncounted=pool.uncounted - {event.virtual_id},
    )


def _pointing(pool: Pool, virtual: VirtualContainer, container_id: ContainerId) -> Pool:
    """The virtual container points to this one from now on, and to no other."""
    if virtual.container == container_id:
        return pool
    containers = dict(pool.containers)
    before, after = containers.get(virtual.container), containers.get(container_id)
    if before is not None:
        left = tuple(each for each in before.virtual if each != virtual.virtual_id)
        containers[virtual.container] = change(before, virtual=left)
    if after is not None:
        containers[container_id] = change(after, virtual=tuple(sorted((*after.virtual, virtual.virtual_id))))
    pool = change(pool, containers=containers)
    return _with_virtual(pool, virtual.virtual_id, container=container_id)


# ---------------------------------------------------------------------------------------------------------------- calls


def _placed(pool: Pool, event: CallPlaced) -> Pool:
    virtual = pool.virtual[event.virtual_id]
    pool = _pointing(pool, virtual, event.container_id)
    container = pool.containers[event.container_id]
    call = Call(event.call_id, event.virtual_id, event.container_id, event.placement, event.at)
    pool = _with(pool, event.container_id, calls=(*container.calls, event.call_id))
    pool = _with_virtual(pool, event.virtual_id, calls=virtual.calls + 1)
    return _touched(change(pool, calls={**pool.calls, event.call_id: call}), call, event.at)


def _delivered(pool: Pool, event: CallDelivered) -> Pool:
    call = pool.calls[event.call_id]
    container, virtual = pool.containers[call.container_id], pool.virtual[call.virtual_id]
    pool = _with(pool, call.container_id, tally=container.tally.hit(event.at), referenced=True)
    pool = _with_virtual(pool, call.virtual_id, tally=virtual.tally.hit(event.at))
    calls = {**pool.calls, event.call_id: change(call, delivered_at=event.at)}
    return _touched(change(pool, calls=calls), call, event.at)


def _over(pool: Pool, event: CallOver) -> Pool:
    call = pool.calls[event.call_id]
    container, virtual = pool.containers[call.container_id], pool.virtual[call.virtual_id]
    pool = _with(pool, call.container_id, tally=container.tally.ran(event.usage, event.at))
    pool = _with_virtual(
        pool,
        call.virtual_id,
        tally=virtual.tally.ran(event.usage, event.at),
        log_bytes=virtual.log_bytes + event.log_bytes,
    )
    return _touched(_without_call(pool, call, event.at), call, event.at)


def _withdrawn(pool: Pool, event: CallWithdrawn) -> Pool:
    call = pool.calls[event.call_id]
    tally = msgspec.structs.replace(pool.virtual[call.virtual_id].tally, used_at=event.at)
    pool = _with_virtual(pool, call.virtual_id, tally=tally)
    return _touched(_without_call(pool, call, event.at), call, event.at)


def _without_call(pool: Pool, call: Call, at: int) -> Pool:
    container, virtual = pool.containers[call.container_id], pool.virtual[call.virtual_id]
    pool = _with(pool, call.container_id, calls=tuple(each for each in container.calls if each != call.call_id))
    pool = _with_virtual(pool, call.virtual_id, calls=virtual.calls - 1)
    pool = change(pool, calls=without(pool.calls, call.call_id))
    return _look(pool, at + pool.rules.ttl_ms)


def _touched(pool: Pool, call: Call, at: int) -> Pool:
    """What a call has changed is to be written down."""
    due = pool.count_at or at + pool.rules.count_ms
    return change(pool, uncounted=pool.uncounted | {call.container_id, call.virtual_id}, count_at=due)


def _counted(pool: Pool, event: HitsCounted) -> Pool:
    """Counters as they stood: where they are known already, nothing changes."""
    for count in event.virtual:
        virtual = pool.virtual.get(count.virtual_id)
        if virtual is not None:
            pool = _pointing(pool, virtual, count.container_id)
            pool = _with_virtual(pool, count.virtual_id, tally=count.tally, log_bytes=count.log_bytes)
    for each in event.containers:
        container = pool.containers.get(each.container_id)
        if container is not None:
            was_hit = each.tally.hits > container.tally.hits
            pool = _with(pool, each.container_id, tally=each.tally, referenced=container.referenced or was_hit)
    return change(pool, uncounted=frozenset(), count_at=0)


# ---------------------------------------------------------------------------------------------------------------- saving


def saved(pool: Pool) -> PoolSaved:
    """All of the state as one event; it is to be written when all counters are."""
    return PoolSaved(
        pool.phase,
        pool.capacity,
        pool.rules,
        tuple(change(each, calls=()) for each in pool.containers.values()),
        tuple(change(each, calls=0) for each in pool.virtual.values()),
        pool.numbers,
        pool.positions,
        tuple(pool.evicted.items()),
        pool.recreated,
    )


def _saved(pool: Pool, event: PoolSaved) -> Pool:
    """To one who has folded what was before it says nothing new."""
    if pool.unsaved:
        return change(pool, unsaved=0)
    return Pool(
        event.phase,
        event.capacity,
        event.rules,
        {each.container_id: each for each in event.containers},
        {each.virtual_id: each for each in event.virtual},
        {(each.user, each.service.name): each.virtual_id for each in event.virtual},
        numbers=event.numbers,
        positions=event.positions,
        evicted=dict(event.evicted),
        recreated=event.recreated,
    )


# --------------------------------------------------------------------------------------------------------------- helpers


def _with(pool: Pool, container_id: ContainerId, **fields: Any) -> Pool:
    container = pool.containers.get(container_id)
    if container is None:
        return pool
    return change(pool, containers={**pool.containers, container_id: change(container, **fields)})


def _with_virtual(pool: Pool, virtual_id: VirtualId, **fields: Any) -> Pool:
    virtual = pool.virtual.get(virtual_id)
    if virtual is None:
        return pool
    return change(pool, virtual={**pool.virtual, virtual_id: change(virtual, **fields)})


def _look(pool: Pool, at: int) -> Pool:
    """Something may be over at `at`; too early a look does no harm."""
    return pool if pool.look_at and pool.look_at <= at else change(pool, look_at=at)


_FOLDS: Final[dict[type[Event], Callable[[Pool, Any], Pool]]] = {
    CapacityChanged: lambda pool, event: change(pool, capacity=event.capacity),
    RulesChanged: lambda pool, event: change(pool, rules=event.rules, look_at=min(pool.look_at, 1)),
    PoolClosed: lambda pool, _event: change(pool, phase=PoolPhase.CLOSING),
    PoolOpened: lambda pool, _event: change(pool, phase=PoolPhase.OPEN),
    ContainerAdmitted: _admitted,
    ContainersSpared: _spared,
    ContainerStarting: _starting,
    ContainerReady: _ready,
    ContainerLost: _lost,
    ContainerAdopted: _adopted,
    ContainerDraining: _draining,
    ContainerStopping: _stopping,
    ContainerEnded: _ended,
    VirtualOpened: _opened,
    VirtualChanged: _changed,
    VirtualClosed: _closed,
    HitsCounted: _counted,
    PoolSaved: _saved,
    CallPlaced: _placed,
    CallDelivered: _delivered,
    CallOver: _over,
    CallWithdrawn: _withdrawn,
    PoolLooked: lambda pool, event: change(pool, look_at=event.next_at),
}
