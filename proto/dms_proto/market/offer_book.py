"""The provider's side of the market: hear requests, lock capacity and bid, or say why not; turn commits into allocations.

State     what is registered, the ledger, which requests stand, which bids were committed, how many bids each request had.
Stimuli   a request, commit or release heard; an allocation's end; the owner's wishes; what other programs use; the time.
Effects   the answer; `OpenAllocation` for each committed slot.

A request is answered once per round, however often it is heard (gossip and an open stream both bring it). A request declined only because
capacity is not free *now* stands: whenever capacity frees it is judged again, highest priority first, and bid on if it fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from dms_proto.capability import NOTHING, Capability, Gpu, Price, Resources
from dms_proto.grants.access import NOTHING_SHOWN, Access, Credential, refusals
from dms_proto.grants.rights import Rights, uses_of
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId, allocation_id, bid_id
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
    Transient,
    earliest,
)
from dms_proto.market.agreement import Agreement, limits_of, request_digest, terms_digest
from dms_proto.market.arithmetic import clamp_subtract, fits_within, subtract
from dms_proto.market.comparator import CapabilityComparator, assign_gpus
from dms_proto.market.comparators import judge_by
from dms_proto.market.ledger import CapabilityLock, Ledger, Reservation, remember, without
from dms_proto.market.preferences import ProviderPolicy, RequesterFacts, judge_request
from dms_proto.market.reach import distance
from dms_proto.messages import (
    Bid,
    BidRequest,
    Clause,
    Commit,
    CommitAck,
    CommitRefusal,
    CommitRefused,
    Decline,
    Release,
)
from dms_proto.units import format_bytes, format_cores, format_credits
from dms_proto.wire.scores import Offence
from dms_proto.work import Task

COMMIT_GRACE_MS: Final = 1_000
"""A lock outlives its bid by this much: a commit sent within validity may still be on its way."""
MAX_SLOTS: Final = 64
"""Slots offered in one bid: bounds the size of a lock."""
MAX_OPEN_BIDS_EACH: Final = 256
"""Bids of ours that one requester may have open; past it, it is declined until it takes or releases some."""
MAX_OPEN_BIDS: Final = 1_024
"""Bids open at once. Bounds the ledger's locks where the capacity would admit thousands of small ones."""
MAX_STANDING: Final = 256
"""Requests that stand at once; of the requester with the most, the one that ends first makes room. Bounds what strangers can make us remember."""
STANDING_STEP_MS: Final = 1_000
MAX_REMEMBERED: Final = 4_096
"""Committed bids and bid counts kept for repeats; the oldest go first."""
MAX_CLAUSES: Final = 32
MAX_LINE: Final = 500
"""Characters of a `rules.Line`."""
OWNER_HOLD: Final = BidId("owner")
"""Name of the lock by which the owner holds back what is not to be available."""
FOREVER: Final = 2**53
NO_LIMIT: Final = 2**53
COMPARATOR: Final = CapabilityComparator()


class BookPhase(StrEnum):
    """Whether the node takes new work."""

    OPEN = "open"
    PAUSED = "paused"
    """The owner wants the machine to itself: nothing new, what runs goes on."""
    STOPPING = "stopping"
    """The node ends: nothing new, and no commit either; what runs has what is left of the grace."""


# ---------------------------------------------------------------------------------------------------------------- stimuli


class CapabilityMeasured(Stimulus, frozen=True):
    """The capability to register: measured, reduced by what the owner keeps."""

    capability: Capability


class PolicyWished(Stimulus, frozen=True):
    """The owner's conditions and prices."""

    policy: ProviderPolicy


class PressureSeen(Stimulus, frozen=True):
    """What other programs on this machine use beyond what was allowed for at registration."""

    pressure: Resources


class PauseWished(Stimulus, frozen=True):
    """The owner pauses (or resumes) taking work. `stopping`: the node ends; unpaused, it is as the owner left it before."""

    paused: bool
    because: str = ""
    stopping: bool = False


class HoldWished(Stimulus, frozen=True):
    """The owner holds capacity back under a name (`OWNER_HOLD` …), until `until` (Unix ms; 0: for good). Nothing: lets it go."""

    name: BidId
    resources: Resources
    until: int = 0


