"""What follows from one stimulus, step by step, and the steps that many stimuli share."""

from __future__ import annotations

from typing import Final

from dms_proto.machine import Decision, Effect, Event, Transient
from dms_proto.market.arithmetic import clamp_subtract, fits_within, total_of
from dms_proto.pool.fold import NOWHERE, evolve
from dms_proto.pool.records import Because, Container, ContainerId, ContainerPhase, VirtualId
from dms_proto.pool.refusals import Refusal
from dms_proto.pool.state import (
    CallDelivered,
    CallWithdrawn,
    ContainerCount,
    ContainerEnded,
    ContainerStarting,
    ContainerStopping,
    Deliver,
    HitsCounted,
    Pool,
    Refuse,
    StartContainer,
    StopContainer,
    VirtualCount,
)

ALIVE: Final = frozenset(set(ContainerPhase) - {ContainerPhase.WAITING})
"""Phases in which there may be a process that takes its size."""


class Steps:
    """Events and effects as they add up. Each event is folded at once, so that the next step sees it.

    Counters are written before whatever else is: then the log alone gives the order in which things were.
    """

    def __init__(self, pool: Pool, now: int) -> None:
        self.pool = pool
        self.now = now
        self._events: list[Event] = []
        self._effects: list[Effect] = []

    @property
    def decision(self) -> Decision:
        """All of it."""
        return Decision(tuple(self._events), tuple(self._effects))

    def note(self, event: Event) -> None:
        """Adds an event."""
        if self.pool.uncounted and not isinstance(event, (Transient, HitsCounted)):
            self.note(counted(self.pool))
        self._events.append(event)
        self.pool = evolve(self.pool, event)

    def want(self, effect: Effect) -> None:
        """Adds an effect."""
        self._effects.append(effect)

    def start(self, container: Container) -> None:
        """Its room is free."""
        self.note(ContainerStarting(container.container_id, self.now))
        self.want(StartContainer(container.container_id, container.image, container.size))

    def start_those_with_room(self) -> None:
        """Starts what was admitted, as far as those that went for it are gone."""
        for container in self.pool.containers.values():
            if container.phase is not ContainerPhase.WAITING:
                continue
            taken = total_of(each.size for each in self.pool.containers.values() if each.phase in ALIVE)
            if fits_within(container.size, clamp_subtract(self.pool.capacity, taken)):
                self.start(container)

    def stop(self, container_id: ContainerId, because: Because, newcomer: ContainerId = NOWHERE) -> None:
        """A container that has no calls goes."""
        self.note(ContainerStopping(container_id, because, self.now, newcomer))
        self.want(StopContainer(container_id))

    def stop_unused(self, container_id: ContainerId) -> None:
        """An idle container that nobody points to goes."""
        container = self.pool.containers.get(container_id)
        if container is not None and container.is_idle and not container.virtual:
            self.stop(container_id, Because.UNUSED)

    def gone(self, container_id: ContainerId, why: str) -> None:
        """Nothing of a container that has no calls is left; who waits for its room gets it."""
        self.note(ContainerEnded(container_id, self.pool.containers[container_id].tally, why))
        self.start_those_with_room()

    def deliver(self, container_id: ContainerId) -> None:
        """A container that is ready and not at work gets its next call."""
        container = self.pool.containers[container_id]
        if container.phase not in (ContainerPhase.READY, ContainerPhase.DRAINING) or container.is_starting:
            return
        call = self.pool.calls[container.calls[0]] if container.calls else None
        if call is not None and not call.delivered_at:
            self.note(CallDelivered(call.call_id, self.now))
            self.want(Deliver(call.call_id, container_id, call.virtual_id, call.placement))

    def refuse_all(self, container: Container, refusal: Refusal) -> None:
        """Nobody waits for a container any more; none of its calls was delivered."""
        for call_id in container.calls:
            self.note(CallWithdrawn(call_id, self.now))
            self.want(Refuse(call_id, refusal))


def counted(pool: Pool) -> HitsCounted:
    """The counters that have changed, as they stand."""
    changed = sorted(pool.uncounted)
    containers = (pool.containers[ContainerId(key)] for key in changed if key in pool.containers)
    virtual = (pool.virtual[VirtualId(key)] for key in changed if key in pool.virtual)
    return HitsCounted(
        tuple(ContainerCount(each.container_id, each.tally) for each in containers),
        tuple(VirtualCount(each.virtual_id, each.container, each.tally, each.log_bytes) for each in virtual),
    )
