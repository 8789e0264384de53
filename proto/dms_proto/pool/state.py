"""The pool as a machine: what it meets, what it remembers, what it wants done. Stream "pool"."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from dms_proto.capability import NOTHING, Resources
from dms_proto.ids import PeerId, TabId
from dms_proto.machine import Effect, Event, Stimulus, Transient
from dms_proto.pool.placement import Placement
from dms_proto.pool.records import (
    Because,
    CallId,
    Container,
    ContainerId,
    Image,
    Service,
    Tally,
    VirtualContainer,
    VirtualId,
)
from dms_proto.pool.refusals import Refusal
from dms_proto.pool.replacement import Strategy
from dms_proto.pool.thrash import Recreation
from dms_proto.rules import Amount
from dms_proto.units import MINUTE, SECOND
from dms_proto.work import Usage

POOL_STREAM: Final = "pool"


class PoolPhase(StrEnum):
    """Whether calls are taken."""

    OPEN = "open"
    CLOSING = "closing"
    """What is there ends; nothing new begins."""


class PoolRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """The owner's rules.

    Attributes:
        virtual: how many virtual containers may point to one container, at least 1.
        calls: how many calls one container may have, at work and waiting, at least 1.
        ttl_ms: how long what is not used is kept, whatever its kind.
        hot_ms: how long after its last use a container does not go for an equal tier.
        strategy: which container goes first.
        reserved: per tier, what nobody else gets of the pool. GPUs name their devices.
        recreations, window_ms: so many evicted images started anew within this time stop evictions until there are fewer.
        start_ms: how long a start may take.
        most_virtual: how many virtual containers there may be.
        count_ms: how long what calls add to the counters may be unwritten. 0: it is written with each batch of calls, before they are delivered, and
            ``kill -9`` loses nothing; else it may lose the last so many milliseconds of it.
        call_ms: how long one call may take.
        save_every: events after which all of the state is written as one, so that a restart folds about as many. Where there are more control blocks
            than that, as many as these: what is written is no larger than what it stands for.
    """

    virtual: Annotated[int, msgspec.Meta(ge=1)] = 10
    calls: Annotated[int, msgspec.Meta(ge=1)] = 32
    ttl_ms: Amount = 10 * MINUTE
    hot_ms: Amount = 30 * SECOND
    strategy: Strategy = Strategy.LRU
    reserved: dict[int, Resources] = {}
    recreations: Annotated[int, msgspec.Meta(ge=1)] = 8
    window_ms: Amount = MINUTE
    start_ms: Amount = 5 * MINUTE
    most_virtual: Amount = 10_000
    count_ms: Amount = 0
    call_ms: Amount = 10 * MINUTE
    save_every: Annotated[int, msgspec.Meta(ge=1)] = 5_000


class Call(msgspec.Struct, frozen=True):
    """A call under way, and why it got its container. `delivered_at`: Unix ms; 0 while it waits."""

    call_id: CallId
    virtual_id: VirtualId
    container_id: ContainerId
    placement: Placement
    placed_at: int
    delivered_at: int = 0


class Pool(msgspec.Struct, frozen=True):
    """The state.

    Attributes:
        capacity: what all containers together may take.
        containers, virtual: the control blocks, oldest first.
        by_service: which virtual container is a user's service.
        calls: under way.
        numbers: given to containers and virtual ones so far.
        positions: given in the ring of the Clock so far.
        evicted: when images were last evicted, the newest last.
        recreated: images that were started anew after an eviction, within the window.
        unsaved: events written since all of it was last written as one.
        uncounted: containers and virtual ones whose counters have changed since they were last written down.
        count_at: Unix ms when that is due; 0: nothing is.
        look_at: Unix ms when something may be over; 0: nothing can be.
    """

    phase: PoolPhase = PoolPhase.OPEN
    capacity: Resources = NOTHING
    rules: PoolRules = PoolRules()
    containers: Mapping[ContainerId, Container] = {}
    virtual: Mapping[VirtualId, VirtualContainer] = {}
    by_service: Mapping[tuple[PeerId, str], VirtualId] = {}
    calls: Mapping[CallId, Call] = {}
    numbers: int = 0
    positions: int = 0
    evicted: Mapping[Image, int] = {}
    recreated: tuple[Recreation, ...] = ()
    unsaved: int = 0
    uncounted: frozenset[str] = frozenset()
    count_at: int = 0
    look_at: int = 0


# ---------------------------------------------------------------------------------------------------------------- stimuli


class Called(Stimulus, frozen=True):
    """A user calls a service, and is of this tier; `tab`: on which it pays; empty: it is free. A call that is known already changes nothing."""

    call_id: CallId
    user: PeerId
    service: Service
    tier: int = 0
    tab: TabId = TabId("")


class Started(Stimulus, frozen=True):
    """A container is ready for calls."""

    container_id: ContainerId


class StartFailed(Stimulus, frozen=True):
    """A container could not be started; nothing of it is left."""

    container_id: ContainerId
    why: str


class CallEnded(Stimulus, frozen=True):
    """A call is over, whatever came of it: what it used, and how many bytes it added to the log of its virtual container."""

    call_id: CallId
    usage: Usage = Usage()
    log_bytes: int = 0


class CallerGone(Stimulus, frozen=True):
    """Nobody waits for a call any more. At work, it goes on to its end."""

    call_id: CallId


class ContainerDied(Stimulus, frozen=True):
    """Nothing of a container's process is left, whether it was stopped or fell over."""

    container_id: ContainerId
    why: str = ""


class CapacityWished(Stimulus, frozen=True):
    """What the pool may use of the machine."""

    capacity: Resources


class RulesWished(Stimulus, frozen=True):
    """The owner's rules."""

    rules: PoolRules