class AvailableWished(Stimulus, frozen=True):
    """The owner wants exactly this much available now; the rest of what is free is held back under `OWNER_HOLD`."""

    resources: Resources


class CreditSeen(Stimulus, frozen=True):
    """What a peer may still come to owe, by the accounts."""

    peer: PeerId
    credit: int


class RequestHeard(Stimulus, frozen=True):
    """A bid request from `requester` (proven by its signature), and the rights it has shown.

    `is_written`: a decline of it is written down; not for who asks without end.
    """

    requester: PeerId
    request: BidRequest
    credential: Credential = NOTHING_SHOWN
    is_written: bool = True


class CommitHeard(Stimulus, frozen=True):
    """A commit from `requester`, and the rights it has shown."""

    requester: PeerId
    commit: Commit
    credential: Credential = NOTHING_SHOWN


class ReleaseHeard(Stimulus, frozen=True):
    """A release from `requester`."""

    requester: PeerId
    release: Release


class AllocationOver(Stimulus, frozen=True):
    """An allocation ended; its capacity is free."""

    allocation_id: AllocationId


# ----------------------------------------------------------------------------------------------------------------- events


class CapabilityRegistered(Event, frozen=True):
    """This is what the node offers from now on."""

    capability: Capability


class PolicyChanged(Event, frozen=True):
    """These are the owner's conditions from now on."""

    policy: ProviderPolicy


class PressureChanged(Event, frozen=True):
    """Other programs use this much; bids leave it out."""

    pressure: Resources


class CreditChanged(Transient, frozen=True):
    """A peer may still come to owe this much. Not stored: the accounts say it again after a restart."""

    peer: PeerId
    credit: int


class WorkPaused(Event, frozen=True):
    """The node takes no new work; `stopping`: nor does it take commits to bids it made."""

    because: str
    stopping: bool = False


class WorkResumed(Event, frozen=True):
    """The node takes work again."""


class BidMade(Event, frozen=True):
    """A bid was made and its capacity locked. Of a bid for a part, `stands` is the request that still stands for the rest."""

    bid: Bid
    lock: CapabilityLock
    stands: BidRequest | None = None
    stands_until: int = 0
    rights: Rights | None = None


class RequestDeclined(Event, frozen=True):
    """A request was declined, with every reason. It stands until `stands_until` (0: it does not stand), with the rights that were shown."""

    requester: PeerId
    request: BidRequest
    clauses: tuple[Clause, ...]
    stands_until: int = 0
    rights: Rights | None = None


class RequestTurnedAway(Transient, frozen=True):
    """As `RequestDeclined`, of a requester that asks more than is written down."""

    requester: PeerId
    request: BidRequest
    stands_until: int = 0
    rights: Rights | None = None


class RequestWithdrawn(Event, frozen=True):
    """A standing request is over: its requester said so, or its time ran out."""

    request_id: RequestId
    requester: PeerId


class CapacityHeld(Event, frozen=True):
    """The owner holds capacity back: a lock without a bid."""

    lock: CapabilityLock


class LockReleased(Event, frozen=True):
    """A bid was not needed; its lock is gone."""

    bid_id: BidId


class LockExpired(Event, frozen=True):
    """A bid was not taken in time; its lock is gone."""

    bid_id: BidId


class BidCommitted(Event, frozen=True):
    """A bid was taken: its lock became these reservations. `terms`: what was agreed, as both sides have signed it."""

    bid_id: BidId
    requester: PeerId
    reservations: tuple[Reservation, ...]
    terms: Digest = Digest("")


class CommitTurnedDown(Event, frozen=True):
    """A commit was refused."""

    bid_id: BidId
    requester: PeerId
    refusal: CommitRefusal


class CapacityFreed(Event, frozen=True):
    """An allocation's reservation is gone."""

    allocation_id: AllocationId


# ---------------------------------------------------------------------------------------------------------------- effects


class OpenAllocation(Effect, frozen=True):
    """Start the actor of a committed allocation, with its work if the commit carried it."""

    reservation: Reservation
    task: Task | None


# ------------------------------------------------------------------------------------------------------------------ state


