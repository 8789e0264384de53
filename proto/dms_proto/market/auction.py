"""The requester's machine: ask, compare, award, commit, watch, retry, end. One per request.

The window of a round closes when enough bids are in, when everyone asked has answered, or when its time is over; then the bids are
ranked and the slots awarded in that order. Losers are kept until every winner has acknowledged, so a silent winner costs one
acknowledgement timeout and nothing else. With slots left over, the request stands at the nodes that were busy, and asks again by itself.

What ends an attempt decides what follows (`work.DETERMINISTIC`, `work.NODE_FAULTS`): the job's own failure is tried on a second node and
then believed; a node's fault moves on to the next node and counts against the faulty one.

A provider that cannot be reached is given time in proportion to what would be lost: half of what its allocation has run, between
LOST_GRACE_MIN_MS and LOST_GRACE_MAX_MS. One that has just begun is replaced at once; one that has run for an hour is waited for.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.ids import BidId, PeerId
from dms_proto.ids import bid_id as derive_bid_id
from dms_proto.machine import IGNORED, Decision, Effect, Event, Row, Send, Stimulus, Table, TimeCame, earliest, ignore
from dms_proto.market.auction_fold import evolve, is_passing, pending, seeking, slot_of, spent, usable
from dms_proto.market.auction_state import (
    MAX_BIDS,
    AllocationAdvanced,
    AllocationFinished,
    Announce,
    Announced,
    AttemptEnded,
    Auction,
    AuctionPhase,
    AwardMade,
    BidHeard,
    BidReceived,
    BidsReleased,
    CancelAsked,
    CancelRequested,
    Collect,
    Collected,
    CommitAcked,
    CommitConfirmed,
    CommitFailed,
    CommitTurnedAway,
    Conclude,
    DeclineHeard,
    DeclineReceived,
    InvocationAnswered,
    OpenBid,
    PeerLost,
    PeerThere,
    ProviderReturned,
    ProviderSuspected,
    RequestAnnounced,
    RequestEnded,
    RequestOpened,
    RequestWaiting,
    RoundCalled,
    SearchPhase,
    Slot,
    SlotPhase,
    StatusHeard,
    Submitted,
    Terms,
)
from dms_proto.market.ranking import Candidate, Ranking
from dms_proto.market.ranking import decide as rank_decision
from dms_proto.market.reach import reach_for
from dms_proto.messages import BidRequest, Cancel, Clause, Commit, Invocation, Receipt, Release
from dms_proto.work import DETERMINISTIC, Ending, EndReason, Task

LOST_GRACE_MIN_MS: Final = 300
LOST_GRACE_MAX_MS: Final = 15_000
OWN_OUTAGE_GRACE_MS: Final = 15_000
"""When it is our own network that is down, the providers are innocent: they get this long at least."""
NO_PEERS_GRACE_MS: Final = 3_000
"""A node that has just started may not have met anyone yet."""
CANCEL_GRACE_MS: Final = 5_000
"""How long providers may take to say that a cancelled allocation has ended."""
ROUND_BACKOFF_MS: Final = (1_000, 2_000, 4_000, 8_000, 15_000, 30_000)
"""Pauses between rounds that found nothing: a safety net, since standing requests are answered as soon as capacity frees."""
UNREACHABLE: Final = Clause("connection", "a node that can be reached", "the connection was lost", passing=True)
"""Stands in for the answer of a node that went away while it was asked."""

change = msgspec.structs.replace


def decide(auction: Auction, stimulus: Stimulus, now: int) -> Decision:
    """What the requester does about `stimulus` at `now` (Unix ms)."""
    return TABLE[auction.phase, type(stimulus)].handler(auction, stimulus, now)


def next_deadline(auction: Auction) -> int | None:
    """When time alone changes something."""
    if auction.phase in (AuctionPhase.NEW, AuctionPhase.ENDED) or auction.terms is None:
        return None
    return earliest(
        auction.window_until if auction.search is SearchPhase.WINDOW and seeking(auction) else None,
        auction.next_round_at if auction.search is SearchPhase.WAITING and seeking(auction) else None,
        auction.terms.deadline_at or None if auction.phase is AuctionPhase.OPEN else None,
        auction.give_up_at or None if auction.phase is AuctionPhase.CANCELLING else None,
        *(bid.ack_until for bid in pending(auction).values()),
        *(slot.lost_at for slot in auction.slots if slot.lost_at and slot.phase is not SlotPhase.DONE),
    )


def resume(auction: Auction) -> tuple[Effect, ...]:
    """After a restart: whatever was under way is asked for again; providers answer repeats as they answered before."""
    if auction.phase not in (AuctionPhase.OPEN, AuctionPhase.CANCELLING) or auction.terms is None:
        return ()
    effects: list[Effect] = []
    for bid_id, bid in pending(auction).items():
        effects.append(Send(bid.provider, _commit_message(auction.terms, bid_id, bid.slots)))
    for slot in auction.slots:
        if slot.phase is SlotPhase.HELD:
            effects.append(Send(slot.provider, _invocation(auction.terms, slot)))
        elif slot.phase is SlotPhase.COLLECTING and slot.status is not None:
            effects.append(Collect(slot.provider, slot.status))
    if seeking(auction) and auction.search is SearchPhase.CALLED:
        effects.append(Announce(bid_request(auction, auction.round + 1)))
    return tuple(effects)


def bid_request(auction: Auction, round_: int) -> BidRequest:
    """The request as it is announced in `round_`, for the slots that still seek."""
    terms = _terms(auction)
    return BidRequest(
        request_id=terms.request_id,
        round=round_,
        needs=terms.needs,
        count=max(1, len(seeking(auction))),
        bids_wanted=terms.bids_wanted,
        reach=reach_for(terms.bids_wanted, max(auction.known, 1), round_),
        max_price=terms.max_price,
        wait_ms=terms.window_ms,
        stands_ms=terms.queue_ms,
        priority=terms.priority,
    )


def task_of(terms: Terms, index: int) -> Task:
    """The task of one slot: the job's, told which one it is."""
    environment = {**terms.task.environment, "DMS_INDEX": str(index), "DMS_COUNT": str(terms.count)}
    return change(terms.task, environment=environment)