class CloseWished(Stimulus, frozen=True):
    """No more calls are to be taken, and all containers are to end; or (`open` True) calls are taken again."""

    open: bool = False


class ImageWithdrawn(Stimulus, frozen=True):
    """Calls of an image are not taken any more: its containers end when those they have are over."""

    image: Image


class PoolRestarted(Stimulus, frozen=True):
    """The node process is new; these containers' processes are alive and are being watched again."""

    alive: tuple[ContainerId, ...] = ()


# ----------------------------------------------------------------------------------------------------------------- events


class CapacityChanged(Event, frozen=True):
    """The containers may take this much together."""

    capacity: Resources


class RulesChanged(Event, frozen=True):
    """The owner's rules are these."""

    rules: PoolRules


class PoolClosed(Event, frozen=True):
    """No more calls are taken."""


class PoolOpened(Event, frozen=True):
    """Calls are taken again."""


class ContainerAdmitted(Event, frozen=True):
    """There is room for a new container, or will be when those that go for it are gone. `placement`: why none of those there would do."""

    container_id: ContainerId
    image: Image
    size: Resources
    tier: int
    placement: Placement
    at: int


class ContainersSpared(Event, frozen=True):
    """The hand of the Clock has passed these: they have had their second chance."""

    container_ids: tuple[ContainerId, ...]


class ContainerStarting(Event, frozen=True):
    """A container is being started: there is room for it now."""

    container_id: ContainerId
    at: int


class ContainerReady(Event, frozen=True):
    """A container takes calls."""

    container_id: ContainerId
    at: int


class ContainerLost(Event, frozen=True):
    """A container's process has died with the node; what points to it wants it started again."""

    container_id: ContainerId


class ContainerAdopted(Event, frozen=True):
    """A container's process has outlived the node."""

    container_id: ContainerId
    at: int


class ContainerDraining(Event, frozen=True):
    """A container takes no more calls, and stops when those it has are over."""

    container_id: ContainerId
    because: Because


class ContainerStopping(Event, frozen=True):
    """A container is being stopped. `newcomer`: for which other one, if it is evicted."""

    container_id: ContainerId
    because: Because
    at: int
    newcomer: ContainerId = ContainerId("")


class ContainerEnded(Event, frozen=True):
    """Nothing of a container is left. `tally`: all that was counted of it."""

    container_id: ContainerId
    tally: Tally
    why: str = ""


class VirtualOpened(Event, frozen=True):
    """A user's service has a virtual container."""

    virtual_id: VirtualId
    user: PeerId
    service: Service
    tier: int
    at: int


class VirtualChanged(Event, frozen=True):
    """A user's service is another, or the user of another tier. What was counted stays."""

    virtual_id: VirtualId
    service: Service
    tier: int


class VirtualClosed(Event, frozen=True):
    """A virtual container was not used for long. `tally`: all that was counted of it."""

    virtual_id: VirtualId
    tally: Tally
    log_bytes: int


class ContainerCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container's counters."""

    container_id: ContainerId
    tally: Tally


class VirtualCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """A virtual container's counters, and where it points."""

    virtual_id: VirtualId
    container_id: ContainerId
    tally: Tally
    log_bytes: Amount = 0


class HitsCounted(Event, frozen=True):
    """What a batch of calls has come to: the counters of all they touched, as they stand."""

    containers: tuple[ContainerCount, ...]
    virtual: tuple[VirtualCount, ...]


class PoolSaved(Event, frozen=True):
    """All that the events before have come to: whoever folds the log may begin with the last of these.

    Attributes:
        phase, capacity, rules, containers, virtual, numbers, positions, recreated: as in `Pool`; of calls nothing.
        evicted: as in `Pool`, the newest last.
    """

    phase: PoolPhase
    capacity: Resources
    rules: PoolRules
    containers: tuple[Container, ...]
    virtual: tuple[VirtualContainer, ...]
    numbers: int
    positions: int
    evicted: tuple[tuple[Image, int], ...]
    recreated: tuple[Recreation, ...]


class CallPlaced(Transient, frozen=True):
    """A call has its container, and its virtual container points to that."""

    call_id: CallId
    virtual_id: VirtualId
    container_id: ContainerId
    placement: Placement
    at: int


class CallDelivered(Transient, frozen=True):
    """A container was given a call."""

    call_id: CallId
    at: int


class CallOver(Transient, frozen=True):
    """A call is over."""

    call_id: CallId
    usage: Usage
    log_bytes: int
    at: int


class CallWithdrawn(Transient, frozen=True):
    """A call that was not delivered waits no longer: nobody is there for it, or its container has gone."""

    call_id: CallId
    at: int


class PoolLooked(Transient, frozen=True):
    """Everything was looked at; something may be over at `next_at` (Unix ms; 0: nothing can be)."""

    next_at: int


# ---------------------------------------------------------------------------------------------------------------- effects


class StartContainer(Effect, frozen=True):
    """Start a container's process; then say `Started` or `StartFailed`. Once started it is not started a second time."""

    container_id: ContainerId
    image: Image
    size: Resources


class StopContainer(Effect, frozen=True):
    """Stop a container's process, if there is one; `ContainerDied` follows in any case."""

    container_id: ContainerId


class Deliver(Effect, frozen=True):
    """Give a call to a container, on behalf of a virtual one; `CallEnded` follows, or `ContainerDied`. `placement`: why to this one."""

    call_id: CallId
    container_id: ContainerId
    virtual_id: VirtualId
    placement: Placement


class Refuse(Effect, frozen=True):
    """Tell whoever calls that the call was not done, and why. It was not delivered."""

    call_id: CallId
    refusal: Refusal


class Fail(Effect, frozen=True):
    """Tell whoever calls that the container died with the call at work: nobody knows how much of it was done."""

    call_id: CallId
    why: str
