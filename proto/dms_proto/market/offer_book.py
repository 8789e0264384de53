"""The provider's side of the market: hear requests, lock capacity and bid, or say why not; turn commits into allocations.

State     what is registered, the ledger, which requests stand, which bids were committed, how many bids each request had.
Stimuli   a request, commit or release heard; an allocation's end; the owner's wishes; what other programs use; the time.
Effects   the answer; `OpenAllocation` for each committed slot.

A request is answered once per round, however often it is heard (gossip and an open stream both bring it). A request declined only because
capacity is not free *now* stands: whenever capacity frees it is judged again, highest priority first, and bid on if it fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from dms_proto.capability import NOTHING, Price
from dms_proto.grants.access import Credential
from dms_proto.heirs import PeerRenamed, names_of
from dms_proto.ids import PeerId, RequestId, bid_id
from dms_proto.machine import (
    IGNORED,
    Blame,
    Decision,
    Effect,
    Event,
    Row,
    Send,
    Stimulus,
    Table,
    TimeCame,
    earliest,
    ignore,
)
from dms_proto.market.agreement import request_digest
from dms_proto.market.arithmetic import fits_within, subtract
from dms_proto.market.ledger import CapabilityLock
from dms_proto.market.offer_commits import take_commit
from dms_proto.market.offer_fold import evolve
from dms_proto.market.offer_judgement import LOG_IS_FULL, countable, judge, slots_for
from dms_proto.market.offer_lending import gives_way, room_for, told_again, with_lent
from dms_proto.market.offer_owner import owner_seen, told_of_owner
from dms_proto.market.offer_resizes import settled, take_resize
from dms_proto.market.offer_seals import heed, sealed
from dms_proto.market.offer_state import (
    OWNER_HOLD,
    AllocationOver,
    AvailableWished,
    BidMade,
    BookPhase,
    CapabilityMeasured,
    CapabilityRegistered,
    CapacityFreed,
    CapacityHeld,
    ClosingHeard,
    CommitHeard,
    CreditChanged,
    CreditSeen,
    HoldWished,
    LockExpired,
    LockReleased,
    NodeStarted,
    OfferBook,
    OwnerSeen,
    PauseLifted,
    PauseWished,
    PolicyChanged,
    PolicyWished,
    PressureChanged,
    PressureSeen,
    ReleaseHeard,
    RequestDeclined,
    RequestHeard,
    RequestTurnedAway,
    RequestWithdrawn,
    ResizeHeard,
    SizeSettled,
    StakesInherited,
    StandingRequest,
    WorkPaused,
    WorkResumed,
)
from dms_proto.market.reach import distance
from dms_proto.market.verdicts import MAX_CLAUSES
from dms_proto.messages import (
    Bid,
    Decline,
    Pricing,
)
from dms_proto.wire.scores import Offence

COMMIT_GRACE_MS: Final = 1_000
"""A lock outlives its bid by this much: a commit sent within validity may still be on its way."""
LOCK_STEP_MS: Final = 100
"""Locks end at multiples of it, so that bids which were made together run out together."""
RUN_OUT_TOGETHER: Final = 4
"""Bids of one requester that run out at one time and count once: it may have missed what would have released them."""
STANDING_STEP_MS: Final = 1_000
FOREVER: Final = 2**53


def next_deadline(book: OfferBook) -> int | None:
    """When the first lock or standing request ends."""
    return earliest(
        min((lock.expires_at for lock in book.ledger.locks.values()), default=None),
        min((standing.until for standing in book.standing.values()), default=None),
    )


def resume(book: OfferBook) -> tuple[Effect, ...]:
    """What work that gives way was told. An answer that was lost with the process is asked for again by its requester."""
    return (*told_again(book), *told_of_owner(book))


# ----------------------------------------------------------------------------------------------------------------- decide


def decide(book: OfferBook, stimulus: Stimulus, now: int) -> Decision:
    """What the provider does about `stimulus` at `now` (Unix ms)."""
    return with_lent(book, TABLE[book.phase, type(stimulus)].handler(book, stimulus, now))


def _register(book: OfferBook, stimulus: CapabilityMeasured, now: int) -> Decision:
    if stimulus.capability == book.capability or not fits_within(book.ledger.held, stimulus.capability.resources):
        return IGNORED
    return _with_standing(book, (CapabilityRegistered(stimulus.capability),), now)


def _change_policy(book: OfferBook, stimulus: PolicyWished, now: int) -> Decision:
    return IGNORED if stimulus.policy == book.policy else _with_standing(book, (PolicyChanged(stimulus.policy),), now)


def _note_pressure(book: OfferBook, stimulus: PressureSeen, now: int) -> Decision:
    if stimulus.pressure == book.pressure:
        return IGNORED
    return _with_standing(book, (PressureChanged(stimulus.pressure),), now)


def _note_owner(book: OfferBook, stimulus: OwnerSeen, now: int) -> Decision:
    seen = owner_seen(book, stimulus, now)
    after = _with_standing(book, seen.events, now) if seen.events else IGNORED
    return Decision(after.events, (*seen.effects, *after.effects))


def _note_credit(book: OfferBook, stimulus: CreditSeen, now: int) -> Decision:
    before, changed = book.credit_of(stimulus.peer), CreditChanged(stimulus.peer, stimulus.credit)
    if stimulus.credit == before:
        return IGNORED
    return _with_standing(book, (changed,), now) if stimulus.credit > before else Decision((changed,))


def _note_succession(book: OfferBook, stimulus: PeerRenamed, _now: int) -> Decision:
    known = book.at_stake.intersection(names_of(book.heirs, stimulus.old))
    repeated = book.heirs.get(stimulus.old) == stimulus.new
    return Decision((StakesInherited(stimulus.old, stimulus.new),)) if known and not repeated else IGNORED


def _pause(_book: OfferBook, stimulus: PauseWished, _now: int) -> Decision:
    return Decision((WorkPaused(stimulus.because, stimulus.stopping),)) if stimulus.paused else IGNORED


def _resume_work(book: OfferBook, stimulus: PauseWished, now: int) -> Decision:
    if stimulus.stopping:
        return _pause(book, stimulus, now)
    return IGNORED if stimulus.paused else _with_standing(book, (WorkResumed(),), now)


def _lift_pause(book: OfferBook, stimulus: PauseWished, _now: int) -> Decision:
    return IGNORED if stimulus.paused or not book.paused_because else Decision((PauseLifted(),))


def _start_again(book: OfferBook, _stimulus: NodeStarted, now: int) -> Decision:
    if book.paused_because:
        return Decision((WorkPaused(book.paused_because),))
    return _with_standing(book, (WorkResumed(),), now)


def _hold(book: OfferBook, stimulus: HoldWished, now: int) -> Decision:
    """A hold replaces the one of the same name. What does not fit is not held, which the asker sees by the lock not being there."""
    events: tuple[Event, ...] = (LockReleased(stimulus.name),) if stimulus.name in book.ledger.locks else ()
    freed = book.ledger.unlock(stimulus.name) if events else book.ledger
    if stimulus.resources != NOTHING and fits_within(stimulus.resources, freed.available):
        until = stimulus.until or FOREVER
        lock = CapabilityLock(stimulus.name, RequestId(""), book.me, (stimulus.resources,), Price(), 0, 0, until)
        events += (CapacityHeld(lock),)
    return _with_standing(book, events, now) if events else IGNORED


def _set_available(book: OfferBook, stimulus: AvailableWished, now: int) -> Decision:
    held = book.ledger.locks.get(OWNER_HOLD)
    free = book.ledger.unlock(OWNER_HOLD).available if held is not None else book.ledger.available
    if not fits_within(stimulus.resources, free):
        return IGNORED
    return _hold(book, HoldWished(OWNER_HOLD, subtract(free, stimulus.resources)), now)


def _answer(book: OfferBook, stimulus: RequestHeard, now: int) -> Decision:
    request = stimulus.request
    if book.rounds.get((stimulus.requester, request.request_id), -1) >= request.round and not request.dry_run:
        return IGNORED  # heard before: once by gossip, once directly
    rights = stimulus.credential.rights
    judged = judge(book, stimulus.requester, request, stimulus.credential)
    if not stimulus.may_write and not request.dry_run:
        reasons = () if isinstance(judged, Price) else judged
        declined = Decline(request.request_id, request.round, (LOG_IS_FULL, *reasons)[:MAX_CLAUSES])
        withdrawn = _withdrawn(book, stimulus.requester, request.request_id)
        turned_away = RequestTurnedAway(stimulus.requester, request)
        return Decision((turned_away, *withdrawn), (Send(stimulus.requester, declined),))
    if isinstance(judged, Price):
        return _bid(
            book,
            StandingRequest(stimulus.requester, request, now + request.stands_ms, rights, stimulus.held),
            judged,
            now,
        )
    answer = Send(stimulus.requester, Decline(request.request_id, request.round, judged))
    if request.dry_run:
        return Decision((), (answer,))
    stands = request.stands_ms > 0 and all(clause.passing for clause in judged)
    until = now + request.stands_ms if stands else 0
    kept = rights if until else None
    return Decision((RequestDeclined(stimulus.requester, request, judged, until, kept, stimulus.held),), (answer,))


def _bid(book: OfferBook, standing: StandingRequest, tariff: Price, now: int) -> Decision:
    """Locks as many slots as fit and bids them. For the slots that do not fit, the request stands on."""
    requester, request, stands_until = standing.requester, standing.request, standing.until
    free = room_for(book, request.needs)
    slots = slots_for(request, free)
    number = _next_number(book, request.request_id)
    wall_ms = request.needs.max_wall_ms
    price = max(tariff.cost(slot, wall_ms) for slot in slots)
    is_sealed = request.pricing is Pricing.SECOND_PRICE and not request.dry_run
    if is_sealed:
        slots = slots[:1]
    elif price and requester != book.me:
        slots = slots[: max(1, book.credit_left(requester) // price)]
    valid_ms = book.bid_validity_ms
    id_ = bid_id(request.request_id, book.me, number)
    bid = Bid(
        request_id=request.request_id,
        round=request.round,
        number=number,
        bid_id=id_,
        offer=msgspec.structs.replace(book.capability, resources=free, price=tariff),
        slots=len(slots),
        tariff=tariff,
        price=price,
        valid_until=now + valid_ms,
        valid_ms=valid_ms,
        salt=book.salts.of(requester, id_) if is_sealed else b"",
        held=standing.held,
    )
    if request.dry_run:
        return Decision((), (Send(requester, bid),))
    lock = CapabilityLock(
        bid_id=bid.bid_id,
        request_id=request.request_id,
        requester=requester,
        slots=slots,
        tariff=tariff,
        price=price,
        wall_ms=wall_ms,
        expires_at=_lock_end(bid.valid_until),
        request=request_digest(request.request_id, request.needs),
        valid_until=bid.valid_until,
        most=request.max_price if is_sealed and price else 0,
        lends=gives_way(book, request.needs),
    )
    stands = len(slots) < request.count and stands_until > now
    made = BidMade(bid, lock, request, stands_until, standing.rights) if stands else BidMade(bid, lock)
    told = sealed(bid, book.me, request.max_price) if is_sealed else bid
    return Decision((made,), (Send(requester, told),))


def _lock_end(valid_until: int) -> int:
    until = valid_until + COMMIT_GRACE_MS
    return until + -until % LOCK_STEP_MS


def _next_number(book: OfferBook, request_id: RequestId) -> int:
    """The number of the next bid for a request: its id is not that of any bid that still holds something."""
    number = book.numbers.get(request_id, 0)
    held = {*book.ledger.locks, *(reservation.bid_id for reservation in book.ledger.reservations.values())}
    while bid_id(request_id, book.me, number) in held:  # so old that it is not remembered
        number += 1
    return number


def _release(book: OfferBook, stimulus: ReleaseHeard, now: int) -> Decision:
    release = stimulus.release
    # Also when only a bid was let go: bidding again at once on what was just refused would go round for ever.
    events: list[Event] = [*_withdrawn(book, stimulus.requester, release.request_id)]
    lock = book.ledger.locks.get(release.bid_id)
    if lock is not None and (lock.requester, lock.request_id) == (stimulus.requester, release.request_id):
        events.append(LockReleased(release.bid_id))
    return _with_standing(book, tuple(events), now)


def _withdrawn(book: OfferBook, requester: PeerId, request_id: RequestId) -> tuple[Event, ...]:
    return (RequestWithdrawn(request_id, requester),) if (requester, request_id) in book.standing else ()


def _free(book: OfferBook, stimulus: AllocationOver, now: int) -> Decision:
    if stimulus.allocation_id not in book.ledger.reservations:
        return IGNORED
    return _with_standing(book, (CapacityFreed(stimulus.allocation_id),), now)


def _settle_size(book: OfferBook, stimulus: SizeSettled, now: int) -> Decision:
    events = settled(book, stimulus)
    return _with_standing(book, events, now) if events else IGNORED


def _expire(book: OfferBook, _stimulus: TimeCame, now: int) -> Decision:
    expired = [lock for lock in book.ledger.locks.values() if lock.expires_at <= now]
    # Who neither takes nor releases a bid does not listen: its request stands no longer, or it would be bid on for ever.
    deaf = {(lock.requester, lock.request_id) for lock in expired}
    events: list[Event] = [LockExpired(lock.bid_id) for lock in expired]
    events += [
        RequestWithdrawn(request_id, requester)
        for (requester, request_id), standing in book.standing.items()
        if standing.until <= now or (requester, request_id) in deaf
    ]
    if not events:
        return IGNORED
    return _with_standing(book, tuple(events), now).then(*_blames(book, expired))


def _blames(book: OfferBook, expired: list[CapabilityLock]) -> Iterator[Blame]:
    """Once for all that expired together, since a requester that crashed had several bids open; for each few more, if it is there all the same."""
    for peer, bids in Counter(lock.requester for lock in expired if lock.requester != book.me).items():
        yield Blame(peer, Offence.VANISHED)
        for _ in range(RUN_OUT_TOGETHER, bids, RUN_OUT_TOGETHER):
            yield Blame(peer, Offence.VANISHED, if_here=True)


def _with_standing(book: OfferBook, events: tuple[Event, ...], now: int) -> Decision:
    """Adds to `events` the bids on standing requests that fit after them, in the order of `_turns`."""
    effects: list[Effect] = []
    for event in events:
        book = evolve(book, event)
    if book.phase is not BookPhase.OPEN or not book.standing:
        return Decision(events)
    free = countable(book.free)
    if not any(fits_within(countable(standing.request.needs.resources), free) for standing in book.standing.values()):
        return Decision(events)  # most often: whoever found a place elsewhere is withdrawn, which frees nothing here
    for standing in _turns(book):
        if standing.until <= now or not fits_within(countable(standing.request.needs.resources), free):
            continue  # the cheap question first: with hundreds standing, nearly all stop here
        judged = judge(book, standing.requester, standing.request, Credential(standing.rights))
        if isinstance(judged, Price):
            made = _bid(book, standing, judged, now)
            events, effects = events + made.events, effects + list(made.effects)
            for event in made.events:
                book = evolve(book, event)
            free = countable(book.free)
    return Decision(events, tuple(effects))


def _turns(book: OfferBook) -> list[StandingRequest]:
    """Who has stood longest first, in steps of a second; within a step each node has an order of its own.

    Were the order everywhere the same, all nodes with free capacity would bid on the same request, and all but one in vain.
    Priority is a requester's order among its own requests: they take its turns by it, and nobody else's.
    """

    def turn(standing: StandingRequest) -> tuple[int, int]:
        request = standing.request
        since = standing.until - request.stands_ms
        return since // STANDING_STEP_MS, distance(request.request_id, book.me)

    in_turn = sorted(book.standing.values(), key=turn)
    theirs: dict[PeerId, list[StandingRequest]] = {}
    for standing in in_turn:
        theirs.setdefault(standing.requester, []).append(standing)
    nexts = {peer: iter(sorted(own, key=lambda s: -s.request.priority)) for peer, own in theirs.items()}
    return [next(nexts[standing.requester]) for standing in in_turn]


# ------------------------------------------------------------------------------------------------------------------ table

_ALWAYS: Final[dict[type[Stimulus], Row[OfferBook]]] = {
    CapabilityMeasured: Row(_register, "registered, unless less than what is held; standing requests are judged again"),
    PolicyWished: Row(_change_policy, "holds from the next request on; standing requests are judged again"),
    PressureSeen: Row(_note_pressure, "bids leave it out; when it sinks, standing requests are judged again"),
    OwnerSeen: Row(
        _note_owner,
        "all that runs gives way and nothing is bid on, or it goes on and standing requests are judged again",
    ),
    CreditSeen: Row(_note_credit, "bids to it stay within; standing requests are judged again"),
    CommitHeard: Row(
        take_commit, "the lock becomes reservations; a repeat gets the same answer; anything else is refused by name"
    ),
    ClosingHeard: Row(
        lambda book, stimulus, _now: heed(book, stimulus),
        "a sealed bid that is on the list is opened, and again when asked again; the first list holds",
    ),
    ReleaseHeard: Row(_release, "the lock goes, or the request stands no longer; standing requests are judged again"),
    PeerRenamed: Row(_note_succession, "what the old name has locked or running counts for the new one's credit"),
    ResizeHeard: Row(
        take_resize, "its requester's allocation holds the larger of before and after; refused with every reason"
    ),
    SizeSettled: Row(_settle_size, "it holds what it has now; standing requests are judged again"),
    AllocationOver: Row(_free, "the reservation goes; standing requests are judged again"),
    TimeCame: Row(_expire, "locks and standing requests past their time go"),
    HoldWished: Row(_hold, "capacity is held back for the owner, if it is free"),
    NodeStarted: ignore("it was not stopping"),
    AvailableWished: Row(_set_available, "the rest of what is free is held back for the owner"),
    RequestHeard: Row(_answer, "bid on with a lock, or declined with every reason; once per round"),
}

TABLE: Final[Table[OfferBook]] = {
    **{(BookPhase.OPEN, kind): row for kind, row in _ALWAYS.items()},
    **{(BookPhase.PAUSED, kind): row for kind, row in _ALWAYS.items()},
    **{(BookPhase.STOPPING, kind): row for kind, row in _ALWAYS.items()},
    (BookPhase.STOPPING, CommitHeard): Row(
        take_commit, "refused as stopping; a repeat of what was taken gets the same answer"
    ),
    (BookPhase.OPEN, PauseWished): Row(
        _pause,
        "new requests are declined with the reason; what is committed goes on; stopping, commits are refused too",
    ),
    (BookPhase.PAUSED, PauseWished): Row(
        _resume_work, "requests are bid on again, standing ones first; stopping, commits are refused"
    ),
    (BookPhase.STOPPING, PauseWished): Row(_lift_pause, "resumed, it starts open; it goes on stopping"),
    (BookPhase.STOPPING, NodeStarted): Row(_start_again, "it is as its owner left it, open or paused"),
}
