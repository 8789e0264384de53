"""How a request's state follows from its events: `evolve`, and small questions about the state."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import msgspec

from dms_proto.data.transfer import SLOWEST_BYTES_PER_MS
from dms_proto.ids import AllocationId, BidId, Digest, PeerId
from dms_proto.images import PULL_MS, Pull
from dms_proto.machine import Event
from dms_proto.market.agreement import Agreement, agreement_on, figures_digest, terms_digest
from dms_proto.market.auction_events import (
    AllocationAdvanced,
    AllocationCancelRequested,
    AllocationFinished,
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
    ProviderReturned,
    ProviderSuspected,
    RequestAnnounced,
    RequestEnded,
    RequestOpened,
    RequestWaiting,
    ResultJudged,
    ResultsCompared,
    RoundCalled,
    SealReceived,
    SealsListed,
)
from dms_proto.market.auction_state import (
    SHARE,
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
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.ledger import without
from dms_proto.messages import Clause, Phase
from dms_proto.reputation.silence import SOURCE_STRIKES
from dms_proto.units import MINUTE
from dms_proto.verification.policy import Policy, is_trusted
from dms_proto.work import ANSWERS, DETERMINISTIC, NODE_FAULTS, EndReason, Task, Usage, input_bytes

NUDGE_MS: Final = (2_000, 3_000, 5_000, 5_000)
"""Pauses after which an allocation of which nothing is heard since its commit is asked where it stands; after the last one it is given up."""
NEWCOMER_NUDGE_MS: Final = (1_000, 2_000)
"""The same at a provider that has finished nothing for this node yet. It has no credit, and nothing is known to run that could be lost."""
OVERDUE_MS: Final = 2 * MINUTE
"""Beyond its limits, an allocation may take this long for everything around its run."""
START_WITHIN_MS: Final = 10_000
"""Whoever holds capacity has the program running so soon after the commit, beside fetching its inputs: that is what holding means."""
NOT_STARTED_MS: Final = 3 * START_WITHIN_MS
"""Whoever has not by then will not."""

AT_WORK: Final = (SlotPhase.COMMITTING, SlotPhase.HELD, SlotPhase.COLLECTING)
"""Phases of a slot for which something may yet become owed."""

_UNANSWERED: Final = (SlotPhase.COMMITTING, SlotPhase.HELD)

change = msgspec.structs.replace


def evolve(auction: Auction, event: Event) -> Auction:  # noqa: C901, PLR0911, PLR0912 - one case per event kind
    """The state after `event`."""
    match event:
        case RequestOpened(terms=terms, at=at):
            return change(
                auction,
                terms=terms,
                phase=AuctionPhase.OPEN,
                opened_at=at,
                slots=first_slots(terms),
                search=SearchPhase.CALLED,
            )
        case RoundCalled():
            return change(auction, search=SearchPhase.CALLED, silent_at={})
        case RequestAnnounced():
            return _announced(auction, event)
        case BidReceived(provider=provider, bid=bid, facts=facts, usable_until=until):
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
        case SealReceived(provider=provider, sealed=sealed, facts=facts, usable_until=until):
            return change(
                auction,
                seals={**auction.seals, sealed.bid_id: HeldSeal(provider, sealed, facts, until)},
                numbers={**auction.numbers, provider: sealed.number},
                declines=without(auction.declines, provider),
                asked={**auction.asked, provider: True},
                standing_at=auction.standing_at - {provider},
            )
        case SealsListed(bid_ids=bid_ids, seals=seals, open_until=until):
            listed = {b: change(auction.seals[b], listed=seals) for b in bid_ids}
            return change(auction, seals={**auction.seals, **listed}, window_until=until, search=SearchPhase.OPENING)
        case OpeningRefused(bid_id=bid_id, provider=provider):
            faulty = {**auction.faulty, provider: auction.round}
            return change(auction, seals=without(auction.seals, bid_id), faulty=faulty)
        case DeclineReceived(provider=provider, round=round_, clauses=clauses):
            return change(
                auction,
                declines={**auction.declines, provider: clauses},
                asked={**auction.asked, provider: True} if round_ >= auction.round else auction.asked,
                standing_at=auction.standing_at | {provider}
                if is_passing(clauses)
                else auction.standing_at - {provider},
            )
        case AwardMade():
            return _awarded(auction, event)
        case CommitConfirmed(bid_id=bid_id, at=at):
            return _confirmed(auction, bid_id, at)
        case CommitAwaited(bid_id=bid_id, until=until):
            awaited = change(auction.bids[bid_id], ack_until=until, is_awaited=True)
            return change(auction, bids={**auction.bids, bid_id: awaited})
        case CommitFailed():
            return _slots_came_back(_commit_failed(auction, event))
        case BidPassedOver(bid_id=bid_id, provider=provider, clause=clause):
            return change(
                auction,
                bids=without(auction.bids, bid_id),
                declines={**auction.declines, provider: (clause,)},
                standing_at=auction.standing_at - {provider},
            )
        case BidsReleased(bid_ids=bid_ids, withdrawn=withdrawn):
            return change(
                auction,
                bids=without(auction.bids, *bid_ids),
                seals=without(auction.seals, *bid_ids),
                standing_at=auction.standing_at - frozenset(withdrawn) - {bidder_of(auction, b) for b in bid_ids},
            )
        case AllocationAdvanced(slot=index, phase=phase, at=at):
            slot = auction.slots[index]
            overdue = _overdue_at(auction, slot, phase)
            started = at if phase is Phase.RUNNING else slot.started_at
            news = {"allocation": phase, "nudge_at": overdue, "started_at": started}
            return change(auction, slots=with_slots(auction, (index,), **news))
        case AllocationUsed(slot=index, usage=usage):
            return change(auction, slots=with_slots(auction, (index,), usage=usage))
        case InvocationRepeated(slot=index, at=at):
            slot = auction.slots[index]
            pauses = nudge_pauses(slot)
            pause = pauses[min(slot.nudges + 1, len(pauses) - 1)]
            return change(auction, slots=with_slots(auction, (index,), nudges=slot.nudges + 1, nudge_at=at + pause))
        case ProviderSuspected(until=until):
            slots = auction.slots
            for index, at in until.items():
                slots = _replaced(slots, (index,), lost_at=at, was_away=True)
            return change(auction, slots=slots)
        case ProviderReturned(peer=peer, at=at):
            slots = auction.slots
            for slot in slots:
                if slot.provider == peer and slot.lost_at:  # its news is on its way: not overdue before that can arrive
                    slots = _replaced(slots, (slot.index,), lost_at=0, nudge_at=max(slot.nudge_at, at + NUDGE_MS[0]))
            return change(auction, slots=slots)
        case AllocationFinished(slot=index, status=status, at=at):
            return change(
                auction,
                slots=with_slots(
                    auction,
                    (index,),
                    phase=SlotPhase.COLLECTING,
                    allocation=Phase.ENDED,
                    lost_at=0,
                    status=status,
                    ending=status.ending,
                    ended_at=at,
                    heard={**auction.slots[index].heard, status.allocation_id: figures_digest(status)},
                ),
            )
        case AttemptEnded():
            return _attempt_ended(auction, event)
        case CopyCalled(piece=piece):
            return _copy_called(auction, piece)
        case ComparisonBegun() | ResultsCompared():
            return _compared(auction, event)
        case ResultJudged():
            return _judged(auction, event)
        case BenchmarkChecked():
            return change(auction, finding=event)
        case RequestWaiting(why=why, next_round_at=next_round_at, since=since):
            return change(
                auction,
                why=why,
                next_round_at=next_round_at,
                waiting_since=since,
                waits=auction.waits + 1,
                search=SearchPhase.WAITING,
            )
        case AllocationCancelRequested(slot=index, give_up_at=give_up_at):
            return change(auction, slots=with_slots(auction, (index,), give_up_at=give_up_at))
        case CancelRequested(give_up_at=give_up_at, reason=reason):
            return change(auction, phase=AuctionPhase.CANCELLING, give_up_at=give_up_at, stopped_for=reason)
        case RequestEnded():
            return change(auction, phase=AuctionPhase.ENDED, ending=event, bids={}, seals={}, search=SearchPhase.IDLE)
        case _:
            return auction


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
    for bid_id, indexes in event.taken:
        bid = bids[bid_id]
        told = {"ack_until": event.ack_until, "taken_at": event.ack_until - terms_of(auction).ack_timeout_ms}
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


def terms_agreed(terms: Terms, taken: OpenBid, slots: tuple[int, ...]) -> Digest:
    """What this node agrees on when it takes a bid for `slots`, by what it asked for itself."""
    return terms_digest(agreement_of(terms, taken, slots))


def agreement_of(terms: Terms, taken: OpenBid, slots: tuple[int, ...]) -> Agreement:
    """The same, spelled out."""
    numbers = tuple(terms.number_of(index) for index in slots)
    return agreement_on(taken.bid, terms.needs, terms.requester, taken.provider, numbers, award=taken.award)


def _attempt_ended(auction: Auction, event: AttemptEnded) -> Auction:
    slot, reason, provider = auction.slots[event.slot], event.ending.reason, event.provider
    own = reason in DETERMINISTIC and bool(provider)
    after = change(
        slot,
        phase=SlotPhase.DONE if event.final else SlotPhase.SEEKING,
        ending=event.slot_ending,
        lost_at=0,
        failed_on=_plus(slot.failed_on, provider) if own else slot.failed_on,
        failure=event.ending if own else slot.failure,
        faults=slot.faults + (not own and not event.final),
        price=slot.price + event.price,
        outputs=event.outputs,
        settled=(*slot.settled, Settled(provider, event.allocation_id, event.price)) if provider else slot.settled,
        has_answered=is_answer(auction, slot, event),
    )
    slots = (*auction.slots[: event.slot], after, *auction.slots[event.slot + 1 :])
    # Who gave nothing is not asked again at once, whoever's doing it says that was.
    blamed = bool(provider) and (reason in NODE_FAULTS or not (own or event.final))
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


def is_answer(auction: Auction, slot: Slot, ended: AttemptEnded) -> bool:
    """Whether the end of an attempt says what the work gives, where that is checked. What was being stopped has not failed by itself."""
    if not terms_of(auction).verify.is_on or not ended.provider:
        return False
    is_stopped = auction.phase is AuctionPhase.CANCELLING or bool(slot.give_up_at)
    reason = ended.ending.reason
    return reason is EndReason.COMPLETED or (reason in ANSWERS and not is_stopped)


def nudge_pauses(slot: Slot) -> tuple[int, ...]:
    """How long something is to be heard of a slot since its commit, time and again, in milliseconds."""
    return NEWCOMER_NUDGE_MS if slot.is_newcomer else NUDGE_MS


def _overdue_at(auction: Auction, slot: Slot, phase: Phase) -> int:
    """When an allocation that has said it is at work must have started, or ended, whatever it says; 0 while it has not.

    Its inputs, its run and its outputs take their time.
    """
    if phase is Phase.COMMITTED:
        return 0
    task = terms_of(auction).task
    ready = slot.held_since + fetching_ms(task)
    if phase is Phase.PREPARING:
        return ready + NOT_STARTED_MS
    return ready + task.limits.wall_ms + task.limits.grace_ms + OVERDUE_MS


def late_ms(auction: Auction, slot: Slot) -> int:
    """How much later than it should have a slot's program began to run, in milliseconds; 0 where it did not, or nothing was heard of it."""
    due = slot.held_since + fetching_ms(terms_of(auction).task) + START_WITHIN_MS
    return max(0, slot.started_at - due) if slot.held_since else 0


