"""What one request has come to owe, may yet come to owe, and to whom; in micro-credits."""

from __future__ import annotations

from typing import Final

from dms_proto.ids import PeerId
from dms_proto.market.auction_state import Auction, Slot, SlotPhase, terms_of

AT_WORK: Final = (SlotPhase.COMMITTING, SlotPhase.HELD, SlotPhase.COLLECTING)
"""Phases of a slot for which something may yet become owed."""


def spent(auction: Auction) -> int:
    """Micro-credits owed so far."""
    return sum(slot.price for slot in auction.slots)


def affordable(auction: Auction) -> int:
    """The most a further bid may ask, in micro-credits: the request's price, or what is left of its budget if that is less.

    What is at work counts with all that may become owed for it.
    """
    terms = terms_of(auction)
    if not terms.budget:
        return terms.max_price
    return max(0, min(terms.max_price, money_left(auction)))


def money_left(auction: Auction) -> int:
    """What is left of the budget, in micro-credits."""
    at_work = sum(slot.agreed for slot in auction.slots if slot.phase in AT_WORK)
    return terms_of(auction).budget - spent(auction) - at_work


def stakes(auction: Auction) -> dict[PeerId, int]:
    """What is at work, by provider: micro-credits that will be owed if all of it runs to its limit, and if what is to be judged is right."""
    amounts: dict[PeerId, int] = {}
    for slot in auction.slots:
        if slot.phase in AT_WORK:
            amounts[slot.provider] = amounts.get(slot.provider, 0) + slot.agreed
        elif awaits_verdict(auction, slot):
            amounts[slot.provider] = amounts.get(slot.provider, 0) + slot.settled[-1].price
    return amounts


def settled_by(auction: Auction) -> dict[PeerId, int]:
    """What is owed for attempts that are over, by provider, in micro-credits. What is to be judged is not owed yet."""
    amounts: dict[PeerId, int] = {}
    for slot in auction.slots:
        owed = slot.settled[:-1] if awaits_verdict(auction, slot) else slot.settled
        for attempt in owed:
            amounts[attempt.provider] = amounts.get(attempt.provider, 0) + attempt.price
    return amounts


def awaits_verdict(auction: Auction, slot: Slot) -> bool:
    """Whether a slot has an answer of which it is not clear yet whether it is right."""
    return slot.has_answered and slot.piece not in auction.verdicts


def room_with(auction: Auction) -> dict[PeerId, int]:
    """What may yet come to be owed to each bidder beyond what is at work, in micro-credits; one that is missing has no limit."""
    working, settled = stakes(auction), settled_by(auction)
    return {
        peer: purse.most - purse.elsewhere - working.get(peer, 0) - settled.get(peer, 0)
        for peer, purse in auction.purses.items()
    }
