"""The control blocks of the pool: what is known of a container, and of a virtual one."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

import msgspec

from dms_proto.capability import Resources
from dms_proto.ids import PeerId
from dms_proto.rules import Amount, Word
from dms_proto.work import Usage

ContainerId = NewType("ContainerId", str)
"""Counted over the life of the pool: ``c-17``."""
VirtualId = NewType("VirtualId", str)
"""Counted with the containers: ``v-18``. Its log has this name."""
CallId = NewType("CallId", str)
"""Given to a call by whoever brings it, once."""


class Image(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a container runs. Containers of equal images stand in for each other.

    Attributes:
        kind: of runtime: "python", "wasm", ….
        model: what it has loaded before its first call; empty for nothing.
        size: what one container of it takes; GPUs as needs, without devices.
        user: the one user whose services may share it, since the program is theirs; empty: anybody's.
    """

    kind: Word
    model: Word = ""
    size: Resources = Resources()
    user: PeerId = PeerId("")


class Service(msgspec.Struct, frozen=True, omit_defaults=True):
    """A kind of task installed on the node: its name, and what runs it."""

    name: Word
    image: Image


class Tally(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has been counted since a container, or a virtual one, was created.

    Attributes:
        hits: calls it was given.
        hit_at: Unix ms of the last of them; 0 before the first.
        used_at: Unix ms when it was last given a call, or a call of it ended or was given up.
        usage: of its calls together; `wall_ms` is how long they ran.
    """

    hits: Amount = 0
    hit_at: Amount = 0
    used_at: Amount = 0
    usage: Usage = Usage()

    def hit(self, at: int) -> Tally:
        """After one more call."""
        return Tally(self.hits + 1, at, at, self.usage)

    def ran(self, usage: Usage, at: int) -> Tally:
        """After a call in it has ended."""
        return Tally(self.hits, self.hit_at, at, _together(self.usage, usage))


def _together(before: Usage, more: Usage) -> Usage:
    return Usage(
        before.wall_ms + more.wall_ms,
        before.cpu_us + more.cpu_us,
        max(before.memory_peak_bytes, more.memory_peak_bytes),
        before.fuel + more.fuel,
        more.meter,
        before.egress_bytes + more.egress_bytes,
    )


class ContainerPhase(StrEnum):
    """Where a container is in its life."""

    WAITING = "waiting"
    """There is no process yet, and no room for one before others are gone."""
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """Takes no more calls, and stops when those it has are over."""
    STOPPING = "stopping"
    UNKNOWN = "unknown"
    """The node has started again and does not know yet whether the process is alive."""


class Because(StrEnum):
    """Why a container goes."""

    EVICTED = "evicted"
    """For another one."""
    IDLE = "idle"
    """Not used for as long as the rules keep it."""
    UNUSED = "unused"
    """No virtual container points to it."""
    TOO_SLOW = "too_slow"
    """It did not start in time."""
    OVER_CAPACITY = "over_capacity"
    """The pool has become smaller."""
    CLOSING = "closing"
    """The pool takes no more calls."""
    WITHDRAWN = "withdrawn"
    """Its owner does not offer what it runs any more."""
    FAILED = "failed"
    """It could not be started, or its process has died."""


class Container(msgspec.Struct, frozen=True):
    """The control block of a container: one process.

    Attributes:
        container_id: its name.
        number: of the container among all of the pool; earlier ones have lower numbers.
        image: what it runs.
        size: what it takes; GPUs name their devices.
        tier: for whom it was admitted.
        created_at, started_at, ready_at: Unix ms; 0 before. How long it took to start is `start_ms`.
        tally: hits, last hit, run time, usage.
        virtual: those that point to it.
        position: in the ring of the Clock; second chances move it to the end.
        referenced: used since the Clock last passed it.
        because: why it is going; None: it is not.
        calls: at work (the first, when it is ready) and waiting. While the process lives only.
    """

    container_id: ContainerId
    number: int
    image: Image
    size: Resources
    tier: int
    created_at: int
    phase: ContainerPhase = ContainerPhase.WAITING
    started_at: int = 0
    ready_at: int = 0
    tally: Tally = Tally()
    virtual: tuple[VirtualId, ...] = ()
    position: int = 0
    referenced: bool = True
    because: Because | None = None
    calls: tuple[CallId, ...] = ()

    @property
    def start_ms(self) -> int:
        """How long its start took, the last time."""
        return max(0, self.ready_at - self.started_at)

    @property
    def is_idle(self) -> bool:
        """Whether it could take a call at once."""
        return self.phase is ContainerPhase.READY and not self.calls

    @property
    def is_starting(self) -> bool:
        """Whether its process has been asked for and is not ready yet."""
        return self.phase in (ContainerPhase.STARTING, ContainerPhase.DRAINING) and not self.ready_at

    @property
    def used_at(self) -> int:
        """Unix ms when there was last something to do for it."""
        return max(self.tally.used_at, self.ready_at, self.created_at)


class VirtualContainer(msgspec.Struct, frozen=True):
    """The control block of a virtual container: one user's service.

    Attributes:
        virtual_id: its name.
        user, service: whose it is, and what it calls.
        tier: of the user: 0 pays nothing; a higher one goes before a lower.
        created_at: Unix ms.
        tally: hits, last hit, run time, usage.
        log_bytes: that its calls have written to its log.
        container: that it points to; empty: it waits for its next call to be given one.
        calls: at work and waiting. While the process lives only.
    """

    virtual_id: VirtualId
    user: PeerId
    service: Service
    tier: int
    created_at: int
    tally: Tally = Tally()
    log_bytes: int = 0
    container: ContainerId = ContainerId("")
    calls: int = 0

    @property
    def used_at(self) -> int:
        """Unix ms when there was last a call for it."""
        return max(self.tally.used_at, self.created_at)
