"""A change of an allocation's size at its provider, as its machine meets it. The way of it as a whole: `market.sizes`."""

from __future__ import annotations

from dms_proto.capability import Resources
from dms_proto.machine import Effect, Event, Stimulus
from dms_proto.market.agreement import resize_digest
from dms_proto.messages import Clause, Resize, Resized


class SizeWished(Stimulus, frozen=True):
    """It is to hold `resources`, which are reserved for it. Repeating the change asks for its answer."""

    change: Resize
    resources: Resources


class SizeSet(Stimulus, frozen=True):
    """The limits of the run are those of a change now; or (`failed` non-empty) they are what they were, and why."""

    number: int
    failed: str = ""


class SizeChanging(Event, frozen=True):
    """Its run is being given other limits."""

    change: Resize
    resources: Resources


class SizeChanged(Event, frozen=True):
    """It holds what the change asks for, since `answer.at_ms` of its run."""

    answer: Resized


class SizeKept(Event, frozen=True):
    """It holds what it held: the change was refused."""

    answer: Resized


class SetSize(Effect, frozen=True):
    """Give the run these limits; then say `SizeSet`."""

    number: int
    resources: Resources


class SettleSize(Effect, frozen=True):
    """Tell the offer book what the allocation holds after a change."""

    number: int
    resources: Resources
    price: int


def answer_to(change: Resize, *, at_ms: int = 0, why_not: str = "") -> Resized:
    """What the requester is told of a change."""
    clauses = (Clause("size", "another size while it runs", why_not),) if why_not else ()
    return Resized(change.request_id, change.allocation_id, change.number, resize_digest(change), at_ms, clauses)