# --------------------------------------------------------------------------------------------------------------- handlers


def _open(auction: Auction, stimulus: Submitted, now: int) -> Decision:
    opened = RequestOpened(stimulus.terms, now)
    return Decision((opened,), (Announce(bid_request(evolve(auction, opened), 0)),))


def _note_round(auction: Auction, stimulus: Announced, now: int) -> Decision:
    if stimulus.round < auction.round:
        return IGNORED
    window = now + _terms(auction).window_ms
    event = RequestAnnounced(stimulus.round, stimulus.asked, stimulus.gossiped, stimulus.known, window)
    return _settle(auction, (event,), (), now)


def _take_bid(auction: Auction, stimulus: BidHeard, now: int) -> Decision:
    terms, bid = _terms(auction), stimulus.bid
    if bid.bid_id in auction.bids:
        return IGNORED
    forged = bid.bid_id != derive_bid_id(terms.request_id, stimulus.provider, bid.number)
    if forged or len(auction.bids) >= MAX_BIDS or not seeking(auction) or bid.price > terms.max_price:
        return Decision((), (Send(stimulus.provider, Release(terms.request_id, bid.bid_id)),))
    event = BidReceived(stimulus.provider, bid, stimulus.facts, now + bid.valid_ms)
    return _settle(auction, (event,), (), now)


def _note_decline(auction: Auction, stimulus: DeclineHeard, now: int) -> Decision:
    clauses = stimulus.decline.clauses
    if auction.declines.get(stimulus.provider) == clauses and auction.asked.get(stimulus.provider):
        return IGNORED
    return _settle(auction, (DeclineReceived(stimulus.provider, stimulus.decline.round, clauses),), (), now)


def _confirm(auction: Auction, stimulus: CommitAcked, now: int) -> Decision:
    ack = stimulus.ack
    bid = auction.bids.get(ack.bid_id)
    if bid is None or not bid.ack_until or bid.provider != stimulus.provider:
        return _disown(auction, stimulus, now)
    terms = _terms(auction)
    slots = [auction.slots[index] for index in bid.slots]
    invocations = [Send(bid.provider, _invocation(terms, slot)) for slot in slots] if len(slots) > 1 else []
    return _settle(auction, (CommitConfirmed(ack.bid_id, now),), tuple(invocations), now)


def _disown(auction: Auction, stimulus: CommitAcked, _now: int) -> Decision:
    """An acknowledgement that came too late: another bid was taken. A repeat for allocations we hold changes nothing."""
    terms = _terms(auction)
    stale = [a for a in stimulus.ack.allocation_ids if slot_of(auction, a, stimulus.provider) is None]
    return Decision((), tuple(Send(stimulus.provider, Cancel(terms.request_id, a)) for a in stale))


