"""Where an allocation is, and what is read off that."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.allocation.freezing import Frozen
from dms_proto.egress import Barred
from dms_proto.ids import PeerId, RequestId
from dms_proto.market.ledger import Reservation
from dms_proto.market.sizes import UNCHANGED, Sizes
from dms_proto.messages import AllocationStatus, Phase
from dms_proto.work import NO_LOGS, Ending, EndReason, Logs, Output, Task, Usage


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


EARLY: Final = (LifePhase.COMMITTED, LifePhase.PREPARING)
WORKING: Final = (LifePhase.PREPARING, LifePhase.STARTING, LifePhase.RUNNING)
GIVING_WAY: Final = (*EARLY, LifePhase.STARTING, LifePhase.RUNNING)
RUNS: Final = (LifePhase.STARTING, LifePhase.RUNNING, LifePhase.STOPPING)
"""Phases in which something may run on the machine: after a restart of the node it is looked for."""

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


def status_of(allocation: Allocation) -> AllocationStatus:
    """What the requester is told. The number grows with the phase, so that an older status is recognised."""
    reservation, told = reservation_of(allocation), TOLD[allocation.phase]
    ended = told is Phase.ENDED
    frozen = frozen_now(allocation)
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


def frozen_now(allocation: Allocation) -> Frozen:
    """Whether it stands still now: what is being stopped does not, though it may be for that."""
    return allocation.frozen if allocation.phase in GIVING_WAY else Frozen()


def ran_ms(allocation: Allocation, now: int) -> int:
    """For how long it has run, by the clock. It may have given way already before it started: nobody owes less than nothing for that."""
    if not allocation.started_at:
        return 0
    return max(0, now - allocation.started_at - allocation.frozen.total_ms(now))


def is_party(allocation: Allocation, peer: PeerId, request_id: RequestId) -> bool:
    """Whether a message is from the requester of the agreement and about its request. Knowing the ids makes nobody a party."""
    reservation = reservation_of(allocation)
    return (peer, request_id) == (reservation.requester, reservation.request_id)


def reservation_of(allocation: Allocation) -> Reservation:
    """What is held for it."""
    assert allocation.reservation is not None, "a new allocation holds nothing"
    return allocation.reservation


def task_of(allocation: Allocation) -> Task:
    """Its work, once it was invoked."""
    assert allocation.task is not None, "it was not invoked"
    return allocation.task