class Taken(msgspec.Struct, frozen=True):
    """A bid that was committed: by whom, for what, under which terms."""

    requester: PeerId
    slots: tuple[int, ...]
    terms: Digest
    allocation_ids: tuple[AllocationId, ...]


class Standing(msgspec.Struct, frozen=True):
    """A request that was declined for now, and the rights its requester has shown for it."""

    requester: PeerId
    request: BidRequest
    until: int
    rights: Rights | None = None


Asking: TypeAlias = tuple[PeerId, RequestId]
"""A request and who made it: request ids are drawn by requesters, and a stranger may draw that of somebody else."""


class OfferBook(msgspec.Struct, frozen=True):
    """The provider's state.

    Attributes:
        me: this node.
        bid_validity_ms: how long a bid binds.
        invoke_within_ms: how long a committed allocation waits for its invocation.
        capability: as registered; its resources are the ledger's `registered`.
        pressure: what other programs use beyond the allowance.
        default_credit: what a peer may come to owe of whom the accounts say nothing else.
        credit: what each peer may still come to owe beside what is at stake here.
        standing: requests declined for now.
        rounds: the last round answered.
        numbers: how many bids were made, by request.
        committed: bids taken lately, with what became of them, so that a repeated commit gets the same answer.
    """

    me: PeerId
    bid_validity_ms: int = 10_000
    invoke_within_ms: int = 10_000
    phase: BookPhase = BookPhase.OPEN
    paused_because: str = ""
    capability: Capability = Capability()
    policy: ProviderPolicy = ProviderPolicy()
    ledger: Ledger = Ledger()
    pressure: Resources = NOTHING
    default_credit: int = NO_LIMIT
    credit: Mapping[PeerId, int] = {}
    standing: Mapping[Asking, Standing] = {}
    rounds: Mapping[Asking, int] = {}
    numbers: Mapping[RequestId, int] = {}
    committed: Mapping[BidId, Taken] = {}

    @property
    def free(self) -> Resources:
        """What can be offered now: available, less what other programs use."""
        return clamp_subtract(self.ledger.available, self.pressure)

    def credit_of(self, peer: PeerId) -> int:
        """What a peer may still come to owe, in micro-credits."""
        return self.credit.get(peer, self.default_credit)

    def credit_left(self, peer: PeerId) -> int:
        """The same, less what it will owe if everything it holds here runs to its limit."""
        locked = sum(lock.price * len(lock.slots) for lock in self.ledger.locks.values() if lock.requester == peer)
        running = sum(r.price for r in self.ledger.reservations.values() if r.requester == peer)
        return self.credit_of(peer) - locked - running


def next_deadline(book: OfferBook) -> int | None:
    """When the first lock or standing request ends."""
    return earliest(
        min((lock.expires_at for lock in book.ledger.locks.values()), default=None),
        min((standing.until for standing in book.standing.values()), default=None),
    )


def resume(_book: OfferBook) -> tuple[Effect, ...]:
    """Nothing: an answer that was lost with the process is asked for again by its requester."""
    return ()


# ----------------------------------------------------------------------------------------------------------------- decide


def decide(book: OfferBook, stimulus: Stimulus, now: int) -> Decision:
    """What the provider does about `stimulus` at `now` (Unix ms)."""
    return TABLE[book.phase, type(stimulus)].handler(book, stimulus, now)


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


def _note_credit(book: OfferBook, stimulus: CreditSeen, now: int) -> Decision:
    before, changed = book.credit_of(stimulus.peer), CreditChanged(stimulus.peer, stimulus.credit)
    if stimulus.credit == before:
        return IGNORED
    return _with_standing(book, (changed,), now) if stimulus.credit > before else Decision((changed,))


def _pause(_book: OfferBook, stimulus: PauseWished, _now: int) -> Decision:
    return Decision((WorkPaused(stimulus.because, stimulus.stopping),)) if stimulus.paused else IGNORED


def _resume_work(book: OfferBook, stimulus: PauseWished, now: int) -> Decision:
    if stimulus.stopping:
        return _pause(book, stimulus, now)
    return IGNORED if stimulus.paused else _with_standing(book, (WorkResumed(),), now)


