"""How a request's state follows from its events: a table of what each changes. What is read off the state: `auction_reading`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from dms_proto.checkpoints import Checkpoint
from dms_proto.ids import BidId, PeerId
from dms_proto.machine import Event
from dms_proto.market.agreement import figures_digest, terms_digest
from dms_proto.market.auction_events import (
    AllocationAdvanced,
    AllocationCancelRequested,
    AllocationFinished,
    AllocationResized,
    AllocationUsed,
    AttemptEnded,
    AwardMade,
    BenchmarkChecked,
    BidPassedOver,
    BidReceived,
    BidsReleased,
    CancelRequested,
    CommitAwaited,
    CommitConfirmed,
    CommitFailed,
    ComparisonBegun,
    CopyCalled,
    DeclineReceived,
    InvocationRepeated,
    OpeningRefused,
    ProviderFroze,
    ProviderReturned,
    ProviderSuspected,
    ProviderThawed,
    RequestAnnounced,
    RequestEnded,
    RequestOpened,
    RequestWaiting,
    ResizeRequested,
    ResultJudged,
    ResultsCompared,
    RoundCalled,
    SealReceived,
    SealsListed,
    TurnAwaited,
)
from dms_proto.market.auction_freezes import Freezes
from dms_proto.market.auction_pace import NUDGE_MS, ack_ms, nudge_pauses, overdue_at
from dms_proto.market.auction_reading import agreement_of, bidder_of, is_answer, is_passing, seeking
from dms_proto.market.auction_state import (
    Auction,
    AuctionPhase,
    HeldSeal,
    OpenBid,
    SearchPhase,
    Settled,
    Slot,
    SlotPhase,
    terms_of,
)
from dms_proto.market.auction_terms import Terms
from dms_proto.market.ledger import without
from dms_proto.market.seekers import turn_in_words
from dms_proto.market.sizes import UNCHANGED
from dms_proto.messages import Phase
from dms_proto.verification.policy import Policy
from dms_proto.work import DETERMINISTIC, NODE_FAULTS, EndReason, Usage

change = msgspec.structs.replace


def evolve(auction: Auction, event: Event) -> Auction:
    """The state after `event`."""
    fold = _FOLDS.get(type(event))
    return auction if fold is None else fold(auction, event)


# ---------------------------------------------------------------------------------------------------------- the request


def _request_opened(auction: Auction, event: RequestOpened) -> Auction:
    return change(
        auction,
        terms=event.terms,
        phase=AuctionPhase.OPEN,
        opened_at=event.at,
        slots=first_slots(event.terms),
        search=SearchPhase.CALLED,
    )


def _waiting(auction: Auction, event: RequestWaiting) -> Auction:
    return change(
        auction,
        why=event.why,
        next_round_at=event.next_round_at,
        waiting_since=event.since,
        waits=auction.waits + 1,
        search=SearchPhase.WAITING,
    )


def _cancelling(auction: Auction, event: CancelRequested) -> Auction:
    return change(auction, phase=AuctionPhase.CANCELLING, give_up_at=event.give_up_at, stopped_for=event.reason)


def _ended(auction: Auction, event: RequestEnded) -> Auction:
    return change(auction, phase=AuctionPhase.ENDED, ending=event, bids={}, seals={}, search=SearchPhase.IDLE)


# ------------------------------------------------------------------------------------------------------------- answers


def _bid_received(auction: Auction, event: BidReceived) -> Auction:
    bid, provider = event.bid, event.provider
    partial = bid.slots < len(seeking(auction))
    return change(
        auction,
        seals=without(auction.seals, bid.bid_id),
        bids={**auction.bids, bid.bid_id: _opened(auction, event)},
        numbers={**auction.numbers, provider: bid.number},
        declines=without(auction.declines, provider),
        asked={**auction.asked, provider: True},
        standing_at=auction.standing_at | {provider} if partial else auction.standing_at - {provider},
    )


def _seal_received(auction: Auction, event: SealReceived) -> Auction:
    sealed, provider = event.sealed, event.provider
    return change(
        auction,
        seals={**auction.seals, sealed.bid_id: HeldSeal(provider, sealed, event.facts, event.usable_until)},
        numbers={**auction.numbers, provider: sealed.number},
        declines=without(auction.declines, provider),
        asked={**auction.asked, provider: True},
        standing_at=auction.standing_at - {provider},
    )


def _seals_listed(auction: Auction, event: SealsListed) -> Auction:
    listed = {bid_id: change(auction.seals[bid_id], listed=event.seals) for bid_id in event.bid_ids}
    seals = {**auction.seals, **listed}
    return change(auction, seals=seals, window_until=event.open_until, search=SearchPhase.OPENING)


def _opening_refused(auction: Auction, event: OpeningRefused) -> Auction:
    faulty = {**auction.faulty, event.provider: auction.round}
    return change(auction, seals=without(auction.seals, event.bid_id), faulty=faulty)


def _decline_received(auction: Auction, event: DeclineReceived) -> Auction:
    provider, stands = event.provider, is_passing(event.clauses)
    return change(
        auction,
        declines={**auction.declines, provider: event.clauses},
        asked={**auction.asked, provider: True} if event.round >= auction.round else auction.asked,
        standing_at=auction.standing_at | {provider} if stands else auction.standing_at - {provider},
    )


def _passed_over(auction: Auction, event: BidPassedOver) -> Auction:
    return change(
        auction,
        bids=without(auction.bids, event.bid_id),
        declines={**auction.declines, event.provider: (event.clause,)},
        standing_at=auction.standing_at - {event.provider},
    )


def _released(auction: Auction, event: BidsReleased) -> Auction:
    bidders = {bidder_of(auction, bid_id) for bid_id in event.bid_ids}
    return change(
        auction,
        bids=without(auction.bids, *event.bid_ids),
        seals=without(auction.seals, *event.bid_ids),
        standing_at=auction.standing_at - frozenset(event.withdrawn) - bidders,
    )


# --------------------------------------------------------------------------------------------------------- allocations


def _commit_awaited(auction: Auction, event: CommitAwaited) -> Auction:
    awaited = change(auction.bids[event.bid_id], ack_until=event.until, is_awaited=True)
    return change(auction, bids={**auction.bids, event.bid_id: awaited})


def _advanced(auction: Auction, event: AllocationAdvanced) -> Auction:
    slot, phase = auction.slots[event.slot], event.phase
    started = event.at if phase is Phase.RUNNING else slot.started_at
    news = {"allocation": phase, "nudge_at": overdue_at(auction, slot, phase), "started_at": started}
    return change(auction, slots=with_slots(auction, (event.slot,), **news))


def _with_freezes(auction: Auction, index: int, freezes: Freezes, at: int) -> Auction:
    """Its limits are later by as long as it stands still. Before anything was heard of it, it is asked all the same."""
    slot = change(auction.slots[index], freezes=freezes)
    due = overdue_at(auction, slot, slot.allocation)
    nudge_at = max(due, at + NUDGE_MS[0]) if due else slot.nudge_at
    return _with_slot(auction, index, freezes=freezes, nudge_at=nudge_at)


def _repeated(auction: Auction, event: InvocationRepeated) -> Auction:
    slot = auction.slots[event.slot]
    pauses = nudge_pauses(slot)
    nudge_at = event.at + pauses[min(slot.nudges + 1, len(pauses) - 1)]
    return change(auction, slots=with_slots(auction, (event.slot,), nudges=slot.nudges + 1, nudge_at=nudge_at))


def _suspected(auction: Auction, event: ProviderSuspected) -> Auction:
    slots = auction.slots
    for index, at in event.until.items():
        slots = _replaced(slots, (index,), lost_at=at, was_away=True)
    return change(auction, slots=slots)


def _returned(auction: Auction, event: ProviderReturned) -> Auction:
    """Its news is on its way: not overdue before that can arrive."""
    slots = auction.slots
    for slot in slots:
        if slot.provider == event.peer and slot.lost_at:
            nudge_at = max(slot.nudge_at, event.at + NUDGE_MS[0])
            slots = _replaced(slots, (slot.index,), lost_at=0, nudge_at=nudge_at)
    return change(auction, slots=slots)


def _finished(auction: Auction, event: AllocationFinished) -> Auction:
    status, slot = event.status, auction.slots[event.slot]
    slots = with_slots(
        auction,
        (event.slot,),
        phase=SlotPhase.COLLECTING,
        allocation=Phase.ENDED,
        lost_at=0,
        status=status,
        ending=status.ending,
        ended_at=event.at,
        heard={**slot.heard, status.allocation_id: figures_digest(status)},
    )
    return change(auction, slots=slots)


def first_slots(terms: Terms) -> tuple[Slot, ...]:
    """The slots that a request begins with: one per piece of work, or as many as are to run of each in any case."""
    copies = terms.verify.copies if terms.verify.policy is Policy.REPLICATE else 1
    return tuple(Slot(index, index % terms.count) for index in range(terms.count * copies))


def _opened(auction: Auction, event: BidReceived) -> OpenBid:
    opened = OpenBid(event.provider, event.bid, event.facts, event.usable_until)
    seal = auction.seals.get(event.bid.bid_id)
    return opened if seal is None else change(opened, listed=seal.listed, most=seal.sealed.max_price)


def _announced(auction: Auction, event: RequestAnnounced) -> Auction:
    answered = {peer for peer in auction.asked if auction.asked[peer]} if event.round == auction.round else set()
    return change(
        auction,
        round=event.round,
        asked={peer: peer in answered for peer in event.asked} | dict.fromkeys(answered, True),
        unawaited=frozenset(event.unawaited),
        gossiped=event.gossiped,
        known=event.known,
        window_until=event.window_until,
        search=SearchPhase.WINDOW,
    )


def _awarded(auction: Auction, event: AwardMade) -> Auction:
    bids, slots = dict(auction.bids), auction.slots
    taken_at = event.ack_until - ack_ms(auction, (bids[bid_id] for bid_id, _ in event.taken))
    for bid_id, indexes in event.taken:
        bid = bids[bid_id]
        told = {"ack_until": event.ack_until, "taken_at": taken_at}
        bids[bid_id] = taken = change(bid, **told, slots=indexes, award=event.paid)
        agreed = agreement_of(terms_of(auction), taken, indexes)
        agreed_on = terms_digest(agreed)
        for index in indexes:
            slots = _replaced(
                slots,
                (index,),
                phase=SlotPhase.COMMITTING,
                bid_id=bid_id,
                provider=bid.provider,
                source=bid.facts.source,
                streak=bid.facts.streak,
                is_newcomer=bid.facts.is_newcomer,
                allocation_id=terms_of(auction).allocation_of(bid_id, index),
                allocation=Phase.COMMITTED,
                number=-1,
                agreed=agreed.price,
                tariff=agreed.tariff,
                terms=agreed_on,
                held_since=0,
                started_at=0,
                nudges=0,
                nudge_at=0,
                lost_at=0,
                attempts=slots[index].attempts + 1,
                ended_at=0,
                was_away=False,
                status=None,
                usage=Usage(),
                sizes=UNCHANGED,
            )
    auction = change(auction, bids=bids, slots=slots)
    short = bool(seeking(auction))
    return change(
        auction,
        decision=event.decision,
        search=SearchPhase.SHORT if short else SearchPhase.IDLE,
        waiting_since=0,
        waits=0,
        why="",
    )


def _attempt_ended(auction: Auction, event: AttemptEnded) -> Auction:
    slot, reason, provider = auction.slots[event.slot], event.ending.reason, event.provider
    terms, own = terms_of(auction), reason in DETERMINISTIC and bool(provider)
    is_passing_on = reason is EndReason.CHECKPOINTED
    is_evicted = reason is EndReason.EVICTED
    after = change(
        slot,
        phase=SlotPhase.DONE if event.final else SlotPhase.SEEKING,
        ending=event.slot_ending,
        lost_at=0,
        failed_on=_plus(slot.failed_on, provider) if own else slot.failed_on,
        failure=event.ending if own else slot.failure,
        faults=slot.faults + (0 if own or event.final or is_passing_on or is_evicted else terms.faults_of(reason)),
        price=slot.price + event.price,
        outputs=event.outputs,
        settled=(*slot.settled, Settled(provider, event.allocation_id, event.price)) if provider else slot.settled,
        has_answered=is_answer(auction, slot, event),
        checkpoint=Checkpoint(event.checkpoint, event.outputs) if event.checkpoint else slot.checkpoint,
        freezes=slot.freezes.attempt_over(is_evicted=is_evicted),
    )
    slots = (*auction.slots[: event.slot], after, *auction.slots[event.slot + 1 :])
    # Who gave nothing is not asked again at once, whoever's doing it says that was.
    blamed = bool(provider) and (reason in NODE_FAULTS or not (own or event.final or is_passing_on))
    faulty = {**auction.faulty, provider: auction.round} if blamed else auction.faulty
    # A commit that was never acknowledged ends with its attempt.
    bids = {b: bid for b, bid in auction.bids.items() if event.slot not in bid.slots}
    auction = change(auction, slots=slots, faulty=faulty, bids=bids)
    return auction if event.final else _slots_came_back(auction)


def _copy_called(auction: Auction, piece: int) -> Auction:
    called = change(auction, slots=(*auction.slots, Slot(len(auction.slots), piece)))
    return _slots_came_back(called) if len(seeking(called)) > len(seeking(auction)) else called


def _compared(auction: Auction, event: ComparisonBegun | ResultsCompared) -> Auction:
    if isinstance(event, ComparisonBegun):
        return change(auction, comparing={**auction.comparing, event.piece: event})
    comparisons = {**auction.comparisons, event.piece: event}
    return change(auction, comparing=without(auction.comparing, event.piece), comparisons=comparisons)


def _judged(auction: Auction, event: ResultJudged) -> Auction:
    """Nothing is owed for a result that was wrong."""
    slots = auction.slots
    for answer in event.wrong:
        slot = slots[answer.slot]
        settled = tuple(
            change(attempt, price=0) if attempt.allocation_id == answer.allocation_id else attempt
            for attempt in slot.settled
        )
        slots = _replaced(slots, (slot.index,), price=slot.price - answer.price, settled=settled)
    comparing = without(auction.comparing, event.piece)
    return change(auction, slots=slots, comparing=comparing, verdicts={**auction.verdicts, event.piece: event})


def _confirmed(auction: Auction, bid_id: BidId, at: int) -> Auction:
    held = auction.bids[bid_id].slots
    nudge_at = at + nudge_pauses(auction.slots[held[0]])[0]
    slots = with_slots(auction, held, phase=SlotPhase.HELD, held_since=at, nudges=0, nudge_at=nudge_at)
    return change(auction, slots=slots, bids=without(auction.bids, bid_id))


def _commit_failed(auction: Auction, event: CommitFailed) -> Auction:
    silent_at, silences = auction.silent_at, auction.silences
    if event.source:
        silent_at = {**silent_at, event.source: silent_at.get(event.source, 0) + 1}
    if event.is_silent:
        silences = {**silences, event.provider: silences.get(event.provider, 0) + 1}
    return change(
        auction,
        slots=with_slots(auction, auction.bids[event.bid_id].slots, phase=SlotPhase.SEEKING),
        bids=without(auction.bids, event.bid_id),
        faulty=auction.faulty if event.unfit else {**auction.faulty, event.provider: auction.round},
        unfit={**auction.unfit, event.provider: event.unfit} if event.unfit else auction.unfit,
        silent_at=silent_at,
        silences=silences,
    )


def _resize_requested(auction: Auction, event: ResizeRequested) -> Auction:
    slot = auction.slots[event.slot]
    sizes = change(slot.sizes, changing=event.change, before=slot.agreed)
    return _with_slot(auction, event.slot, sizes=sizes, agreed=event.change.price)


def _resized(auction: Auction, event: AllocationResized) -> Auction:
    sizes = auction.slots[event.slot].sizes
    if sizes.changing is None:  # it was not even asked for
        return _with_slot(auction, event.slot, sizes=change(sizes, answer=event.answer))
    if event.answer.clauses:
        kept = change(sizes, changing=None, answer=event.answer)
        return _with_slot(auction, event.slot, sizes=kept, agreed=sizes.before)
    changed = sizes.changed(terms_of(auction).needs.resources, sizes.changing.resources, event.at_ms)
    return _with_slot(auction, event.slot, sizes=change(changed, answer=event.answer))


def _slots_came_back(auction: Auction) -> Auction:
    """A pause is over when there is something new to look for."""
    paused = auction.search in (SearchPhase.WAITING, SearchPhase.SHORT)
    return change(auction, search=SearchPhase.IDLE) if paused else auction


def _plus(peers: tuple[PeerId, ...], peer: PeerId) -> tuple[PeerId, ...]:
    return peers if peer in peers else (*peers, peer)


def _with_slot(auction: Auction, index: int, **values: Any) -> Auction:
    return change(auction, slots=with_slots(auction, (index,), **values))


def with_slots(auction: Auction, indexes: Iterable[int], **values: Any) -> tuple[Slot, ...]:
    """The slots, with `values` set in those at `indexes`."""
    return _replaced(auction.slots, tuple(indexes), **values)


def _replaced(slots: tuple[Slot, ...], indexes: tuple[int, ...], **values: Any) -> tuple[Slot, ...]:
    changed = list(slots)
    for index in indexes:
        changed[index] = change(changed[index], **values)
    return tuple(changed)


_FOLDS: Final[Mapping[type[Event], Callable[[Auction, Any], Auction]]] = {
    RequestOpened: _request_opened,
    RoundCalled: lambda auction, _event: change(auction, search=SearchPhase.CALLED, silent_at={}),
    TurnAwaited: lambda auction, event: change(auction, why=turn_in_words(event.ahead)),
    RequestAnnounced: _announced,
    BidReceived: _bid_received,
    SealReceived: _seal_received,
    SealsListed: _seals_listed,
    OpeningRefused: _opening_refused,
    DeclineReceived: _decline_received,
    AwardMade: _awarded,
    CommitConfirmed: lambda auction, event: _confirmed(auction, event.bid_id, event.at),
    CommitAwaited: _commit_awaited,
    CommitFailed: lambda auction, event: _slots_came_back(_commit_failed(auction, event)),
    BidPassedOver: _passed_over,
    BidsReleased: _released,
    AllocationAdvanced: _advanced,
    AllocationUsed: lambda auction, event: _with_slot(auction, event.slot, usage=event.usage),
    ProviderFroze: lambda auction, e: _with_freezes(auction, e.slot, auction.slots[e.slot].freezes.begun(e), e.at),
    ProviderThawed: lambda auction, e: _with_freezes(auction, e.slot, auction.slots[e.slot].freezes.over(e.at), e.at),
    InvocationRepeated: _repeated,
    ProviderSuspected: _suspected,
    ProviderReturned: _returned,
    AllocationFinished: _finished,
    AttemptEnded: _attempt_ended,
    CopyCalled: lambda auction, event: _copy_called(auction, event.piece),
    ComparisonBegun: _compared,
    ResultsCompared: _compared,
    ResultJudged: _judged,
    BenchmarkChecked: lambda auction, event: change(auction, finding=event),
    RequestWaiting: _waiting,
    AllocationCancelRequested: lambda auction, event: _with_slot(auction, event.slot, give_up_at=event.give_up_at),
    ResizeRequested: _resize_requested,
    AllocationResized: _resized,
    CancelRequested: _cancelling,
    RequestEnded: _ended,
}
"""What each event changes; any other changes nothing."""
