"""What can be read off the state of one request: which slots seek, which bids can be taken, what they agree on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from dms_proto.ids import AllocationId, BidId, Digest, PeerId
from dms_proto.market.agreement import Agreement, agreement_on, terms_digest
from dms_proto.market.auction_events import AttemptEnded
from dms_proto.market.auction_state import SHARE, Auction, AuctionPhase, HeldSeal, OpenBid, Slot, SlotPhase, terms_of
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import BidderFacts
from dms_proto.messages import Clause
from dms_proto.reputation.silence import SOURCE_STRIKES
from dms_proto.verification.policy import Policy, is_trusted
from dms_proto.work import ANSWERS, EndReason

_UNANSWERED: Final = (SlotPhase.COMMITTING, SlotPhase.HELD)


def slot_of(auction: Auction, allocation: AllocationId, provider: PeerId) -> Slot | None:
    """The slot that this allocation at this provider fills now, or None when it is from an attempt that is over."""
    for slot in auction.slots:
        if slot.allocation_id == allocation and slot.provider == provider:
            return slot if slot.phase is not SlotPhase.SEEKING else None
    return None


def seeking(auction: Auction) -> tuple[Slot, ...]:
    """The slots that look for a node.

    A copy beside the run of a trusted provider is looked for when that has its answer. It takes a bid that is at hand, but asking for one would
    tell the provider, which hears whatever is asked of the market, that this time its answer is checked.
    """
    open_slots, terms = unfilled(auction), auction.terms
    is_secret = terms is not None and terms.verify.policy is Policy.ADAPTIVE and auction.phase is AuctionPhase.OPEN
    if not open_slots or not is_secret:
        return open_slots
    watched = {slot.piece for slot in auction.slots if slot.phase in _UNANSWERED and is_trusted(slot.streak)}
    return tuple(slot for slot in open_slots if slot.piece not in watched)


def unfilled(auction: Auction) -> tuple[Slot, ...]:
    """The slots that no node has, whether or not one is looked for now."""
    return tuple(slot for slot in auction.slots if slot.phase is SlotPhase.SEEKING)


def pending(auction: Auction) -> dict[BidId, OpenBid]:
    """The bids that were taken and not yet acknowledged."""
    return {bid_id: bid for bid_id, bid in auction.bids.items() if bid.ack_until}


def bidder_of(auction: Auction, bid_id: BidId) -> PeerId:
    """Who made a bid that is held, sealed or not."""
    held = auction.bids.get(bid_id) or auction.seals[bid_id]
    return held.provider


def is_full(kept: Collection[OpenBid | HeldSeal], provider: PeerId, source: str, most: int, each: int) -> bool:
    """Whether a request keeps as many bids as it may: `most` in all, a share of them from one source, `each` by one provider."""
    near = sum(bid.facts.source == source for bid in kept)
    own = sum(bid.provider == provider for bid in kept)
    return len(kept) >= most or near >= most // SHARE or own >= each


def unopened(auction: Auction) -> dict[BidId, HeldSeal]:
    """The sealed bids whose bidders were told to open them."""
    return {bid_id: seal for bid_id, seal in auction.seals.items() if seal.listed}


def is_taken_last(auction: Auction, facts: BidderFacts) -> bool:
    """Whether a bid is taken only where there is no other: its bidder was silent lately, or a few newcomers at its source were in this round."""
    crowded = facts.is_newcomer and auction.silent_at.get(facts.source, 0) >= SOURCE_STRIKES
    return facts.aside is not None or crowded


def is_held_back(auction: Auction, facts: BidderFacts) -> bool:
    """Whether a bid is not taken yet: in the first round those that are taken last are not, since whoever is busy may be free in the next."""
    return auction.round <= 0 and is_taken_last(auction, facts)


def usable(auction: Auction, now: int) -> dict[BidId, OpenBid]:
    """The bids that could be taken now."""
    return {
        bid_id: bid
        for bid_id, bid in auction.bids.items()
        if not bid.ack_until and bid.until > now and not is_left_out(auction, bid.provider)
        if bid.provider not in auction.unfit
    }


def is_left_out(auction: Auction, provider: PeerId) -> bool:
    """Whether a node failed us so lately that this round goes without it."""
    failed_in = auction.faulty.get(provider)
    return failed_in is not None and auction.round <= failed_in + 1


def is_before_all(auction: Auction) -> bool:
    """Whether all have the request, to keep or to answer yet: another round would tell nobody anything, nor take back whom this one leaves out."""
    is_kept = all(peer in auction.standing_at or not answered for peer, answered in auction.asked.items())
    is_left = any(is_left_out(auction, peer) for peer in auction.faulty)
    return len(auction.asked) >= max(auction.known, 1) and is_kept and not is_left


def is_passing(clauses: tuple[Clause, ...]) -> bool:
    """Whether waiting may turn a decline into a bid."""
    return all(clause.passing for clause in clauses)


def is_answer(auction: Auction, slot: Slot, ended: AttemptEnded) -> bool:
    """Whether the end of an attempt says what the work gives, where that is checked. What was being stopped has not failed by itself."""
    if not terms_of(auction).verify.is_on or not ended.provider:
        return False
    is_stopped = auction.phase is AuctionPhase.CANCELLING or bool(slot.give_up_at)
    reason = ended.ending.reason
    return reason is EndReason.COMPLETED or (reason in ANSWERS and not is_stopped)


def terms_agreed(terms: Terms, taken: OpenBid, slots: tuple[int, ...]) -> Digest:
    """What this node agrees on when it takes a bid for `slots`, by what it asked for itself."""
    return terms_digest(agreement_of(terms, taken, slots))


def agreement_of(terms: Terms, taken: OpenBid, slots: tuple[int, ...]) -> Agreement:
    """The same, spelled out."""
    numbers = tuple(terms.number_of(index) for index in slots)
    return agreement_on(taken.bid, terms.needs, terms.requester, taken.provider, numbers, award=taken.award)
