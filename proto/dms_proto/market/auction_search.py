"""After every change to a request: awards what can be awarded, asks again, waits or gives up, lets go, ends.

The search for the slots that seek::

    CALLED ──announced──▶ WINDOW ──closes──▶ award ──slots left over──▶ SHORT ──▶ WAITING ──pause over, slots come back──▶ CALLED …
                                       └──sealed bids: listed──▶ OPENING ──all opened, or time──▶ award
                                       └──nobody can, ever──▶ given up, with the reason of the node nearest to a yes
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from dms_proto.accounts.book import NO_LIMIT
from dms_proto.ids import BidId, PeerId
from dms_proto.machine import IGNORED, Decision, Effect, Event, Send
from dms_proto.market.auction_attempts import STOPPED
from dms_proto.market.auction_copies import (
    accept_step,
    checks_due,
    endings,
    is_copy,
    is_over,
    judge_step,
    neighbours,
    taker,
)
from dms_proto.market.auction_effects import Announce, Conclude
from dms_proto.market.auction_events import (
    AttemptEnded,
    AwardMade,
    BidPassedOver,
    BidsReleased,
    RequestEnded,
    RequestWaiting,
    RoundCalled,
)
from dms_proto.market.auction_fold import evolve
from dms_proto.market.auction_gang import first_failure, gang_step, lacking, may_take
from dms_proto.market.auction_lots import looks_step
from dms_proto.market.auction_messages import bid_request, commit_message
from dms_proto.market.auction_money import AT_WORK, affordable, money_left, room_with, spent, stakes
from dms_proto.market.auction_pace import ack_ms
from dms_proto.market.auction_reading import (
    bidder_of,
    is_before_all,
    is_held_back,
    is_left_out,
    is_passing,
    is_taken_last,
    pending,
    seeking,
    unfilled,
    unopened,
    usable,
)
from dms_proto.market.auction_seals import award_for, close_step, fresh, is_sealed
from dms_proto.market.auction_state import Auction, AuctionPhase, OpenBid, SearchPhase, Slot, terms_of
from dms_proto.market.candidates import Candidate, candidate_of
from dms_proto.market.comparators import choose
from dms_proto.market.impossible import DEBT, why_impossible
from dms_proto.market.named_node import why_busy, why_declined, why_silent, why_unreachable
from dms_proto.market.ranking import Decision as RankingDecision
from dms_proto.market.reach import EVERYBODY, reach_for
from dms_proto.market.second_price import by_price_alone
from dms_proto.market.spot_checks import finding_step
from dms_proto.messages import Clause, Release
from dms_proto.units import format_count, format_credits
from dms_proto.work import Ending, EndReason

NO_PEERS_GRACE_MS: Final = 3_000
"""A node that has just started may not have met anyone yet."""
ROUND_BACKOFF_MS: Final = (1_000, 2_000, 4_000, 8_000, 15_000, 30_000)
"""Pauses between rounds that found nothing, as long as another may find somebody before whom the request does not lie."""
REMIND_MS: Final = 5_000
"""The least pause after a round while it lies before everybody: whoever keeps it answers as soon as capacity frees, and who has not answered has it
still to read. Shorter, and many jobs that wait for one busy market ask, and are answered, more than they are run (docs/decisions/0068)."""

change = msgspec.structs.replace


def settle(auction: Auction, events: tuple[Event, ...], effects: tuple[Effect, ...], now: int) -> Decision:
    """After `events`: awards what can be awarded, asks again where that helps, lets go what is not needed, ends what is over."""
    for event in events:
        auction = evolve(auction, event)
    for step in _STEPS:
        more = step(auction, now)
        for event in more.events:
            auction = evolve(auction, event)
        events, effects = events + more.events, effects + more.effects
    return Decision(events, effects)


def _cancelled_step(auction: Auction, _now: int) -> Decision:
    """A slot that was cancelled while its commit was under way, and came back, does not seek again."""
    ending = Ending(EndReason.CANCELLED, detail=STOPPED[EndReason.CANCELLED])
    return Decision(
        tuple(
            AttemptEnded(slot.index, PeerId(""), slot.allocation_id, ending, final=True)
            for slot in unfilled(auction)
            if slot.give_up_at
        )
    )


def _ceiling_step(auction: Auction, _now: int) -> Decision:
    """Bids that cost more than may yet come to be owed to their providers are let go: they hold capacity that cannot be taken."""
    if not auction.purses or not auction.bids:
        return IGNORED
    room, request_id = room_with(auction), terms_of(auction).request_id
    over = {
        bid_id: bid
        for bid_id, bid in auction.bids.items()
        if not bid.ack_until and bid.stake > max(0, room.get(bid.provider, bid.stake))
    }
    events = tuple(BidPassedOver(bid_id, bid.provider, _ceiling(auction, bid, room)) for bid_id, bid in over.items())
    return Decision(events, tuple(Send(bid.provider, Release(request_id, bid_id)) for bid_id, bid in over.items()))


def _ceiling(auction: Auction, bid: OpenBid, room: Mapping[PeerId, int]) -> Clause:
    """Why a bid is passed over. It passes if what is at work there may turn out cheaper."""
    working = stakes(auction).get(bid.provider, 0) + auction.purses[bid.provider].elsewhere
    return Clause(
        DEBT,
        format_credits(bid.stake),
        f"{format_credits(max(0, room[bid.provider]))} may yet be owed to it: pay it, or raise the debt limit for it",
        passing=bid.stake <= room[bid.provider] + working,
    )


def _close_step(auction: Auction, now: int) -> Decision:
    bidders = {seal.provider for seal in fresh(auction, now).values()}
    enough = len(bidders) >= terms_of(auction).bids_wanted
    return close_step(auction, now, is_window_over=_window_closed(auction, now, enough=enough))


def _award_step(auction: Auction, now: int) -> Decision:
    """Awards what can be awarded, and what that calls for: copies whose results check each other."""
    events: tuple[Event, ...] = ()
    effects: tuple[Effect, ...] = ()
    while (more := _award_once(auction, now)) != IGNORED:
        for event in more.events:
            auction = evolve(auction, event)
        events, effects = events + more.events, effects + more.effects
    return Decision(events, effects)


def _award_once(auction: Auction, now: int) -> Decision:
    slots = unfilled(auction)
    if auction.phase is not AuctionPhase.OPEN or not slots:
        return IGNORED
    bids = {bid_id: bid for bid_id, bid in usable(auction, now).items() if not is_held_back(auction, bid.facts)}
    first = {bid_id: bid for bid_id, bid in bids.items() if not is_taken_last(auction, bid.facts)}
    if not bids or not _may_award(auction, first, len(slots), now):
        return IGNORED
    awarded = _award(auction, slots, first, now)
    return _award(auction, slots, bids, now) if awarded == IGNORED and len(first) < len(bids) else awarded


def _award(auction: Auction, slots: tuple[Slot, ...], bids: dict[BidId, OpenBid], now: int) -> Decision:
    if not bids:
        return IGNORED
    terms = terms_of(auction)
    preferences = by_price_alone(terms.preferences) if is_sealed(auction) else terms.preferences
    decision = choose(bid_request(auction, auction.round), _candidates(bids), preferences)
    money = money_left(auction) if terms.budget else None
    awards = _fill(auction, slots, decision, bids, money)
    if not awards or not may_take(auction, awards, slots):
        return IGNORED
    award = None
    if is_sealed(auction):
        (bid_id, _), *_none = awards  # for one slot
        award = award_for(bids[bid_id], slots[0], decision.ranking, bids)
    ack_until = now + ack_ms(auction, (bids[bid_id] for bid_id, _ in awards))
    event = AwardMade(decision, awards, ack_until, award)
    commits = tuple(
        Send(bids[bid_id].provider, commit_message(auction, change(bids[bid_id], award=award), indexes))
        for bid_id, indexes in awards
    )
    awarded = [index for _, indexes in awards for index in indexes]
    return Decision((event, *checks_due(evolve(auction, event), awarded)), commits)


def _may_award(auction: Auction, bids: dict[BidId, OpenBid], wanted: int, now: int) -> bool:
    if is_sealed(auction):
        return auction.search not in (SearchPhase.CALLED, SearchPhase.WINDOW) and not unopened(auction)
    bidders = {bid.provider for bid in bids.values()}
    enough = len(bidders) >= terms_of(auction).bids_wanted and sum(bid.bid.slots for bid in bids.values()) >= wanted
    return _window_closed(auction, now, enough=enough)


def _window_closed(auction: Auction, now: int, *, enough: bool) -> bool:
    match auction.search:
        case SearchPhase.CALLED:
            return enough
        case SearchPhase.WINDOW:
            return enough or now >= auction.window_until or _all_answered(auction, now)
        case _:
            return True  # a late bid for a waiting slot, or the next best after a silent winner


def _all_answered(auction: Auction, now: int) -> bool:
    """Whether everybody has who is waited for. Where nobody bids, that is everybody who was asked."""
    silent = [peer for peer, has_answered in auction.asked.items() if not has_answered]
    if silent and not (auction.unawaited.issuperset(silent) and _has_bid(auction, now)):
        return False
    return not auction.gossiped or len(auction.asked) >= auction.known


def _has_bid(auction: Auction, now: int) -> bool:
    bids = any(not is_held_back(auction, bid.facts) for bid in usable(auction, now).values())
    return bids or bool(fresh(auction, now))


def _candidates(bids: dict[BidId, OpenBid]) -> tuple[Candidate, ...]:
    return tuple(candidate_of(bid.provider, bid.bid, bid.facts) for bid in bids.values())


def _fill(
    auction: Auction, slots: tuple[Slot, ...], decision: RankingDecision, bids: dict[BidId, OpenBid], money: int | None
) -> tuple[tuple[BidId, tuple[int, ...]], ...]:
    """Gives each slot the best-ranked bid with room, on a node where its job has not failed, as far as the money goes.

    Of bids that are as good as equal it is whichever has least under way, what was just given counted.
    """
    order = decision.ranking.order
    share = 1 if decision.comparator else decision.ranking.equals(decision.preferences.spread_percent)
    load = Counter({bids[bid_id].provider: bids[bid_id].facts.at_work for bid_id in order})
    owing = room_with(auction)
    room = {bid_id: bid.bid.slots for bid_id, bid in bids.items()}
    awards: dict[BidId, list[int]] = {}
    given: list[tuple[int, OpenBid]] = []
    for slot in slots:
        ranked = (*sorted(order[:share], key=lambda bid_id: load[bids[bid_id].provider]), *order[share:])
        taken = taker(auction, slot, _affordable(slot, ranked, bids, room, money, owing), given)
        if taken is not None:
            room[taken.bid.bid_id] -= 1
            load[taken.provider] += 1
            money = None if money is None else money - taken.stake
            owing[taken.provider] = owing.get(taken.provider, NO_LIMIT) - taken.stake
            awards.setdefault(taken.bid.bid_id, []).append(slot.index)
            given.append((slot.piece, taken))
    return tuple((bid_id, tuple(indexes)) for bid_id, indexes in awards.items())


def _affordable(  # noqa: PLR0917 - what `_fill` keeps
    slot: Slot,
    ranked: Iterable[BidId],
    bids: dict[BidId, OpenBid],
    room: dict[BidId, int],
    money: int | None,
    owing: dict[PeerId, int],
) -> Iterator[OpenBid]:
    """The bids that have room for a slot and are not too dear, on nodes where its job has not failed, best first.

    `owing`: what may yet come to be owed to a provider; one that is missing has no limit.
    """
    for bid_id in ranked:
        bid, price = bids[bid_id], bids[bid_id].stake
        is_too_dear = (money is not None and price > money) or price > max(0, owing.get(bid.provider, price))
        if room[bid_id] and not is_too_dear and bid.provider not in slot.failed_on:
            yield bid


def _search_step(auction: Auction, now: int) -> Decision:
    """With slots that seek and nothing to take: ask (again), wait and say why, or give up with a reason."""
    if not seeking(auction):
        return IGNORED
    if auction.phase is AuctionPhase.CANCELLING:
        return Decision(give_up(auction, auction.stopped_for, STOPPED[auction.stopped_for]))
    search = auction.search
    # Whoever gossip may still reach is given the whole window before the answer is no.
    answered = _all_answered(auction, now) and not auction.gossiped
    window_over = search is SearchPhase.WINDOW and (auction.window_until <= now or answered)
    window_over = window_over or (search is SearchPhase.OPENING and not unopened(auction))
    if search is SearchPhase.IDLE or (search is SearchPhase.WAITING and auction.next_round_at <= now):
        return call_round(auction)
    return _wait_or_give_up(auction, now) if window_over or search is SearchPhase.SHORT else IGNORED


def call_round(auction: Auction) -> Decision:
    """Asks again, further than before."""
    round_ = auction.round + 1
    return Decision((RoundCalled(round_),), (Announce(bid_request(auction, round_)),))


def _wait_or_give_up(auction: Auction, now: int) -> Decision:
    """Nothing can be taken now. Waiting helps while some node is busy, silent or being tried again; otherwise the answer is no."""
    if why := _own_work(auction):
        return _wait(auction, now, now, why, terms_of(auction).queue_ms)
    obstacle = _obstacle(auction, now)
    if obstacle is None or (_has_held_back(auction, now) and not _busy(auction)):
        return call_round(auction)
    since = auction.waiting_since or now
    if now - since < obstacle.patience_ms:
        return _wait(auction, now, since, obstacle.why, obstacle.patience_ms)
    if _is_unasked(auction):
        return call_round(auction)  # there is no patience for those who were asked, but not everybody was
    return Decision(give_up(auction, obstacle.verdict, obstacle.why))


def _has_held_back(auction: Auction, now: int) -> bool:
    return any(is_held_back(auction, bid.facts) for bid in usable(auction, now).values())


class _Obstacle(NamedTuple):
    """What keeps slots from being taken, as the reason to end for, and how long it is waited for, in milliseconds."""

    why: str
    verdict: EndReason
    patience_ms: int


def _own_work(auction: Auction) -> str:
    """In words that the request waits for its own other allocations, as long as they take; empty when it does not."""
    is_held = any(slot.phase in AT_WORK for slot in auction.slots)
    if not is_held or terms_of(auction).together or any(slot.failed_on for slot in seeking(auction)):
        return ""
    if all(is_copy(auction, slot) for slot in seeking(auction)):
        return "waits for a node that has no copy of it yet"
    return "waits for its own other allocations to free capacity"


def _obstacle(auction: Auction, now: int) -> _Obstacle | None:
    """What stands in the way; None: all who were asked said no, but not everybody was asked."""
    terms = terms_of(auction)
    patience_ms = max(terms.patience_ms, NO_PEERS_GRACE_MS)
    if why := lacking(auction, seeking(auction), now) or _busy(auction):
        return _Obstacle(why, EndReason.NO_BIDS, terms.queue_ms)
    if _is_alone(auction):
        alone = "no other node can be reached", EndReason.NO_PEERS
        return _Obstacle(*(_why_impossible(auction, now) if auction.declines else alone), patience_ms)
    if why := why_unreachable(auction):
        return _Obstacle(why, EndReason.NO_BIDS, patience_ms)
    if why := _silent(auction):  # who is connected and says nothing is busy, for all that can be told
        return _Obstacle(why, EndReason.NO_BIDS, terms.queue_ms)
    if _is_unasked(auction) or reach_for(terms.bids_wanted, max(auction.known, 1), auction.round) < EVERYBODY:
        return None
    return _Obstacle(*_why_impossible(auction, now), terms.patience_ms)


def _busy(auction: Auction) -> str:
    """How many nodes could take it at another time, in words; empty when none could."""
    if terms_of(auction).only:
        return why_busy(auction)
    busy = sum(is_passing(clauses) for clauses in auction.declines.values())
    busy += sum(is_left_out(auction, peer) for peer in auction.faulty)
    owed = sum(clause.dimension == DEBT and clause.passing for said in auction.declines.values() for clause in said)
    if not busy:
        return ""
    if owed == busy:
        return f"waits until what is at work elsewhere leaves room to owe {format_count(owed, 'bidder')} more"
    return format_count(busy, "node could do it but is busy", "nodes could do it but are busy")


def _is_alone(auction: Auction) -> bool:
    """Whether there is nobody to ask but this node itself."""
    requester = terms_of(auction).requester
    return auction.known <= 1 and all(peer == requester for peer in (*auction.asked, *auction.declines))


def _silent(auction: Auction) -> str:
    """How many nodes were asked and may yet answer, in words; empty when there is none."""
    if terms_of(auction).only:
        return why_silent(auction)
    silent = sum(not answered for answered in auction.asked.values())
    if not silent and auction.gossiped and not any(auction.asked.values()):
        silent = auction.known
    if not silent:
        return ""
    return format_count(silent, "node was asked and has not answered", "nodes were asked and have not answered")


def _is_unasked(auction: Auction) -> bool:
    """Whether only those were asked who are asked first."""
    return auction.round == 0 and not auction.gossiped and not terms_of(auction).only


def _wait(auction: Auction, now: int, since: int, why: str, patience_ms: int) -> Decision:
    """Lets go of bids that cannot be used and pauses; no longer than it is waited for where everybody has the request."""
    until = now + ROUND_BACKOFF_MS[min(auction.waits, len(ROUND_BACKOFF_MS) - 1)]
    unused = tuple(bid_id for bid_id, bid in auction.bids.items() if not bid.ack_until) + tuple(auction.seals)
    if is_before_all(auction) and not unused:
        until = max(until, min(auction.window_until + REMIND_MS, since + patience_ms))
    events: tuple[Event, ...] = (RequestWaiting(why, until, since),)
    if unused:
        events = (BidsReleased(unused), *events)
    request_id = terms_of(auction).request_id
    releases = tuple(Send(bidder_of(auction, bid_id), Release(request_id, bid_id)) for bid_id in unused)
    return Decision(events, releases)


def _why_impossible(auction: Auction, now: int) -> tuple[str, EndReason]:
    request = bid_request(auction, auction.round)
    bids = {bid_id: bid for bid_id, bid in usable(auction, now).items() if bid.bid.price <= affordable(auction)}
    why, reason = why_impossible(auction, choose(request, _candidates(bids), terms_of(auction).preferences).ranking)
    if not all(is_copy(auction, slot) for slot in seeking(auction)):
        is_refused = terms_of(auction).only and reason is not EndReason.BUDGET_SPENT
        return (is_refused and why_declined(auction)) or why, reason
    if near := neighbours(auction, bids.values()):
        shares = format_count(near, "node could but shares", "nodes could but share")
        return f"{shares} a network with one that has a copy; `apart: nodes` would let it", EndReason.NO_BIDS
    declined = f" ({why})" if auction.declines else ""
    return f"no node is left that has no copy of it yet{declined}", EndReason.NO_BIDS


def give_up(auction: Auction, reason: EndReason, why: str) -> tuple[Event, ...]:
    """Ends every slot that seeks. A slot whose job failed before ends with that failure: it is the truer reason."""
    events = []
    for slot in seeking(auction):
        ending = slot.failure or Ending(reason, detail=why)
        note = f"not tried elsewhere: {why}" if slot.failure else why
        events.append(AttemptEnded(slot.index, PeerId(""), slot.allocation_id, ending, final=True, why=note))
    return tuple(events)


def _release_step(auction: Auction, _now: int) -> Decision:
    """With every slot held or done: the losers are free, and the request stands nowhere any more."""
    if seeking(auction) or pending(auction) or not (auction.bids or auction.seals or auction.standing_at):
        return IGNORED
    request_id = terms_of(auction).request_id
    bids = (*auction.bids, *auction.seals)
    bidders = {bidder_of(auction, bid_id) for bid_id in bids}
    withdrawn = tuple(sorted(auction.standing_at - bidders))
    sends = [Send(bidder_of(auction, bid_id), Release(request_id, bid_id)) for bid_id in bids]
    sends += [Send(peer, Release(request_id)) for peer in withdrawn]
    return Decision((BidsReleased(bids, withdrawn),), tuple(sends))


def _end_step(auction: Auction, now: int) -> Decision:
    if not is_over(auction):
        return IGNORED
    failed = next((ending for ending in endings(auction) if ending.reason is not EndReason.COMPLETED), None)
    failed = first_failure(auction) or failed
    ended = failed or Ending(EndReason.COMPLETED)
    return Decision((RequestEnded(ended.reason, ended.detail, now, spent(auction)),), (Conclude(),))


_STEPS: Final = (
    _cancelled_step,
    _ceiling_step,
    _close_step,
    _award_step,
    judge_step,
    looks_step,
    _award_step,  # copies that were just called
    gang_step,
    _search_step,
    gang_step,  # for what was just given up
    judge_step,  # of what was just given up
    accept_step,
    _release_step,
    finding_step,
    _end_step,
)
