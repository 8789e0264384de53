"""The requester's part of a second price: sealed bids are taken, listed and closed, opened, and the winner's price worked out (`second_price`)."""

from __future__ import annotations

from typing import Final

from dms_proto.ids import BidId
from dms_proto.ids import bid_id as derive_bid_id
from dms_proto.machine import IGNORED, Decision, Send
from dms_proto.market.auction_events import BidReceived, BidsReleased, OpeningRefused, SealReceived, SealsListed
from dms_proto.market.auction_money import affordable
from dms_proto.market.auction_reading import is_full, is_left_out, pending, seeking, unopened, usable
from dms_proto.market.auction_state import (
    MAX_ANSWERS,
    Auction,
    AuctionPhase,
    HeldSeal,
    OpenBid,
    SearchPhase,
    Slot,
    terms_of,
)
from dms_proto.market.auction_stimuli import BidHeard, SealHeard
from dms_proto.market.ledger import without
from dms_proto.market.ranking import Ranking
from dms_proto.market.second_price import OpeningFlaw, award_between, check_opening, seal_of
from dms_proto.messages import MAX_SEALS, Award, Closing, Pricing, Release

NOT_OURS: Final = (OpeningFlaw.NOT_SEALED, OpeningFlaw.FOREIGN)
"""Of these the one that sealed the bid, if there is one, knows nothing."""


def is_sealed(auction: Auction) -> bool:
    """Whether bids are sealed first."""
    return terms_of(auction).pricing is Pricing.SECOND_PRICE


def received(auction: Auction, stimulus: SealHeard, now: int) -> Decision:
    """A sealed bid is kept, or let go where it is forged, too late, one too many, or answers what is not asked any more."""
    terms, sealed = terms_of(auction), stimulus.sealed
    forged = sealed.bid_id != derive_bid_id(terms.request_id, stimulus.provider, sealed.number)
    if not forged and sealed.number <= auction.numbers.get(stimulus.provider, -1):
        return IGNORED  # a repeat, or overtaken by a newer one of the same provider
    provider, source = stimulus.provider, stimulus.facts.source
    expired = tuple(
        bid_id
        for bid_id, seal in auction.seals.items()
        if seal.provider == provider and seal.until <= now and not seal.listed
    )
    kept = without(auction.seals, *expired)
    full = is_full(kept.values(), provider, source, MAX_SEALS, each=1) or len(auction.numbers) >= MAX_ANSWERS
    wanted = is_sealed(auction) and auction.phase is AuctionPhase.OPEN and (seeking(auction) or pending(auction))
    if forged or full or not wanted or is_left_out(auction, provider) or sealed.max_price > affordable(auction):
        return Decision((), (Send(stimulus.provider, Release(terms.request_id, sealed.bid_id)),))
    event = SealReceived(provider, sealed, stimulus.facts, now + sealed.valid_ms)
    return Decision((BidsReleased(expired), event) if expired else (event,))


def opened(auction: Auction, stimulus: BidHeard, now: int) -> Decision:
    """An opening of what was sealed; anything else is let go, and if it is its bidder's doing, that is written down by name."""
    bid, provider = stimulus.bid, stimulus.provider
    known = auction.bids.get(bid.bid_id)
    if known is not None and known.provider == provider:
        return IGNORED
    flaw = _flaw(auction, stimulus, now)
    if flaw is None:
        return Decision((BidReceived(provider, bid, stimulus.facts, auction.seals[bid.bid_id].until),))
    let_go = Send(provider, Release(terms_of(auction).request_id, bid.bid_id))
    if flaw in NOT_OURS:
        return Decision((), (let_go,))
    source = auction.seals[bid.bid_id].facts.source
    return Decision((OpeningRefused(bid.bid_id, provider, flaw, source),), (let_go,))


def _flaw(auction: Auction, stimulus: BidHeard, now: int) -> OpeningFlaw | None:
    seal = auction.seals.get(stimulus.bid.bid_id)
    if seal is None:
        return OpeningFlaw.NOT_SEALED
    if seal.provider != stimulus.provider:
        return OpeningFlaw.FOREIGN
    if not seal.listed:
        return OpeningFlaw.NOT_LISTED
    if now >= auction.window_until:
        return OpeningFlaw.LATE
    return check_opening(seal.sealed, stimulus.bid, stimulus.provider)


def close_step(auction: Auction, now: int, *, is_window_over: bool) -> Decision:
    """Lists the sealed bids that are there, or gives up those that were not opened in time."""
    if auction.phase is not AuctionPhase.OPEN or not seeking(auction) or not auction.seals:
        return IGNORED
    if auction.search is SearchPhase.OPENING:
        return _missed(auction) if now >= auction.window_until else IGNORED
    waiting = fresh(auction, now)
    if not waiting or not is_window_over or usable(auction, now):
        return IGNORED
    terms = terms_of(auction)
    seals = tuple(sorted({seal.sealed.seal for seal in waiting.values()}))
    closing = Closing(terms.request_id, max(auction.round, 0), seals)
    return Decision(
        (SealsListed(tuple(waiting), seals, now + terms.ack_timeout_ms),),
        tuple(Send(seal.provider, closing) for seal in waiting.values()),
    )


def fresh(auction: Auction, now: int) -> dict[BidId, HeldSeal]:
    """The sealed bids that could be listed now."""
    return {
        bid_id: seal
        for bid_id, seal in auction.seals.items()
        if not seal.listed and seal.until > now and not is_left_out(auction, seal.provider)
    }


def _missed(auction: Auction) -> Decision:
    request_id, late = terms_of(auction).request_id, unopened(auction)
    return Decision(
        tuple(
            OpeningRefused(bid_id, seal.provider, OpeningFlaw.UNOPENED, seal.facts.source)
            for bid_id, seal in late.items()
        ),
        tuple(Send(seal.provider, Release(request_id, bid_id)) for bid_id, seal in late.items()),
    )


def repeat_closing(auction: Auction) -> tuple[Send, ...]:
    """What those are told again who have not opened yet."""
    terms = terms_of(auction)
    return tuple(
        Send(seal.provider, Closing(terms.request_id, max(auction.round, 0), seal.listed))
        for seal in unopened(auction).values()
    )


def award_for(winner: OpenBid, slot: Slot, ranking: Ranking, bids: dict[BidId, OpenBid]) -> Award:
    """What the winner is paid: by the best bid behind it that stood on its list and could have been taken instead."""
    behind = ranking.order[ranking.order.index(winner.bid.bid_id) + 1 :]
    rivals = (
        (taken.provider, taken.bid)
        for taken in map(bids.__getitem__, behind)
        if taken.provider not in (*slot.failed_on, winner.provider)
        and seal_of(taken.bid, taken.provider) in winner.listed
    )
    return award_between(winner.bid, winner.provider, next(rivals, None), winner.most)
