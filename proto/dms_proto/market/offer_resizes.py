"""A change of an allocation's size at its provider: taken within what is free, or refused with every reason.

Nobody else's allocation can be changed, nor heard about. A change that was taken is told to the allocation again when it comes again, and that
answers as it did; one with its number and another content is none. What is refused is written nowhere, and may be asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator

from dms_proto.capability import Capability, Resources
from dms_proto.grants.access import Access, refusals
from dms_proto.grants.rights import uses_of
from dms_proto.machine import IGNORED, Decision, Send
from dms_proto.market.agreement import resize_digest
from dms_proto.market.gpu_shares import share_clauses
from dms_proto.market.ledger import Reservation
from dms_proto.market.offer_judgement import LOG_IS_FULL, access_to, is_known
from dms_proto.market.offer_lending import free_beside_lent
from dms_proto.market.offer_state import (
    BookPhase,
    ChangeSize,
    OfferBook,
    ReservationSettled,
    ReservationWidened,
    ResizeHeard,
    SizeSettled,
)
from dms_proto.market.sizes import grows, larger, most_owed, not_free, on_its_devices, why_never
from dms_proto.market.verdicts import MAX_CLAUSES
from dms_proto.messages import BidRequest, Clause, Resize, Resized
from dms_proto.units import GPU, format_count, format_credits


def take_resize(book: OfferBook, stimulus: ResizeHeard, _now: int) -> Decision:
    """The allocation holds the larger of before and after until it says that it has changed; anything in the way is said by name."""
    change, held = stimulus.change, book.ledger.reservations.get(stimulus.change.allocation_id)
    if held is None or (held.requester, held.request_id) != (stimulus.requester, change.request_id):
        return IGNORED  # there is none, or it is somebody else's: the same silence for both
    terms = resize_digest(change)
    if change.number <= held.change:
        is_repeat = (change.number, terms) == (held.change, held.terms)
        return Decision((), (ChangeSize(change, _wanted(book, held, change)),)) if is_repeat else IGNORED
    clauses = why_never(held.resources, change.resources) or tuple(_clauses(book, stimulus, held))
    if clauses:
        answer = Resized(change.request_id, change.allocation_id, change.number, terms, clauses=clauses[:MAX_CLAUSES])
        return Decision((), (Send(stimulus.requester, answer),))
    wanted = _wanted(book, held, change)
    most = larger(held.resources, wanted)
    widened = ReservationWidened(change.allocation_id, change.number, terms, most, change.price)
    return Decision((widened,), (ChangeSize(change, wanted),))


def settled(book: OfferBook, stimulus: SizeSettled) -> tuple[ReservationSettled, ...]:
    """A change is over at the allocation; once."""
    held = book.ledger.reservations.get(stimulus.allocation_id)
    if held is None or not held.is_changing or held.change != stimulus.number:
        return ()
    return (ReservationSettled(stimulus.allocation_id, stimulus.resources, stimulus.price),)


def _wanted(book: OfferBook, held: Reservation, change: Resize) -> Resources:
    return on_its_devices(held.resources, change.resources, book.ledger.registered)


def _clauses(book: OfferBook, stimulus: ResizeHeard, held: Reservation) -> Iterator[Clause]:
    change, requester, wanted = stimulus.change, stimulus.requester, _wanted(book, held, stimulus.change)
    if held.is_changing:
        under_way = f"{format_count(held.change, 'change')} asked for, the last under way"
        yield Clause("size", "one change after the other", under_way, "wait for its end", passing=True)
    yield from not_free(held.resources, wanted, free_beside_lent(book) if held.lent else book.free)
    has_share = any(gpu.milli < GPU for gpu in held.resources.gpus)
    yield from share_clauses(change.resources.gpus, own=is_known(book, requester) or has_share)
    if not stimulus.may_write:
        yield LOG_IS_FULL
    if grows(held.resources, wanted):
        yield from _not_allowed(book, stimulus, held)
    price = most_owed(held.price, held.tariff, wanted, held.wall_ms)
    if change.price != price:
        yield Clause(
            "price", format_credits(change.price), f"it may cost up to {format_credits(price)} under its tariff"
        )
    elif requester != book.me and price - held.price > max(0, book.credit_left(requester)):
        left = f"{format_credits(max(0, book.credit_left(requester)))} of credit left here"
        yield Clause("credit", f"{format_credits(price - held.price)} more", left)


def _not_allowed(book: OfferBook, stimulus: ResizeHeard, held: Reservation) -> Iterator[Clause]:
    """What stands in the way of more: a node that takes no new work, a right that goes no further."""
    if book.phase is not BookPhase.OPEN:
        yield Clause("accepts_work", "a node that takes work", "it gives nothing more for now", passing=True)
    change = stimulus.change
    access = access_to(book, stimulus.requester, change.resources)
    if access is not Access.PUBLIC:
        needs = Capability(resources=change.resources, max_wall_ms=held.wall_ms)
        as_asked = BidRequest(change.request_id, 0, needs, 1, 1, 0, change.price, 0)
        yield from refusals(access, uses_of(as_asked), stimulus.credential)