def _turned_away(auction: Auction, stimulus: CommitTurnedAway, now: int) -> Decision:
    refused = stimulus.refused
    bid = auction.bids.get(refused.bid_id)
    if bid is None or not bid.ack_until or bid.provider != stimulus.provider:
        return IGNORED
    return _settle(auction, (CommitFailed(refused.bid_id, bid.provider, refused.refusal),), (), now)


def _invocation_answered(auction: Auction, stimulus: InvocationAnswered, now: int) -> Decision:
    slot = slot_of(auction, stimulus.answer.allocation_id, stimulus.provider)
    if slot is None or slot.phase is not SlotPhase.HELD or not stimulus.answer.refused:
        return IGNORED
    ending = Ending(EndReason.PROVIDER_FAULT, detail=f"refused the invocation: {stimulus.answer.refused}")
    return _settle(auction, (_attempt_over(auction, slot, ending),), (), now)


def _hear_status(auction: Auction, stimulus: StatusHeard, now: int) -> Decision:
    status = stimulus.status
    slot = slot_of(auction, status.allocation_id, stimulus.provider)
    if slot is None or slot.phase is SlotPhase.DONE:
        return Decision((), (_answer_stale(auction, stimulus, slot),))
    if slot.phase is SlotPhase.COLLECTING or (status.phase is slot.allocation and slot.phase is SlotPhase.HELD):
        return IGNORED
    events: list[Event] = []
    if slot.phase is SlotPhase.COMMITTING:  # the status overtook the acknowledgement, and says as much
        events.append(CommitConfirmed(slot.bid_id, now))
    if status.ending is None:
        if status.phase is not slot.allocation:
            events.append(AllocationAdvanced(slot.index, status.allocation_id, status.phase))
        return _settle(auction, tuple(events), (), now)
    events.append(AllocationFinished(slot.index, status))
    if not stimulus.complete:
        return _settle(auction, tuple(events), (Collect(stimulus.provider, status),), now)
    finished = auction
    for event in events:
        finished = evolve(finished, event)
    ended = _attempt_over(finished, finished.slots[slot.index], status.ending)
    return _settle(auction, (*events, ended), (_receipt(auction, slot.provider, ended),), now)


def _answer_stale(auction: Auction, stimulus: StatusHeard, slot: Slot | None) -> Effect:
    """An attempt that is over here: the provider is told to stop, or that its ending has been heard."""
    terms, status = _terms(auction), stimulus.status
    if status.ending is None:
        return Send(stimulus.provider, Cancel(terms.request_id, status.allocation_id))
    price = slot.price if slot is not None else 0
    return Send(
        stimulus.provider,
        Receipt(terms.request_id, status.allocation_id, status.ending.reason, status.ending.usage, price),
    )


def _collected(auction: Auction, stimulus: Collected, now: int) -> Decision:
    for slot in auction.slots:
        if slot.allocation_id == stimulus.allocation_id and slot.phase is SlotPhase.COLLECTING:
            break
    else:
        return IGNORED
    assert slot.ending is not None
    if stimulus.failed:
        lost = Ending(EndReason.PROVIDER_LOST, detail=f"its results could not be fetched: {stimulus.failed}")
        return _settle(auction, (_attempt_over(auction, slot, lost),), (), now)
    ended = _attempt_over(auction, slot, slot.ending)
    return _settle(auction, (ended,), (_receipt(auction, slot.provider, ended),), now)


