"""The requester's machine: ask, compare, award, commit, watch, retry, end. One per request.

The window of a round closes when enough bids are in, when everyone asked has answered, or when its time is over; then the bids are
ranked and the slots awarded in that order. Losers are kept until every winner has acknowledged, so a silent winner costs one
acknowledgement timeout and nothing else. With slots left over, the request stands at the nodes that were busy, and asks again by itself.

What ends an attempt decides what follows (`work.DETERMINISTIC`, `work.NODE_FAULTS`): the job's own failure is tried on a second node and
then believed; a node's fault moves on to the next node and counts against the faulty one.

A provider that cannot be reached is given time in proportion to what would be lost: half of what its allocation has run, between
LOST_GRACE_MIN_MS and LOST_GRACE_MAX_MS. One that has just begun is replaced at once; one that has run for an hour is waited for.

A provider that acknowledges and says nothing since is asked where it stands, and given up: a newcomer soon, one that has kept its word before later.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Final

from dms_proto.ids import BidId, PeerId
from dms_proto.ids import bid_id as derive_bid_id
from dms_proto.machine import IGNORED, Decision, Effect, Event, Row, Send, Stimulus, Table, TimeCame, earliest, ignore
from dms_proto.market.auction_attempts import STOPPED, answer_stale, attempt_over, not_kept, receipt
from dms_proto.market.auction_camps import compared, question
from dms_proto.market.auction_effects import Announce, Collect, HeardFrom, LetDown
from dms_proto.market.auction_events import (
    AllocationAdvanced,
    AllocationCancelRequested,
    AllocationFinished,
    AllocationUsed,
    AttemptEnded,
    BidReceived,
    BidsReleased,
    CancelRequested,
    CommitAwaited,
    CommitConfirmed,
    CommitFailed,
    DeclineReceived,
    InvocationRepeated,
    ProviderFroze,
    ProviderReturned,
    ProviderSuspected,
    ProviderThawed,
    RequestAnnounced,
    RequestOpened,
    TurnAwaited,
)
from dms_proto.market.auction_fold import evolve
from dms_proto.market.auction_messages import bid_request, commit_message, invocation, task_of
from dms_proto.market.auction_pace import nudge_pauses
from dms_proto.market.auction_reading import is_full, pending, seeking, slot_of
from dms_proto.market.auction_resizes import ask_resize, asked_again, hear_resized
from dms_proto.market.auction_seals import is_sealed, opened, received, repeat_closing
from dms_proto.market.auction_search import settle
from dms_proto.market.auction_state import (
    MAX_ANSWERS,
    MAX_BIDS,
    MAX_BIDS_EACH,
    MAX_NOTED,
    Auction,
    AuctionPhase,
    OpenBid,
    SearchPhase,
    Slot,
    SlotPhase,
    terms_of,
)
from dms_proto.market.auction_stimuli import (
    AllocationCancelAsked,
    Announced,
    BidHeard,
    CancelAsked,
    Collected,
    CommitAcked,
    CommitTurnedAway,
    Compared,
    DeclineHeard,
    InvocationAnswered,
    PeerLost,
    PeerThere,
    ResizeAnswered,
    ResizeAsked,
    Restarted,
    SealHeard,
    StatusHeard,
    Submitted,
    TurnPending,
)
from dms_proto.market.named_node import UNREACHABLE
from dms_proto.market.offer_judgement import MAX_SLOTS
from dms_proto.market.seekers import turn_in_words
from dms_proto.market.strays import called_off
from dms_proto.messages import AllocationStatus, Cancel, Clause, CommitRefusal, CommitRefused, Phase, Release
from dms_proto.reputation.silence import Word, answers_to, word_of
from dms_proto.reputation.sources import UNKNOWN
from dms_proto.work import Ending, EndReason

LOST_GRACE_MIN_MS: Final = 300
LOST_GRACE_MAX_MS: Final = 15_000
OWN_OUTAGE_GRACE_MS: Final = 15_000
"""When it is our own network that is down, the providers are innocent: they get this long at least."""
CANCEL_GRACE_MS: Final = 5_000
"""How long providers may take to say that a cancelled allocation has ended."""

__all__ = ["TABLE", "bid_request", "decide", "evolve", "next_deadline", "resume", "task_of"]


_WINDOWS: Final = (SearchPhase.WINDOW, SearchPhase.OPENING)


def decide(auction: Auction, stimulus: Stimulus, now: int) -> Decision:
    """What the requester does about `stimulus` at `now` (Unix ms)."""
    return TABLE[auction.phase, type(stimulus)].handler(auction, stimulus, now)


def next_deadline(auction: Auction) -> int | None:
    """When time alone changes something."""
    if auction.phase in (AuctionPhase.NEW, AuctionPhase.ENDED) or auction.terms is None:
        return None
    return earliest(
        auction.window_until if auction.search in _WINDOWS and seeking(auction) else None,
        auction.next_round_at if auction.search is SearchPhase.WAITING and seeking(auction) else None,
        auction.terms.deadline_at or None if auction.phase is AuctionPhase.OPEN else None,
        auction.give_up_at or None if auction.phase is AuctionPhase.CANCELLING else None,
        *(bid.ack_until for bid in pending(auction).values()),
        *(_slot_deadline(auction, slot) for slot in auction.slots if slot.phase is SlotPhase.HELD),
    )


def _slot_deadline(auction: Auction, slot: Slot) -> int | None:
    """When a provider counts as lost, or an allocation of which nothing is heard is asked where it stands."""
    if slot.give_up_at:
        return slot.give_up_at if auction.phase is AuctionPhase.OPEN else None
    if slot.lost_at:
        return slot.lost_at
    return slot.nudge_at or None if auction.phase is AuctionPhase.OPEN else None


def resume(auction: Auction) -> tuple[Effect, ...]:
    """After a restart: whatever was under way is asked for again; providers answer repeats as they answered before."""
    if auction.phase not in (AuctionPhase.OPEN, AuctionPhase.CANCELLING) or auction.terms is None:
        return ()
    effects: list[Effect] = [
        Send(bid.provider, commit_message(auction, bid, bid.slots)) for bid in pending(auction).values()
    ]
    effects += [question(auction, begun) for begun in auction.comparing.values()]
    for slot in auction.slots:
        if slot.phase is SlotPhase.HELD:
            effects += (_about(auction, slot), *asked_again(slot))
        elif slot.phase is SlotPhase.COLLECTING and slot.status is not None:
            effects.append(Collect(slot.provider, slot.status))
    if seeking(auction) and auction.search is SearchPhase.CALLED:
        effects.append(Announce(bid_request(auction, auction.round + 1)))
    if auction.search is SearchPhase.OPENING:
        effects += repeat_closing(auction)
    return tuple(effects)


# --------------------------------------------------------------------------------------------------------------- handlers


def _open(auction: Auction, stimulus: Submitted, now: int) -> Decision:
    opened = RequestOpened(stimulus.terms, now)
    return Decision((opened,), (Announce(bid_request(evolve(auction, opened), 0)),))


def _note_round(auction: Auction, stimulus: Announced, now: int) -> Decision:
    if stimulus.round < auction.round or (stimulus.round == auction.round and auction.search is not SearchPhase.CALLED):
        return IGNORED
    window = now + terms_of(auction).window_ms
    passed_over = dict(list(stimulus.passed_over.items())[:MAX_NOTED])
    event = RequestAnnounced(
        stimulus.round, stimulus.asked, stimulus.gossiped, stimulus.known, window, passed_over, stimulus.unawaited
    )
    return settle(auction, (event,), (), now)


def _await_turn(auction: Auction, stimulus: TurnPending, _now: int) -> Decision:
    is_due = auction.search is SearchPhase.CALLED and stimulus.round == auction.round + 1
    if not is_due or not seeking(auction) or auction.why == turn_in_words(stimulus.ahead):
        return IGNORED
    return Decision((TurnAwaited(stimulus.round, stimulus.ahead),))


def _take_seal(auction: Auction, stimulus: SealHeard, now: int) -> Decision:
    return _settled(auction, received(auction, stimulus, now), now)


def _settled(auction: Auction, decision: Decision, now: int) -> Decision:
    return settle(auction, decision.events, decision.effects, now) if decision.events else decision


def _take_bid(auction: Auction, stimulus: BidHeard, now: int) -> Decision:
    if is_sealed(auction):
        return _settled(auction, opened(auction, stimulus, now), now)
    terms, bid = terms_of(auction), stimulus.bid
    forged = bid.bid_id != derive_bid_id(terms.request_id, stimulus.provider, bid.number)
    if not forged and bid.number <= auction.numbers.get(stimulus.provider, -1):
        return IGNORED  # a repeat, or overtaken by a newer one of the same provider
    wanted = seeking(auction) or pending(auction)  # a late bid is the next best should a winner be silent
    full = is_full(auction.bids.values(), stimulus.provider, stimulus.facts.source, MAX_BIDS, MAX_BIDS_EACH)
    full = full or len(auction.numbers) >= MAX_ANSWERS
    if stimulus.provider in auction.unfit and not forged:
        return _still_unfit(auction, stimulus, now)
    if forged or full or not wanted or auction.phase is not AuctionPhase.OPEN or bid.price > terms.max_price:
        return Decision((), (Send(stimulus.provider, Release(terms.request_id, bid.bid_id)),))
    event = BidReceived(stimulus.provider, bid, stimulus.facts, now + bid.valid_ms)
    return settle(auction, (event,), (), now)


def _still_unfit(auction: Auction, stimulus: BidHeard, now: int) -> Decision:
    """It bids again, by the same request. What it has said of the work stands, and it has answered."""
    peer = stimulus.provider
    let_go = Send(peer, Release(terms_of(auction).request_id, stimulus.bid.bid_id))
    said = _declined(auction, peer, auction.round, (auction.unfit[peer],), now)
    return Decision(said.events, (*said.effects, let_go))


def _note_decline(auction: Auction, stimulus: DeclineHeard, now: int) -> Decision:
    provider, said = stimulus.provider, stimulus.decline
    lasting = auction.unfit.get(provider)
    return _declined(auction, provider, said.round, said.clauses if lasting is None else (lasting,), now)


def _declined(auction: Auction, provider: PeerId, round_: int, clauses: tuple[Clause, ...], now: int) -> Decision:
    if auction.declines.get(provider) == clauses and auction.asked.get(provider):
        return IGNORED
    if provider not in auction.declines and len(auction.declines) >= MAX_ANSWERS:
        return IGNORED
    return settle(auction, (DeclineReceived(provider, round_, clauses),), (), now)


def _confirm(auction: Auction, stimulus: CommitAcked, now: int) -> Decision:
    ack = stimulus.ack
    if disputed := _in_dispute(auction, stimulus):
        return _end_dispute(auction, ack.bid_id, disputed, now)
    bid = auction.bids.get(ack.bid_id)
    if bid is None or not bid.ack_until or bid.provider != stimulus.provider:
        return _disown(auction, stimulus, now)
    return settle(
        auction,
        (CommitConfirmed(ack.bid_id, now),),
        (HeardFrom(bid.provider, Word.ANSWER, now, now - bid.taken_at), *_begin(auction, bid)),
        now,
    )


def _in_dispute(auction: Auction, stimulus: CommitAcked) -> tuple[Slot, ...]:
    """The slots for which a provider acknowledged other terms than were committed."""
    ack = stimulus.ack
    return tuple(
        slot
        for slot in auction.slots
        if (slot.bid_id, slot.provider) == (ack.bid_id, stimulus.provider)
        and slot.phase in (SlotPhase.COMMITTING, SlotPhase.HELD)
        and slot.terms != ack.terms
    )


def _end_dispute(auction: Auction, bid_id: BidId, slots: tuple[Slot, ...], now: int) -> Decision:
    """There is no agreement: whatever the provider began is called off, and it counts against it, as if it had not answered."""
    ending = Ending(EndReason.PROVIDER_FAULT, detail="it acknowledged other terms than those of the commit")
    request_id = terms_of(auction).request_id
    bid = pending(auction).get(bid_id)
    let_down = (_unanswered(auction, bid_id, bid, now),) if bid is not None else ()
    return settle(
        auction,
        tuple(attempt_over(auction, slot, ending) for slot in slots),
        (*(Send(slot.provider, Cancel(request_id, slot.allocation_id)) for slot in slots), *let_down),
        now,
    )


def _begin(auction: Auction, bid: OpenBid) -> tuple[Effect, ...]:
    """What is sent to a provider that holds the capacity: the invocations its commit did not carry, or that it is all off."""
    terms = terms_of(auction)
    slots = [auction.slots[index] for index in bid.slots]
    if auction.phase is AuctionPhase.CANCELLING:
        return tuple(Send(bid.provider, Cancel(terms.request_id, slot.allocation_id)) for slot in slots)
    return tuple(_about(auction, slot) for slot in slots if len(slots) > 1 or slot.give_up_at)


def _about(auction: Auction, slot: Slot) -> Send:
    """What the provider of a slot is told, as often as need be: its invocation, which asks for the status, or that its owner has cancelled it."""
    terms = terms_of(auction)
    told = Cancel(terms.request_id, slot.allocation_id) if slot.give_up_at else invocation(terms, slot)
    return Send(slot.provider, told)


def _disown(auction: Auction, stimulus: CommitAcked, _now: int) -> Decision:
    """An acknowledgement that came too late: another bid was taken. A repeat for allocations we hold changes nothing."""
    named = stimulus.ack.allocation_ids[:MAX_SLOTS]
    stale = tuple(a for a in named if slot_of(auction, a, stimulus.provider) is None)
    return Decision((), called_off(stimulus.provider, terms_of(auction).request_id, stale))


def _turned_away(auction: Auction, stimulus: CommitTurnedAway, now: int) -> Decision:
    refused = stimulus.refused
    bid = auction.bids.get(refused.bid_id)
    if bid is None or not bid.ack_until or bid.provider != stimulus.provider:
        return IGNORED
    # The bid is open there as long as nobody takes it or lets it go.
    let_go = Send(bid.provider, Release(terms_of(auction).request_id, refused.bid_id))
    unfit = _unfit(refused) if refused.refusal is CommitRefusal.NEEDS_CHANGED else None
    failed = CommitFailed(refused.bid_id, bid.provider, refused.refusal, unfit=unfit)
    said = (DeclineReceived(bid.provider, auction.round, (unfit,)),) if unfit is not None else ()
    heard = HeardFrom(bid.provider, Word.ANSWER, now, now - bid.taken_at)
    return settle(auction, (failed, *said), (let_go, heard), now)


def _unfit(refused: CommitRefused) -> Clause:
    """What is wrong with the work at a node that bid for it by what the request says, which is less than the work is."""
    return Clause(WORK, "all that the job's work asks for", refused.detail or "the bid was made for less")


def _invocation_answered(auction: Auction, stimulus: InvocationAnswered, now: int) -> Decision:
    slot = slot_of(auction, stimulus.answer.allocation_id, stimulus.provider)
    if slot is None or slot.phase is not SlotPhase.HELD or not stimulus.answer.refused:
        return IGNORED
    ending = Ending(EndReason.PROVIDER_FAULT, detail=f"refused the invocation: {stimulus.answer.refused}")
    # It may run all the same: a repeated invocation was refused, and not the first.
    stop = Send(stimulus.provider, Cancel(terms_of(auction).request_id, stimulus.answer.allocation_id))
    return settle(auction, (attempt_over(auction, slot, ending),), (stop,), now)


def _hear_status(auction: Auction, stimulus: StatusHeard, now: int) -> Decision:
    status = stimulus.status
    slot = slot_of(auction, status.allocation_id, stimulus.provider)
    if slot is None or slot.phase is SlotPhase.DONE:
        return Decision((), answer_stale(auction, status, stimulus.provider))
    if slot.phase is SlotPhase.COLLECTING:
        return IGNORED
    events: list[Event] = []
    effects: tuple[Effect, ...] = ()
    if slot.phase is SlotPhase.COMMITTING:  # the status overtook the acknowledgement, and says as much
        events.append(CommitConfirmed(slot.bid_id, now))
        effects = _begin(auction, auction.bids[slot.bid_id])
    if slot.allocation is Phase.COMMITTED:
        effects = (HeardFrom(slot.provider, Word.WORK, now), *effects)
    if slot.lost_at:
        events.append(ProviderReturned(stimulus.provider, now))
    if status.ending is None:
        events += _progress(slot, status, now)
        if all(isinstance(event, AllocationUsed) for event in events):
            return Decision(tuple(events), effects)  # nothing to settle
        return settle(auction, tuple(events), effects, now)
    events.append(AllocationFinished(slot.index, status, now))
    if not stimulus.complete:
        return settle(auction, tuple(events), (*effects, Collect(stimulus.provider, status)), now)
    finished = auction
    for event in events:
        finished = evolve(finished, event)
    ended = attempt_over(finished, finished.slots[slot.index], status.ending)
    return settle(auction, (*events, ended), (*effects, *receipt(finished, ended)), now)


def _progress(slot: Slot, status: AllocationStatus, now: int) -> list[Event]:
    """What a status says that was not known: a later phase, that it stands still or goes on, more use."""
    events: list[Event] = []
    if _ORDER[status.phase] > _ORDER[slot.allocation]:
        events.append(AllocationAdvanced(slot.index, status.allocation_id, status.phase, now))
    if slot.freezes.is_news(status.frozen):
        frozen = ProviderFroze(slot.index, status.allocation_id, status.frozen, status.evict_after_ms, now)
        events.append(frozen if status.frozen else ProviderThawed(slot.index, status.allocation_id, now))
    if status.usage.wall_ms > slot.usage.wall_ms:
        events.append(AllocationUsed(slot.index, status.usage))
    return events


WORK: Final = "work"
"""Dimension in which a node cannot run what comes with a commit."""
_ORDER: Final = {phase: number for number, phase in enumerate(Phase)}
"""An allocation only moves forward: what says otherwise is old news, or a lie."""


def _collected(auction: Auction, stimulus: Collected, now: int) -> Decision:
    for slot in auction.slots:
        if slot.allocation_id == stimulus.allocation_id and slot.phase is SlotPhase.COLLECTING:
            break
    else:
        return IGNORED
    assert slot.ending is not None
    if stimulus.ours:
        unkept = not_kept(auction, slot, slot.ending, stimulus.failed)
        return settle(auction, (unkept,), receipt(auction, unkept), now)
    if stimulus.failed:
        lost = Ending(EndReason.PROVIDER_LOST, detail=f"its results could not be fetched: {stimulus.failed}")
        return settle(auction, (attempt_over(auction, slot, lost),), (), now)
    ended = attempt_over(auction, slot, slot.ending)
    return settle(auction, (ended,), receipt(auction, ended), now)


def _compared(auction: Auction, stimulus: Compared, now: int) -> Decision:
    return _settled(auction, compared(auction, stimulus, now), now)


def _suspect(auction: Auction, stimulus: PeerLost, now: int) -> Decision:
    """Its open bids go, a commit to it has failed, its silence is explained; its allocations get time to come back."""
    peer = stimulus.peer
    events: list[Event] = []
    open_bids = tuple(b for b, bid in auction.bids.items() if bid.provider == peer and not bid.ack_until)
    open_bids += tuple(b for b, seal in auction.seals.items() if seal.provider == peer)
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
    let_down = () if stimulus.ours else _left(auction, peer, now)
    return settle(auction, tuple(events), let_down, now) if events else IGNORED


def _left(auction: Auction, peer: PeerId, now: int) -> tuple[LetDown, ...]:
    """Who goes away instead of answering has let down as who stays and says nothing: a commit, or what it acknowledged and said nothing of yet."""
    taken = ((bid_id, bid) for bid_id, bid in pending(auction).items() if bid.provider == peer)
    unanswered = (_unanswered(auction, bid_id, bid, now) for bid_id, bid in taken)
    held = (slot for slot in auction.slots if slot.provider == peer and slot.phase is SlotPhase.HELD)
    return (*unanswered, *_let_down(auction, held, now))


def _restarted(auction: Auction, _stimulus: Restarted, now: int) -> Decision:
    """Nobody is connected, through no fault of theirs. What this node itself provides needs no connection."""
    terms = terms_of(auction)
    until: dict[PeerId, dict[int, int]] = {}
    for slot in auction.slots:
        if slot.phase is SlotPhase.HELD and slot.provider != terms.requester:
            until.setdefault(slot.provider, {})[slot.index] = now + OWN_OUTAGE_GRACE_MS
    return Decision(tuple(ProviderSuspected(peer, slots) for peer, slots in until.items()))


def _welcome(auction: Auction, stimulus: PeerThere, now: int) -> Decision:
    terms, peer = terms_of(auction), stimulus.peer
    events: tuple[Event, ...] = ()
    effects: list[Effect] = []
    held = [slot for slot in auction.slots if slot.provider == peer and slot.phase is SlotPhase.HELD]
    if any(slot.lost_at for slot in held):
        events = (ProviderReturned(peer, now),)
    for slot in held:
        message = Cancel(terms.request_id, slot.allocation_id)
        # The invocation is known to it already: it answers with the status.
        effects.append(_about(auction, slot) if auction.phase is AuctionPhase.OPEN else Send(peer, message))
        effects += asked_again(slot)
    fresh = peer not in auction.asked or auction.declines.get(peer) == (UNREACHABLE,)
    fresh = fresh and terms.only in ("", peer)
    if seeking(auction) and auction.round >= 0 and fresh and auction.phase is AuctionPhase.OPEN:
        effects.append(Send(peer, bid_request(auction, auction.round)))
    return Decision(events, tuple(effects))


def _cancel(auction: Auction, _stimulus: CancelAsked, now: int) -> Decision:
    return _stop(auction, EndReason.CANCELLED, now)


def _cancel_one(auction: Auction, stimulus: AllocationCancelAsked, now: int) -> Decision:
    for slot in auction.slots:
        is_there = slot.phase in (SlotPhase.HELD, SlotPhase.COMMITTING) and not slot.give_up_at
        if slot.allocation_id == stimulus.allocation_id and is_there:
            event = AllocationCancelRequested(slot.index, slot.allocation_id, now + CANCEL_GRACE_MS)
            told = Send(slot.provider, Cancel(terms_of(auction).request_id, slot.allocation_id))
            return settle(auction, (event,), (told,), now)
    return IGNORED


def _stop(auction: Auction, reason: EndReason, now: int) -> Decision:
    """Ends what seeks, tells the providers of the rest to stop, and waits for them a little."""
    terms = terms_of(auction)
    events: list[Event] = [CancelRequested(now + CANCEL_GRACE_MS, reason)]
    effects: list[Effect] = []
    for slot in auction.slots:
        if slot.phase is SlotPhase.SEEKING:
            ending = Ending(reason, detail=STOPPED[reason])
            events.append(AttemptEnded(slot.index, PeerId(""), slot.allocation_id, ending, final=True))
        elif slot.phase in (SlotPhase.HELD, SlotPhase.COMMITTING):
            effects.append(Send(slot.provider, Cancel(terms.request_id, slot.allocation_id)))
    return settle(auction, tuple(events), tuple(effects), now)


def _time(auction: Auction, stimulus: TimeCame, now: int) -> Decision:
    terms = terms_of(auction)
    if auction.phase is AuctionPhase.OPEN and terms.deadline_at and now >= terms.deadline_at:
        stopped = _stop(auction, EndReason.DEADLINE, now)
        more = decide(reduce(evolve, stopped.events, auction), stimulus, now)  # what else was due by now
        return Decision(stopped.events + more.events, stopped.effects + more.effects)
    events: list[Event] = []
    effects: list[Effect] = []
    for bid_id, bid in pending(auction).items():
        if bid.ack_until <= now and _is_own_lateness(auction, bid, now):
            events.append(CommitAwaited(bid_id, now + terms.ack_timeout_ms))
        elif bid.ack_until <= now:
            source = bid.facts.source if bid.facts.is_newcomer and bid.facts.source != UNKNOWN else ""
            silent = f"silent for {bid.ack_until - bid.taken_at} ms"
            events.append(CommitFailed(bid_id, bid.provider, silent, source, is_silent=True))
            effects += [Send(bid.provider, Release(terms.request_id, bid_id)), _unanswered(auction, bid_id, bid, now)]
            # It may have accepted, and only its answer was lost.
            effects += [Send(bid.provider, Cancel(terms.request_id, auction.slots[i].allocation_id)) for i in bid.slots]
    missed = [slot for slot in auction.slots if _is_missed(auction, slot, now)]
    for slot in missed:
        event, effect = _miss(auction, slot, now)
        events.append(event)
        effects.append(effect)
    effects += _let_down(auction, missed, now)
    if auction.phase is AuctionPhase.CANCELLING and now >= auction.give_up_at:
        events += _abandon(auction)
    return settle(auction, tuple(events), tuple(effects), now)


def _is_own_lateness(auction: Auction, bid: OpenBid, now: int) -> bool:
    """Whether this node looks so late for an acknowledgement that it may have it, and has not done so before. What is stopped waits for none."""
    is_open = auction.phase is AuctionPhase.OPEN
    return is_open and not bid.is_awaited and now - bid.ack_until > terms_of(auction).ack_timeout_ms


def _is_missed(auction: Auction, slot: Slot, now: int) -> bool:
    due = _slot_deadline(auction, slot) if slot.phase is SlotPhase.HELD else None
    return due is not None and due <= now


def _unanswered(auction: Auction, bid_id: BidId, bid: OpenBid, now: int) -> LetDown:
    """A commit that its provider has not answered, or not as it was committed."""
    terms = auction.slots[bid.slots[0]].terms
    about = answers_to(terms_of(auction).request_id, bid_id, terms)
    return LetDown(bid.provider, Word.ANSWER, about, bid.taken_at, now)


def _let_down(auction: Auction, slots: Iterable[Slot], now: int) -> list[LetDown]:
    """Who has acknowledged a commit and said nothing since: one of its allocations for each commit, however many it was for."""
    silent: dict[BidId, Slot] = {}
    for slot in slots:
        if slot.allocation is Phase.COMMITTED and not slot.lost_at and not slot.give_up_at:
            silent.setdefault(slot.bid_id, slot)
    request_id = terms_of(auction).request_id
    return [
        LetDown(slot.provider, Word.WORK, (word_of(request_id, slot.allocation_id),), slot.held_since, now)
        for slot in silent.values()
    ]


def _miss(auction: Auction, slot: Slot, now: int) -> tuple[Event, Effect]:
    """A provider from which something should have been heard by now: asked once more, or given up."""
    terms = terms_of(auction)
    if slot.give_up_at:
        reason, detail = EndReason.CANCELLED, "cancelled by its owner; the provider has not confirmed it"
    elif slot.lost_at:
        reason, detail = EndReason.PROVIDER_LOST, "the provider could not be reached any more"
    elif slot.allocation is Phase.PREPARING:
        reason, detail = EndReason.PROVIDER_FAULT, "the provider accepted it and did not start it"
    elif slot.allocation is not Phase.COMMITTED:
        reason, detail = EndReason.PROVIDER_FAULT, "the provider let it run beyond its limits, or forgot it"
    elif slot.nudges < len(nudge_pauses(slot)) - 1:
        return InvocationRepeated(slot.index, now), Send(slot.provider, invocation(terms, slot))
    else:
        reason, detail = EndReason.PROVIDER_FAULT, "the provider accepted it and said nothing since"
    ended = attempt_over(auction, slot, Ending(reason, detail=detail))
    return ended, Send(slot.provider, Cancel(terms.request_id, slot.allocation_id))


def _abandon(auction: Auction) -> list[Event]:
    """The providers did not confirm the cancelling in time; if they return they are told again."""
    ending = Ending(auction.stopped_for, detail=f"{STOPPED[auction.stopped_for]}; the provider has not confirmed it")
    return [
        AttemptEnded(slot.index, slot.provider, slot.allocation_id, ending, final=True)
        for slot in auction.slots
        if slot.phase is not SlotPhase.DONE
    ]


# ------------------------------------------------------------------------------------------------------------------ table

_OVER: Final = "the request is over"
_NEW: Final = "nothing was submitted yet"
_ALIVE: Final[dict[type[Stimulus], Row[Auction]]] = {
    Submitted: ignore("submitted already; a repeat changes nothing"),
    Announced: Row(_note_round, "the window opens; an older round is old news"),
    TurnPending: Row(
        _await_turn, "that it waits for its turn is written down; its owner can stop it, and its deadline holds"
    ),
    BidHeard: Row(
        _take_bid,
        "kept and compared when the window closes; too dear, forged, not needed, or not what was sealed: released",
    ),
    SealHeard: Row(_take_seal, "kept until the list is closed; forged or not needed: released"),
    DeclineHeard: Row(_note_decline, "its reasons are kept for the explanation; the last answer closes the window"),
    CommitAcked: Row(
        _confirm, "the slots are held; one that comes too late is cancelled; other terms are a fault of the node"
    ),
    CommitTurnedAway: Row(_turned_away, "the slots seek again, next bid first"),
    InvocationAnswered: Row(_invocation_answered, "a refusal is a fault of the node"),
    StatusHeard: Row(
        _hear_status, "progress is noted, an ending collected; from an attempt that is over: answered so that it stops"
    ),
    ResizeAnswered: Row(
        hear_resized, "what its allocation holds, and what that costs, follows; anything but an answer is none"
    ),
    Collected: Row(_collected, "the attempt is over: done, or another node is tried"),
    Compared: Row(
        _compared,
        "which answers are the same is written down, and the piece judged; what was not asked changes nothing",
    ),
    Restarted: Row(_restarted, "its providers get time to be reached again"),
    PeerLost: Row(_suspect, "its allocations get time to return, in proportion to what would be lost"),
    PeerThere: Row(_welcome, "invocations are repeated, which asks for the status; a node not yet asked is asked"),
    TimeCame: Row(_time, "windows close, silent winners and lost providers are given up, waiting rounds begin"),
}

_STIMULI: Final[tuple[type[Stimulus], ...]] = (*_ALIVE, CancelAsked, AllocationCancelAsked, ResizeAsked)

TABLE: Final[Table[Auction]] = {
    **{(AuctionPhase.NEW, kind): ignore(_NEW) for kind in _STIMULI},
    (AuctionPhase.NEW, Submitted): Row(_open, "the request is written down and announced"),
    **{(AuctionPhase.OPEN, kind): row for kind, row in _ALIVE.items()},
    (AuctionPhase.OPEN, CancelAsked): Row(_cancel, "what seeks ends, what is held is told to stop"),
    (AuctionPhase.OPEN, AllocationCancelAsked): Row(
        _cancel_one,
        "its provider is told to stop, and its slot is not tried elsewhere; one that is over stays as it is",
    ),
    (AuctionPhase.OPEN, ResizeAsked): Row(ask_resize, "its provider is asked, if the request can pay for it"),
    **{(AuctionPhase.CANCELLING, kind): row for kind, row in _ALIVE.items()},
    (AuctionPhase.CANCELLING, ResizeAsked): ignore("it is being cancelled"),
    (AuctionPhase.CANCELLING, AllocationCancelAsked): ignore("all of it is being cancelled"),
    (AuctionPhase.CANCELLING, CancelAsked): ignore("cancelling already"),
    **{(AuctionPhase.ENDED, kind): ignore(_OVER) for kind in _STIMULI},
    (AuctionPhase.ENDED, BidHeard): Row(
        lambda auction, s, _now: Decision((), (Send(s.provider, Release(terms_of(auction).request_id, s.bid.bid_id)),)),
        "released: the request is over",
    ),
    (AuctionPhase.ENDED, SealHeard): Row(
        lambda auction, s, _now: Decision(
            (), (Send(s.provider, Release(terms_of(auction).request_id, s.sealed.bid_id)),)
        ),
        "released: the request is over",
    ),
    (AuctionPhase.ENDED, CommitAcked): Row(_disown, "cancelled: the request is over"),
    (AuctionPhase.ENDED, StatusHeard): Row(_hear_status, "answered so that it stops"),
}
