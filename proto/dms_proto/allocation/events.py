"""What becomes of an allocation at its provider, as it is written down. Its giving way: `freezing`; its other sizes: `resizing`."""

from __future__ import annotations

from typing import Final

from dms_proto.egress import Barred
from dms_proto.ids import NO_DIGESTS, Digest, PeerId
from dms_proto.machine import Event, Transient
from dms_proto.market.ledger import Reservation
from dms_proto.messages import Receipt
from dms_proto.work import Ending, EndReason, Output, Task, Usage

Fetched = tuple[tuple[PeerId, int], ...]
"""Bytes of a task's inputs that each node served."""


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