def _suspect(auction: Auction, stimulus: PeerLost, now: int) -> Decision:
    """Its open bids go, a commit to it has failed, its silence is explained; its allocations get time to come back."""
    peer = stimulus.peer
    events: list[Event] = []
    open_bids = tuple(b for b, bid in auction.bids.items() if bid.provider == peer and not bid.ack_until)
    if open_bids:
        events.append(BidsReleased(open_bids))
    for bid_id, bid in pending(auction).items():
        if bid.provider == peer and not stimulus.ours:
            events.append(CommitFailed(bid_id, peer, "the connection was lost"))
    if auction.asked.get(peer) is False:
        events.append(DeclineReceived(peer, auction.round, (UNREACHABLE,)))
    until: dict[int, int] = {}
    for slot in auction.slots:
        if slot.provider == peer and slot.phase is SlotPhase.HELD and not slot.lost_at:
            grace = min(max((now - slot.held_since) // 2, LOST_GRACE_MIN_MS), LOST_GRACE_MAX_MS)
            until[slot.index] = now + (max(grace, OWN_OUTAGE_GRACE_MS) if stimulus.ours else grace)
    if until:
        events.append(ProviderSuspected(peer, until))
    return _settle(auction, tuple(events), (), now) if events else IGNORED


def _welcome(auction: Auction, stimulus: PeerThere, _now: int) -> Decision:
    terms, peer = _terms(auction), stimulus.peer
    events: tuple[Event, ...] = ()
    effects: list[Effect] = []
    held = [slot for slot in auction.slots if slot.provider == peer and slot.phase is SlotPhase.HELD]
    if any(slot.lost_at for slot in held):
        events = (ProviderReturned(peer),)
    effects += [Send(peer, _invocation(terms, slot)) for slot in held]  # known to it: answers with the status
    if seeking(auction) and auction.round >= 0 and peer not in auction.asked and auction.phase is AuctionPhase.OPEN:
        effects.append(Send(peer, bid_request(auction, auction.round)))
    return Decision(events, tuple(effects))


def _cancel(auction: Auction, _stimulus: CancelAsked, now: int) -> Decision:
    return _stop(auction, EndReason.CANCELLED, "cancelled by its owner", now)


def _stop(auction: Auction, reason: EndReason, detail: str, now: int) -> Decision:
    """Ends what seeks, tells the providers of the rest to stop, and waits for them a little."""
    terms = _terms(auction)
    events: list[Event] = [CancelRequested(now + CANCEL_GRACE_MS)]
    effects: list[Effect] = []
    for slot in auction.slots:
        if slot.phase is SlotPhase.SEEKING:
            ending = Ending(reason, detail=detail)
            events.append(AttemptEnded(slot.index, PeerId(""), slot.allocation_id, ending, final=True))
        elif slot.phase in (SlotPhase.HELD, SlotPhase.COMMITTING):
            effects.append(Send(slot.provider, Cancel(terms.request_id, slot.allocation_id)))
    return _settle(auction, tuple(events), tuple(effects), now)


def _time(auction: Auction, _stimulus: TimeCame, now: int) -> Decision:
    terms = _terms(auction)
    if auction.phase is AuctionPhase.OPEN and terms.deadline_at and now >= terms.deadline_at:
        return _stop(auction, EndReason.DEADLINE, "its deadline passed", now)
    events: list[Event] = []
    effects: list[Effect] = []
    for bid_id, bid in pending(auction).items():
        if bid.ack_until <= now:
            events.append(CommitFailed(bid_id, bid.provider, f"silent for {terms.ack_timeout_ms} ms"))
            effects.append(Send(bid.provider, Release(terms.request_id, bid_id)))
    for slot in auction.slots:
        if slot.lost_at and slot.lost_at <= now and slot.phase is SlotPhase.HELD:
            ending = Ending(EndReason.PROVIDER_LOST, detail="the provider could not be reached any more")
            events.append(_attempt_over(auction, slot, ending))
    if auction.phase is AuctionPhase.CANCELLING and now >= auction.give_up_at:
        events += _abandon(auction)
    return _settle(auction, tuple(events), tuple(effects), now)


def _abandon(auction: Auction) -> list[Event]:
    """The providers did not confirm the cancelling in time; if they return they are told again."""
    ending = Ending(EndReason.CANCELLED, detail="cancelled; the provider has not confirmed that it stopped")
    return [
        AttemptEnded(slot.index, slot.provider, slot.allocation_id, ending, final=True)
        for slot in auction.slots
        if slot.phase is not SlotPhase.DONE
    ]


# --------------------------------------------------------------------------------------------------------------- settling


def _settle(auction: Auction, events: tuple[Event, ...], effects: tuple[Effect, ...], now: int) -> Decision:
    """After `events`: awards what can be awarded, asks again where that helps, lets go what is not needed, ends what is over."""
    for event in events:
        auction = evolve(auction, event)
    for step in (_award_step, _search_step, _release_step, _end_step):
        more = step(auction, now)
        for event in more.events:
            auction = evolve(auction, event)
        events, effects = events + more.events, effects + more.effects
    return Decision(events, effects)


def _award_step(auction: Auction, now: int) -> Decision:
    slots = seeking(auction)
    if auction.phase is not AuctionPhase.OPEN or not slots:
        return IGNORED
    bids = usable(auction, now)
    if not bids or not _window_closed(auction, bids, len(slots), now):
        return IGNORED
    terms = _terms(auction)
    decision = rank_decision(bid_request(auction, auction.round), _candidates(bids), terms.preferences)
    awards = _fill(slots, decision.ranking, bids)
    if not awards:
        return IGNORED
    event = AwardMade(decision, awards, now + terms.ack_timeout_ms)
    commits = tuple(Send(bids[bid_id].provider, _commit_message(terms, bid_id, indexes)) for bid_id, indexes in awards)
    return Decision((event,), commits)


def _window_closed(auction: Auction, bids: dict[BidId, OpenBid], wanted: int, now: int) -> bool:
    enough = len(bids) >= _terms(auction).bids_wanted and sum(bid.bid.slots for bid in bids.values()) >= wanted
    match auction.search:
        case SearchPhase.CALLED:
            return enough
        case SearchPhase.WINDOW:
            return enough or now >= auction.window_until or _all_answered(auction)
        case _:
            return True  # a late bid for a waiting slot, or the next best after a silent winner


def _all_answered(auction: Auction) -> bool:
    answered = sum(auction.asked.values())
    return all(auction.asked.values()) and answered >= (auction.known if auction.gossiped else len(auction.asked))


def _candidates(bids: dict[BidId, OpenBid]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            bid_id=bid_id,
            provider=open_bid.provider,
            offer=open_bid.bid.offer,
            tariff=open_bid.bid.tariff,
            price=open_bid.bid.price,
            slots=open_bid.bid.slots,
            rtt_us=open_bid.facts.rtt_us,
            relayed=open_bid.facts.relayed,
            own=open_bid.facts.own,
            successes=open_bid.facts.successes,
            failures=open_bid.facts.failures,
        )
        for bid_id, open_bid in bids.items()
    )


def _fill(
    slots: tuple[Slot, ...], ranking: Ranking, bids: dict[BidId, OpenBid]
) -> tuple[tuple[BidId, tuple[int, ...]], ...]:
    """Gives each slot the best-ranked bid with room, on a node where its job has not failed."""
    room = {bid_id: bid.bid.slots for bid_id, bid in bids.items()}
    awards: dict[BidId, list[int]] = {}
    for slot in slots:
        for bid_id in ranking.order:
            if room[bid_id] and bids[bid_id].provider not in slot.failed_on:
                room[bid_id] -= 1
                awards.setdefault(bid_id, []).append(slot.index)
                break
    return tuple((bid_id, tuple(indexes)) for bid_id, indexes in awards.items())


def _search_step(auction: Auction, now: int) -> Decision:
    """With slots that seek and nothing to take: ask (again), wait and say why, or give up with a reason."""
    if not seeking(auction):
        return IGNORED
    if auction.phase is AuctionPhase.CANCELLING:
        return Decision(_give_up(auction, EndReason.CANCELLED, "cancelled by its owner"))
    match auction.search:
        case SearchPhase.IDLE:
            return _call_round(auction)
        case SearchPhase.WAITING if auction.next_round_at <= now:
            return _call_round(auction)
        case SearchPhase.WINDOW if auction.window_until <= now or _all_answered(auction):
            return _wait_or_give_up(auction, now)
        case SearchPhase.SHORT:
            return _wait_or_give_up(auction, now)
        case _:
            return IGNORED


def _call_round(auction: Auction) -> Decision:
    round_ = auction.round + 1
    return Decision((RoundCalled(round_),), (Announce(bid_request(auction, round_)),))


def _wait_or_give_up(auction: Auction, now: int) -> Decision:
    """Nothing can be taken now. Waiting helps while some node is busy, silent or being tried again; otherwise the answer is no."""
    terms = _terms(auction)
    since = auction.waiting_since or now
    waited = now - since
    busy = sum(is_passing(clauses) for clauses in auction.declines.values()) + len(auction.faulty)
    held = any(slot.phase in (SlotPhase.COMMITTING, SlotPhase.HELD, SlotPhase.COLLECTING) for slot in auction.slots)
    silent = sum(not answered for answered in auction.asked.values())
    if held and not any(slot.failed_on for slot in seeking(auction)):
        return _wait(auction, now, since, "waits for its own other allocations to free capacity")
    if busy:
        why = f"{busy} nodes could do it but are busy"
        verdict, patience = EndReason.NO_BIDS, terms.queue_ms
    elif not auction.asked and not auction.known and not auction.declines:
        why = "no other node is known"
        verdict, patience = EndReason.NO_PEERS, max(terms.patience_ms, NO_PEERS_GRACE_MS)
    elif silent or (auction.gossiped and not auction.declines):
        why = f"{silent or auction.known} nodes were asked and have not answered"
        verdict, patience = EndReason.NO_BIDS, max(terms.patience_ms, NO_PEERS_GRACE_MS)
    else:
        why, verdict = _why_impossible(auction)
        patience = terms.patience_ms
    if waited < patience:
        return _wait(auction, now, since, why)
    return Decision(_give_up(auction, verdict, why))


def _wait(auction: Auction, now: int, since: int, why: str) -> Decision:
    """Lets go of bids that cannot be used and pauses."""
    pause = ROUND_BACKOFF_MS[min(auction.waits, len(ROUND_BACKOFF_MS) - 1)]
    unused = tuple(bid_id for bid_id, bid in auction.bids.items() if not bid.ack_until)
    events: tuple[Event, ...] = (RequestWaiting(why, now + pause, since),)
    if unused:
        events = (BidsReleased(unused), *events)
    request_id = _terms(auction).request_id
    releases = tuple(Send(auction.bids[bid_id].provider, Release(request_id, bid_id)) for bid_id in unused)
    return Decision(events, releases)


def _why_impossible(auction: Auction) -> tuple[str, EndReason]:
    """The reason in words, from the node that was nearest to a yes."""
    if not auction.declines:
        return "every bid was excluded by the job's own constraints", EndReason.IMPOSSIBLE
    clauses = min(auction.declines.values(), key=len)
    price = all(clause.dimension == "price" for clause in clauses)
    nearest = "; ".join(c.nearest or f"{c.dimension}: wanted {c.wanted}, observed {c.observed}" for c in clauses)
    counted = "the only node declined" if len(auction.declines) == 1 else f"all {len(auction.declines)} nodes declined"
    return f"{counted}; nearest: {nearest}", EndReason.PRICE_TOO_LOW if price else EndReason.IMPOSSIBLE


def _give_up(auction: Auction, reason: EndReason, why: str) -> tuple[Event, ...]:
    """Ends every slot that seeks. A slot whose job failed before ends with that failure: it is the truer reason."""
    events = []
    for slot in seeking(auction):
        ending = slot.ending if slot.failed_on and slot.ending is not None else Ending(reason, detail=why)
        note = f"not tried elsewhere: {why}" if slot.failed_on else why
        events.append(AttemptEnded(slot.index, PeerId(""), slot.allocation_id, ending, final=True, why=note))
    return tuple(events)


def _release_step(auction: Auction, _now: int) -> Decision:
    """With every slot held or done: the losers are free, and the request stands nowhere any more."""
    if seeking(auction) or pending(auction) or not (auction.bids or auction.standing_at):
        return IGNORED
    request_id = _terms(auction).request_id
    bids = tuple(auction.bids)
    bidders = {auction.bids[bid_id].provider for bid_id in bids}
    withdrawn = tuple(sorted(auction.standing_at - bidders))
    sends = [Send(auction.bids[bid_id].provider, Release(request_id, bid_id)) for bid_id in bids]
    sends += [Send(peer, Release(request_id)) for peer in withdrawn]
    return Decision((BidsReleased(bids, withdrawn),), tuple(sends))


def _end_step(auction: Auction, now: int) -> Decision:
    if any(slot.phase is not SlotPhase.DONE for slot in auction.slots):
        return IGNORED
    for slot in auction.slots:
        assert slot.ending is not None
        if slot.ending.reason is not EndReason.COMPLETED:
            reason, detail = slot.ending.reason, slot.ending.detail
            break
    else:
        reason, detail = EndReason.COMPLETED, ""
    return Decision((RequestEnded(reason, detail, now, spent(auction)),), (Conclude(),))


# --------------------------------------------------------------------------------------------------------------- attempts


def _attempt_over(auction: Auction, slot: Slot, ending: Ending) -> AttemptEnded:
    """What the end of one attempt means for its slot."""
    terms, reason = _terms(auction), ending.reason
    status = slot.status
    price = min(status.price, terms.max_price) if status is not None else 0
    final, why = False, ""
    if reason is EndReason.COMPLETED or auction.phase is AuctionPhase.CANCELLING:
        final = True
    elif reason in DETERMINISTIC:
        nodes = len({*slot.failed_on, slot.provider})
        final = nodes >= terms.job_failures
        why = f"the job's own failure on {nodes} of {terms.job_failures} nodes"
    else:
        if reason is EndReason.CANCELLED:  # not by us
            ending = change(ending, reason=EndReason.PROVIDER_STOPPED)
        final = slot.faults >= terms.node_faults
        why = f"fault {slot.faults + 1}, {terms.node_faults} are borne"
        if final:
            ending = Ending(EndReason.RETRIES_EXHAUSTED, detail=f"last: {reason}: {ending.detail}", usage=ending.usage)
    outputs = status.outputs if status is not None else ()
    return AttemptEnded(
        slot.index, slot.provider, slot.allocation_id, ending, final, price, outputs, "" if final else why
    )


def _receipt(auction: Auction, provider: PeerId, ended: AttemptEnded) -> Send:
    terms = _terms(auction)
    receipt = Receipt(terms.request_id, ended.allocation_id, ended.ending.reason, ended.ending.usage, ended.price)
    return Send(provider, receipt)


def _commit_message(terms: Terms, bid_id: BidId, slots: tuple[int, ...]) -> Commit:
    """A commit to one slot carries its invocation and so saves a round trip."""
    invocations = (task_of(terms, slots[0]),) if len(slots) == 1 else ()
    return Commit(terms.request_id, bid_id, slots, invocations)


def _invocation(terms: Terms, slot: Slot) -> Invocation:
    return Invocation(terms.request_id, slot.allocation_id, task_of(terms, slot.index))


def _terms(auction: Auction) -> Terms:
    assert auction.terms is not None, "a new auction has no terms"
    return auction.terms


# ------------------------------------------------------------------------------------------------------------------ table

_OVER: Final = "the request is over"
_NEW: Final = "nothing was submitted yet"
_ALIVE: Final[dict[type[Stimulus], Row[Auction]]] = {
    Submitted: ignore("submitted already; a repeat changes nothing"),
    Announced: Row(_note_round, "the window opens; an older round is old news"),
    BidHeard: Row(_take_bid, "kept and compared when the window closes; too dear, forged or not needed: released"),
    DeclineHeard: Row(_note_decline, "its reasons are kept for the explanation; the last answer closes the window"),
    CommitAcked: Row(_confirm, "the slots are held; one that comes too late is cancelled"),
    CommitTurnedAway: Row(_turned_away, "the slots seek again, next bid first"),
    InvocationAnswered: Row(_invocation_answered, "a refusal is a fault of the node"),
    StatusHeard: Row(
        _hear_status, "progress is noted, an ending collected; from an attempt that is over: answered so that it stops"
    ),
    Collected: Row(_collected, "the attempt is over: done, or another node is tried"),
    PeerLost: Row(_suspect, "its allocations get time to return, in proportion to what would be lost"),
    PeerThere: Row(_welcome, "invocations are repeated, which asks for the status; a node not yet asked is asked"),
    TimeCame: Row(_time, "windows close, silent winners and lost providers are given up, waiting rounds begin"),
}

TABLE: Final[Table[Auction]] = {
    **{(AuctionPhase.NEW, kind): ignore(_NEW) for kind in (*_ALIVE, CancelAsked)},
    (AuctionPhase.NEW, Submitted): Row(_open, "the request is written down and announced"),
    **{(AuctionPhase.OPEN, kind): row for kind, row in _ALIVE.items()},
    (AuctionPhase.OPEN, CancelAsked): Row(_cancel, "what seeks ends, what is held is told to stop"),
    **{(AuctionPhase.CANCELLING, kind): row for kind, row in _ALIVE.items()},
    (AuctionPhase.CANCELLING, CancelAsked): ignore("cancelling already"),
    **{(AuctionPhase.ENDED, kind): ignore(_OVER) for kind in (*_ALIVE, CancelAsked)},
    (AuctionPhase.ENDED, BidHeard): Row(
        lambda auction, s, _now: Decision((), (Send(s.provider, Release(_terms(auction).request_id, s.bid.bid_id)),)),
        "released: the request is over",
    ),
    (AuctionPhase.ENDED, CommitAcked): Row(_disown, "cancelled: the request is over"),
    (AuctionPhase.ENDED, StatusHeard): Row(_hear_status, "answered so that it stops"),
}