def fetching_ms(task: Task) -> int:
    """How long fetching a task's inputs, and its image, may take."""
    pulling = PULL_MS if task.image and task.pull is not Pull.NEVER else 0
    return input_bytes(task) // SLOWEST_BYTES_PER_MS + pulling


def _confirmed(auction: Auction, bid_id: BidId, at: int) -> Auction:
    held = auction.bids[bid_id].slots
    nudge_at = at + nudge_pauses(auction.slots[held[0]])[0]
    slots = with_slots(auction, held, phase=SlotPhase.HELD, held_since=at, nudges=0, nudge_at=nudge_at)
    return change(auction, slots=slots, bids=without(auction.bids, bid_id))


def _commit_failed(auction: Auction, event: CommitFailed) -> Auction:
    silent_at = auction.silent_at
    if event.source:
        silent_at = {**silent_at, event.source: silent_at.get(event.source, 0) + 1}
    return change(
        auction,
        slots=with_slots(auction, auction.bids[event.bid_id].slots, phase=SlotPhase.SEEKING),
        bids=without(auction.bids, event.bid_id),
        faulty={**auction.faulty, event.provider: auction.round},
        silent_at=silent_at,
    )


def _slots_came_back(auction: Auction) -> Auction:
    """A pause is over when there is something new to look for."""
    paused = auction.search in (SearchPhase.WAITING, SearchPhase.SHORT)
    return change(auction, search=SearchPhase.IDLE) if paused else auction


def _plus(peers: tuple[PeerId, ...], peer: PeerId) -> tuple[PeerId, ...]:
    return peers if peer in peers else (*peers, peer)


def with_slots(auction: Auction, indexes: Iterable[int], **values: Any) -> tuple[Slot, ...]:
    """The slots, with `values` set in those at `indexes`."""
    return _replaced(auction.slots, tuple(indexes), **values)


def _replaced(slots: tuple[Slot, ...], indexes: tuple[int, ...], **values: Any) -> tuple[Slot, ...]:
    changed = list(slots)
    for index in indexes:
        changed[index] = change(changed[index], **values)
    return tuple(changed)


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
    }


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


def is_left_out(auction: Auction, provider: PeerId) -> bool:
    """Whether a node failed us so lately that this round goes without it."""
    failed_in = auction.faulty.get(provider)
    return failed_in is not None and auction.round <= failed_in + 1


def is_passing(clauses: tuple[Clause, ...]) -> bool:
    """Whether waiting may turn a decline into a bid."""
    return all(clause.passing for clause in clauses)
