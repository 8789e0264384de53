"""A change of an allocation's size at its requester: asked for within what the request may cost, and answered. The way as a whole: `sizes`."""

from __future__ import annotations

from dms_proto.capability import Resources
from dms_proto.machine import IGNORED, Decision, Send
from dms_proto.market.agreement import resize_digest
from dms_proto.market.auction_events import AllocationResized, ResizeRequested
from dms_proto.market.auction_money import money_left, room_with
from dms_proto.market.auction_reading import slot_of
from dms_proto.market.auction_state import Auction, Slot, SlotPhase, terms_of
from dms_proto.market.auction_stimuli import ResizeAnswered, ResizeAsked
from dms_proto.market.sizes import most_owed, why_never
from dms_proto.messages import MAX_CHANGES, Clause, Phase, Resize, Resized
from dms_proto.units import format_credits


def held_by(auction: Auction, slot: Slot) -> Resources:
    """What the allocation of a slot holds now, in the form of a need."""
    return slot.sizes.now or terms_of(auction).needs.resources


def ask_resize(auction: Auction, stimulus: ResizeAsked, _now: int) -> Decision:
    """Asks the provider, or refuses at once; a repeat of what is being asked for asks again."""
    slot = next((slot for slot in auction.slots if slot.allocation_id == stimulus.allocation_id), None)
    if slot is None:
        return IGNORED
    if slot.sizes.changing is not None:
        return Decision((), asked_again(slot) if slot.sizes.changing.resources == stimulus.resources else ())
    change = _change(auction, slot, stimulus.resources)
    if clauses := why_not(auction, slot, stimulus.resources):
        return Decision((AllocationResized(slot.index, _refused(change, clauses)),))
    return Decision((ResizeRequested(slot.index, change),), (Send(slot.provider, change),))


def hear_resized(auction: Auction, stimulus: ResizeAnswered, now: int) -> Decision:
    """Counts if it is the provider's answer to what is being asked for, in the very terms; anything else is old news, or none."""
    answer = stimulus.answer
    slot = slot_of(auction, answer.allocation_id, stimulus.provider)
    asked = slot.sizes.changing if slot is not None else None
    if slot is None or asked is None or (asked.number, resize_digest(asked)) != (answer.number, answer.terms):
        return IGNORED
    return Decision((AllocationResized(slot.index, answer, _believed(slot, answer, now)),))


def asked_again(slot: Slot) -> tuple[Send, ...]:
    """What was asked and not answered, as often as need be."""
    return () if slot.sizes.changing is None else (Send(slot.provider, slot.sizes.changing),)


def why_not(auction: Auction, slot: Slot, wanted: Resources) -> tuple[Clause, ...]:
    """Why a change is not even asked for; nothing, where the provider decides."""
    if slot.phase is not SlotPhase.HELD or slot.allocation is not Phase.RUNNING or slot.give_up_at:
        return (Clause("size", "another size while it runs", "it does not run"),)
    if slot.sizes.number >= MAX_CHANGES:
        return (Clause("size", "one more change", f"{MAX_CHANGES} of one allocation are the most"),)
    return why_never(held_by(auction, slot), wanted) or _too_dear(auction, slot, wanted)


def _too_dear(auction: Auction, slot: Slot, wanted: Resources) -> tuple[Clause, ...]:
    terms = terms_of(auction)
    price = _price(auction, slot, wanted)
    more, room = price - slot.agreed, room_with(auction).get(slot.provider)
    if more <= 0:
        return ()
    could = f"an allocation that may cost {format_credits(price)}"
    if price > terms.max_price:
        return (Clause("price", could, f"the job pays {format_credits(terms.max_price)} at most (--max-price)"),)
    if terms.budget and more > money_left(auction):
        left = format_credits(max(0, money_left(auction)))
        return (Clause("budget", could, f"{left} of the job's budget are left (--budget)"),)
    if room is not None and more > room:
        return (Clause("debt_limit", could, f"{format_credits(max(0, room))} more may be owed to its provider"),)
    return ()


def _price(auction: Auction, slot: Slot, wanted: Resources) -> int:
    return most_owed(slot.agreed, slot.tariff, wanted, terms_of(auction).needs.max_wall_ms)


def _change(auction: Auction, slot: Slot, wanted: Resources) -> Resize:
    number = min(slot.sizes.number + 1, MAX_CHANGES)
    price = _price(auction, slot, wanted)
    return Resize(terms_of(auction).request_id, slot.allocation_id, number, wanted, price)


def _refused(change: Resize, clauses: tuple[Clause, ...]) -> Resized:
    return Resized(change.request_id, change.allocation_id, change.number, resize_digest(change), clauses=clauses)


def _believed(slot: Slot, answer: Resized, now: int) -> int:
    """The time of the run at which a change took effect: not before what was heard of its use already, nor later than it can have run."""
    longest = max(slot.usage.wall_ms, now - slot.held_since)
    return min(max(answer.at_ms, slot.usage.wall_ms), longest)