def _start_again(book: OfferBook, stimulus: PauseWished, now: int) -> Decision:
    if stimulus.paused:
        return IGNORED
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
    if isinstance(judged, Price):
        return _bid(book, Standing(stimulus.requester, request, now + request.stands_ms, rights), judged, now)
    answer = Send(stimulus.requester, Decline(request.request_id, request.round, judged))
    if request.dry_run:
        return Decision((), (answer,))
    stands = request.stands_ms > 0 and all(clause.passing for clause in judged)
    until = now + request.stands_ms if stands else 0
    kept = rights if until else None
    if not stimulus.is_written:
        return Decision((RequestTurnedAway(stimulus.requester, request, until, kept),), (answer,))
    return Decision((RequestDeclined(stimulus.requester, request, judged, until, kept),), (answer,))


def _bid(book: OfferBook, standing: Standing, tariff: Price, now: int) -> Decision:
    """Locks as many slots as fit and bids them. For the slots that do not fit, the request stands on."""
    requester, request, stands_until = standing.requester, standing.request, standing.until
    slots = slots_for(request, book.free)
    number = _next_number(book, request.request_id)
    wall_ms = request.needs.max_wall_ms
    price = max(tariff.cost(slot, wall_ms) for slot in slots)
    if price and requester != book.me:
        slots = slots[: max(1, book.credit_left(requester) // price)]
    valid_ms = book.bid_validity_ms
    bid = Bid(
        request_id=request.request_id,
        round=request.round,
        number=number,
        bid_id=bid_id(request.request_id, book.me, number),
        offer=msgspec.structs.replace(book.capability, resources=book.free, price=tariff),
        slots=len(slots),
        tariff=tariff,
        price=price,
        valid_until=now + valid_ms,
        valid_ms=valid_ms,
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
        expires_at=bid.valid_until + COMMIT_GRACE_MS,
        request=request_digest(request.request_id, request.needs),
        valid_until=bid.valid_until,
    )
    stands = len(slots) < request.count and stands_until > now
    made = BidMade(bid, lock, request, stands_until, standing.rights) if stands else BidMade(bid, lock)
    return Decision((made,), (Send(requester, bid),))


def _next_number(book: OfferBook, request_id: RequestId) -> int:
    """The number of the next bid for a request: its id is not that of any bid that still holds something."""
    number = book.numbers.get(request_id, 0)
    held = {*book.ledger.locks, *(reservation.bid_id for reservation in book.ledger.reservations.values())}
    while bid_id(request_id, book.me, number) in held:  # so old that it is not remembered
        number += 1
    return number


def _commit(book: OfferBook, stimulus: CommitHeard, _now: int) -> Decision:
    commit, requester = stimulus.commit, stimulus.requester
    earlier = book.committed.get(commit.bid_id)
    if earlier == Taken(requester, commit.slots, commit.terms, _allocations_of(commit)):
        return Decision((), (Send(requester, _ack(book, commit)),))
    lock = book.ledger.locks.get(commit.bid_id)
    refusal = _refusal(book, commit, requester, lock)
    if refusal is None and book.phase is BookPhase.STOPPING:
        refusal = CommitRefusal.STOPPING
    missing = "" if refusal is not None or lock is None else _missing_right(book, stimulus, lock)
    if missing:
        refusal = CommitRefusal.NOT_GRANTED
    if refusal is not None or lock is None:
        refusal = refusal or CommitRefusal.UNKNOWN_BID
        answer = Send(requester, CommitRefused(commit.request_id, commit.bid_id, refusal, missing))
        if refusal is CommitRefusal.UNKNOWN_BID:
            return Decision((), (answer,))  # it tells nothing of our bids, and anyone may invent one
        return Decision((CommitTurnedDown(commit.bid_id, requester, refusal),), (answer,))
    reservations = tuple(
        Reservation(
            allocation_id(commit.bid_id, slot),
            commit.bid_id,
            lock.request_id,
            requester,
            slot,
            resources,
            lock.tariff,
            lock.price,
            lock.wall_ms,
        )
        for slot, resources in zip(commit.slots, lock.slots, strict=False)
    )
    tasks: tuple[Task | None, ...] = commit.invocations or (None,) * len(reservations)
    return Decision(
        (BidCommitted(commit.bid_id, requester, reservations, commit.terms),),
        (
            Send(requester, _ack(book, commit)),
            *(OpenAllocation(reservation, task) for reservation, task in zip(reservations, tasks, strict=True)),
        ),
    )


def _allocations_of(commit: Commit) -> tuple[AllocationId, ...]:
    return tuple(allocation_id(commit.bid_id, slot) for slot in commit.slots)


def _ack(book: OfferBook, commit: Commit) -> CommitAck:
    """Says yes to the very terms of the commit."""
    return CommitAck(
        commit.request_id, commit.bid_id, _allocations_of(commit), book.invoke_within_ms, terms=commit.terms
    )


def _terms(book: OfferBook, lock: CapabilityLock, slots: tuple[int, ...]) -> Digest:
    """What this node agrees on when a bid is taken for `slots`, by what it wrote down itself."""
    agreement = Agreement(
        request_id=lock.request_id,
        request=lock.request,
        bid_id=lock.bid_id,
        provider=book.me,
        requester=lock.requester,
        slots=slots,
        tariff=lock.tariff,
        price=lock.price,
        limits=limits_of(lock.slots[0]),
        wall_ms=lock.wall_ms,
        valid_until=lock.valid_until,
    )
    return terms_digest(agreement)


def _refusal(book: OfferBook, commit: Commit, requester: PeerId, lock: CapabilityLock | None) -> CommitRefusal | None:
    if lock is None:
        return _refusal_of_the_gone(book, commit)
    if lock.requester != requester or lock.request_id != commit.request_id:
        return CommitRefusal.NOT_YOURS
    if len(commit.slots) > len(lock.slots):
        return CommitRefusal.TOO_MANY_SLOTS
    if commit.terms != _terms(book, lock, commit.slots):
        return CommitRefusal.TERMS_DIFFER
    if any(not task_fits(task, lock.slots[0], lock.wall_ms) for task in commit.invocations):
        return CommitRefusal.NEEDS_CHANGED
    return None


def _refusal_of_the_gone(book: OfferBook, commit: Commit) -> CommitRefusal:
    """Nothing is locked for it: it was taken before, came too late, or never was."""
    if commit.bid_id in book.committed:
        return CommitRefusal.ALREADY_COMMITTED
    made = book.numbers.get(commit.request_id, 0)
    ours = (bid_id(commit.request_id, book.me, number) for number in range(max(0, made - 8), made))
    return CommitRefusal.EXPIRED if commit.bid_id in ours else CommitRefusal.UNKNOWN_BID


def _missing_right(book: OfferBook, stimulus: CommitHeard, lock: CapabilityLock) -> str:
    """The first right that is missing for a commit, for a person; empty when none is."""
    access = access_to(book, stimulus.requester, lock.slots[0])
    clauses = refusals(access, uses_of(stimulus.commit), stimulus.credential)
    return next((f"wanted {c.wanted}, there {c.observed}; would take {c.nearest}"[:MAX_LINE] for c in clauses), "")


def _release(book: OfferBook, stimulus: ReleaseHeard, now: int) -> Decision:
    release = stimulus.release
    events: list[Event] = []
    if (stimulus.requester, release.request_id) in book.standing:
        # Also when only a bid was let go: bidding again at once on what was just refused would go round for ever.
        events.append(RequestWithdrawn(release.request_id, stimulus.requester))
    lock = book.ledger.locks.get(release.bid_id)
    if lock is not None and (lock.requester, lock.request_id) == (stimulus.requester, release.request_id):
        events.append(LockReleased(release.bid_id))
    return _with_standing(book, tuple(events), now)


def _free(book: OfferBook, stimulus: AllocationOver, now: int) -> Decision:
    if stimulus.allocation_id not in book.ledger.reservations:
        return IGNORED
    return _with_standing(book, (CapacityFreed(stimulus.allocation_id),), now)


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
    # Once for all that expired together: a requester that crashed had several bids open.
    vanished = dict.fromkeys(lock.requester for lock in expired if lock.requester != book.me)
    return _with_standing(book, tuple(events), now).then(*(Blame(peer, Offence.VANISHED) for peer in vanished))


def _with_standing(book: OfferBook, events: tuple[Event, ...], now: int) -> Decision:
    """Adds to `events` the bids on standing requests that fit after them, in the order of `_turns`."""
    effects: list[Effect] = []
    for event in events:
        book = evolve(book, event)
    if book.phase is not BookPhase.OPEN or not book.standing:
        return Decision(events)
    free = countable(book.free)
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


def _turns(book: OfferBook) -> list[Standing]:
    """Who has stood longest first, in steps of a second; within a step each node has an order of its own.

    Were the order everywhere the same, all nodes with free capacity would bid on the same request, and all but one in vain.
    Priority is a requester's order among its own requests: they take its turns by it, and nobody else's.
    """

    def turn(standing: Standing) -> tuple[int, int]:
        request = standing.request
        since = standing.until - request.stands_ms
        return since // STANDING_STEP_MS, distance(request.request_id, book.me)

    in_turn = sorted(book.standing.values(), key=turn)
    theirs: dict[PeerId, list[Standing]] = {}
    for standing in in_turn:
        theirs.setdefault(standing.requester, []).append(standing)
    nexts = {peer: iter(sorted(own, key=lambda s: -s.request.priority)) for peer, own in theirs.items()}
    return [next(nexts[standing.requester]) for standing in in_turn]


def countable(resources: Resources) -> Resources:
    """What can be compared without matching devices."""
    return Resources(resources.cpu_millicores, resources.memory_bytes, resources.disk_bytes)


# ---------------------------------------------------------------------------------------------------------------- judging


def is_known(book: OfferBook, peer: PeerId) -> bool:
    """Whether a peer is this node, or one that its owner lists: a machine of the same owner, without any grant."""
    return peer == book.me or peer in book.policy.own_peers


def access_to(book: OfferBook, peer: PeerId, resources: Resources) -> Access:
    """What a peer has to show for these resources: nothing, where its owner is this node's."""
    return Access.PUBLIC if is_known(book, peer) else book.policy.access_to(resources)


def judge(
    book: OfferBook, requester: PeerId, request: BidRequest, credential: Credential = NOTHING_SHOWN
) -> Price | tuple[Clause, ...]:
    """The tariff at which this node would do it now, or every reason why not. The same for bids, dry runs and explanations."""
    offered = msgspec.structs.replace(book.capability, resources=book.free)
    comparison = COMPARATOR.compare(request.needs, offered, total=book.capability.resources)
    facts = RequesterFacts(requester, own=is_known(book, requester) or credential.own)
    terms = judge_request(book.policy, request, facts, in_use(book.ledger.registered, offered.resources))
    access = access_to(book, requester, request.needs.resources)
    clauses = () if access is Access.PUBLIC else tuple(refusals(access, uses_of(request), credential))
    clauses += tuple(_with_pressure(book, v.clause) for v in comparison.dimensions if v.clause is not None)
    if book.policy.comparator:
        total, name = book.capability.resources, book.policy.comparator
        clauses += judge_by(name, request.needs, offered, total, request.max_price)
    if book.phase is BookPhase.PAUSED:
        clauses += (Clause("accepts_work", "a node that takes work", f"paused: {book.paused_because}", passing=True),)
    if book.phase is BookPhase.STOPPING:
        clauses += (Clause("accepts_work", "a node that takes work", "the node is stopping", passing=True),)
    if isinstance(terms, tuple):
        clauses += terms
    elif requester != book.me:
        clauses += _credit_clauses(book, requester, terms.cost(request.needs.resources, request.needs.max_wall_ms))
    clauses += _open_bids(book, requester)
    if not clauses and not isinstance(terms, tuple):
        return terms
    return clauses[:MAX_CLAUSES]


def in_use(registered: Resources, free: Resources) -> int:
    """How much of a machine is in use, in thousandths: of the resource that is scarcest."""
    pairs = (
        (registered.cpu_millicores, free.cpu_millicores),
        (registered.memory_bytes, free.memory_bytes),
        (sum(gpu.milli for gpu in registered.gpus), sum(gpu.milli for gpu in free.gpus)),
    )
    return max((1000 * (whole - rest) // whole for whole, rest in pairs if whole), default=0)


def _credit_clauses(book: OfferBook, requester: PeerId, price: int) -> tuple[Clause, ...]:
    """Why a requester would come to owe too much. What it has running here may yet end cheaper than it could."""
    left = book.credit_left(requester) if price else 0
    if price <= left:
        return ()
    observed = f"{format_credits(max(0, left))} of credit left here: its owner has to pay this node's, or be given a higher limit"
    return (Clause("credit", format_credits(price), observed, passing=price <= book.credit_of(requester)),)


def _open_bids(book: OfferBook, requester: PeerId) -> tuple[Clause, ...]:
    """Nothing, or that as many bids as may be are open: with this requester, or in all."""
    locks = book.ledger.locks
    if len(locks) < MAX_OPEN_BIDS_EACH:
        return ()
    if len(locks) >= MAX_OPEN_BIDS:
        return (Clause("open_bids", f"fewer than {MAX_OPEN_BIDS} bids open", f"{len(locks)} open", passing=True),)
    theirs = sum(lock.requester == requester for lock in locks.values())
    if theirs < MAX_OPEN_BIDS_EACH:
        return ()
    wanted = f"fewer than {MAX_OPEN_BIDS_EACH} bids open with one requester"
    return (Clause("open_bids", wanted, f"{theirs} open", "take or release some", passing=True),)


def _with_pressure(book: OfferBook, clause: Clause) -> Clause:
    """Says so when it is other programs, not our own promises, that stand in the way."""
    used = {
        "cpu": (book.pressure.cpu_millicores, format_cores),
        "memory": (book.pressure.memory_bytes, format_bytes),
        "disk": (book.pressure.disk_bytes, format_bytes),
    }.get(clause.dimension)
    if used is None or used[0] == 0 or not clause.passing:
        return clause
    observed = f"{clause.observed}; other programs use {used[1](used[0])}"
    return msgspec.structs.replace(clause, observed=observed)


def slots_for(request: BidRequest, free: Resources) -> tuple[Resources, ...]:
    """As many of the wanted allocations as fit into `free`, each with its GPUs named."""
    slots: list[Resources] = []
    need = request.needs.resources
    while len(slots) < min(request.count, MAX_SLOTS):
        gpus: tuple[Gpu, ...] | None = assign_gpus(need.gpus, free.gpus)
        if gpus is None:
            break
        slot = msgspec.structs.replace(need, gpus=gpus)
        if not fits_within(slot, free):
            break
        slots.append(slot)
        free = subtract(free, slot)
    return tuple(slots)


def task_fits(task: Task, slot: Resources, wall_ms: int) -> bool:
    """Whether a task asks for no more than was locked for it. GPUs are the slot's, whatever the task says of them."""
    asked = msgspec.structs.replace(task.resources, gpus=())
    return (
        fits_within(asked, msgspec.structs.replace(slot, gpus=()))
        and len(task.resources.gpus) <= len(slot.gpus)
        and task.limits.wall_ms <= wall_ms
    )


# ----------------------------------------------------------------------------------------------------------------- evolve


def evolve(book: OfferBook, event: Event) -> OfferBook:  # noqa: C901, PLR0911, PLR0912 - one line per event kind
    """The state after `event`."""
    change = msgspec.structs.replace
    match event:
        case CapabilityRegistered(capability=capability):
            return change(book, capability=capability, ledger=book.ledger.register(capability.resources))
        case PolicyChanged(policy=policy):
            return change(book, policy=policy)
        case PressureChanged(pressure=pressure):
            return change(book, pressure=pressure)
        case CreditChanged(peer=peer, credit=credit):
            return change(book, credit={**book.credit, peer: credit})
        case WorkPaused(stopping=True):
            return change(book, phase=BookPhase.STOPPING)  # `paused_because` stays: so the owner left it
        case WorkPaused(because=because):
            return change(book, phase=BookPhase.PAUSED, paused_because=because)
        case WorkResumed():
            return change(book, phase=BookPhase.OPEN, paused_because="")
        case BidMade(bid=bid, lock=lock, stands=request, stands_until=until, rights=rights):
            asking = (lock.requester, bid.request_id)
            standing = without(book.standing, asking)
            if request is not None:
                standing[asking] = Standing(lock.requester, request, until, rights)
            return change(
                book,
                ledger=book.ledger.lock(lock),
                standing=_bounded(standing),
                rounds=remember(book.rounds, asking, max(bid.round, book.rounds.get(asking, 0)), MAX_REMEMBERED),
                numbers=remember(book.numbers, bid.request_id, bid.number + 1, MAX_REMEMBERED),
            )
        case (
            RequestDeclined(requester=requester, request=request, stands_until=until, rights=rights)
            | RequestTurnedAway(requester=requester, request=request, stands_until=until, rights=rights)
        ):
            asking = (requester, request.request_id)
            standing = without(book.standing, asking)
            if until:
                standing[asking] = Standing(requester, request, until, rights)
            return change(
                book,
                standing=_bounded(standing),
                rounds=remember(book.rounds, asking, request.round, MAX_REMEMBERED),
            )
        case RequestWithdrawn(request_id=request_id, requester=requester):
            return change(book, standing=without(book.standing, (requester, request_id)))
        case CapacityHeld(lock=lock):
            return change(book, ledger=book.ledger.lock(lock))
        case LockReleased(bid_id=bid) | LockExpired(bid_id=bid):
            return change(book, ledger=book.ledger.unlock(bid))
        case BidCommitted(bid_id=bid, requester=requester, reservations=reservations, terms=terms):
            ids = tuple(reservation.allocation_id for reservation in reservations)
            slots = tuple(reservation.slot for reservation in reservations)
            return change(
                book,
                ledger=book.ledger.commit(bid, reservations),
                committed=remember(book.committed, bid, Taken(requester, slots, terms, ids), MAX_REMEMBERED),
            )
        case CapacityFreed(allocation_id=allocation):
            return change(book, ledger=book.ledger.free(allocation))
        case _:
            return book


def _bounded(standing: dict[Asking, Standing]) -> dict[Asking, Standing]:
    if len(standing) > MAX_STANDING:
        most = Counter(one.requester for one in standing.values()).most_common(1)[0][0]
        del standing[min((k for k, one in standing.items() if one.requester == most), key=lambda k: standing[k].until)]
    return standing


# ------------------------------------------------------------------------------------------------------------------ table

_ALWAYS: Final[dict[type[Stimulus], Row[OfferBook]]] = {
    CapabilityMeasured: Row(_register, "registered, unless less than what is held; standing requests are judged again"),
    PolicyWished: Row(_change_policy, "holds from the next request on; standing requests are judged again"),
    PressureSeen: Row(_note_pressure, "bids leave it out; when it sinks, standing requests are judged again"),
    CreditSeen: Row(_note_credit, "bids to it stay within; standing requests are judged again"),
    CommitHeard: Row(
        _commit, "the lock becomes reservations; a repeat gets the same answer; anything else is refused by name"
    ),
    ReleaseHeard: Row(_release, "the lock goes, or the request stands no longer; standing requests are judged again"),
    AllocationOver: Row(_free, "the reservation goes; standing requests are judged again"),
    TimeCame: Row(_expire, "locks and standing requests past their time go"),
    HoldWished: Row(_hold, "capacity is held back for the owner, if it is free"),
    AvailableWished: Row(_set_available, "the rest of what is free is held back for the owner"),
    RequestHeard: Row(_answer, "bid on with a lock, or declined with every reason; once per round"),
}

TABLE: Final[Table[OfferBook]] = {
    **{(BookPhase.OPEN, kind): row for kind, row in _ALWAYS.items()},
    **{(BookPhase.PAUSED, kind): row for kind, row in _ALWAYS.items()},
    **{(BookPhase.STOPPING, kind): row for kind, row in _ALWAYS.items()},
    (BookPhase.STOPPING, CommitHeard): Row(
        _commit, "refused as stopping; a repeat of what was taken gets the same answer"
    ),
    (BookPhase.OPEN, PauseWished): Row(
        _pause,
        "new requests are declined with the reason; what is committed goes on; stopping, commits are refused too",
    ),
    (BookPhase.PAUSED, PauseWished): Row(
        _resume_work, "requests are bid on again, standing ones first; stopping, commits are refused"
    ),
    (BookPhase.STOPPING, PauseWished): Row(
        _start_again, "the node has started again: as its owner left it, open or paused"
    ),
}
