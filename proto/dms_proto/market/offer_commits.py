"""A commit to a bid of ours: taken, answered again, or refused by name."""

from __future__ import annotations

from typing import NamedTuple

from dms_proto.capability import Price
from dms_proto.grants.access import in_words, refusals
from dms_proto.grants.rights import uses_of
from dms_proto.ids import AllocationId, Digest, allocation_id, bid_id
from dms_proto.machine import (
    Decision,
    Send,
)
from dms_proto.market.agreement import Agreement, limits_of, terms_digest
from dms_proto.market.ledger import CapabilityLock, Reservation
from dms_proto.market.offer_judgement import access_to, task_fits
from dms_proto.market.offer_owner import giving_way
from dms_proto.market.offer_seals import award_flaw
from dms_proto.market.offer_state import (
    BidCommitted,
    BookPhase,
    CommitHeard,
    CommitTurnedDown,
    OfferBook,
    OpenAllocation,
    Taken,
)
from dms_proto.market.second_price import AwardFlaw, paid_tariff
from dms_proto.messages import (
    Award,
    Commit,
    CommitAck,
    CommitRefusal,
    CommitRefused,
)
from dms_proto.work import Task, wants_company


def take_commit(book: OfferBook, stimulus: CommitHeard, _now: int) -> Decision:
    """The lock becomes reservations, and each opens an allocation; a repeat gets the same answer, anything else is refused by name."""
    commit, requester = stimulus.commit, stimulus.requester
    earlier = book.committed.get(commit.bid_id)
    if earlier == Taken(requester, commit.slots, commit.terms, _allocations_of(commit)):
        return Decision((), (Send(requester, _ack(book, commit)),))
    lock = book.ledger.locks.get(commit.bid_id)
    if lock is None:
        return _turned_down(stimulus, _Refused(_refusal_of_the_gone(book, commit)))
    refused = _refusal(book, stimulus, lock)
    if refused is not None:
        return _turned_down(stimulus, refused)
    tariff, price = _prices(lock, commit.award)
    reservations = tuple(
        Reservation(
            allocation_id(commit.bid_id, slot),
            commit.bid_id,
            lock.request_id,
            requester,
            slot,
            resources,
            tariff,
            price,
            lock.wall_ms,
            lock.lends,
        )
        for slot, resources in zip(commit.slots, lock.slots, strict=False)
    )
    tasks: tuple[Task | None, ...] = commit.invocations or (None,) * len(reservations)
    return Decision(
        (BidCommitted(commit.bid_id, requester, reservations, commit.terms),),
        (
            Send(requester, _ack(book, commit)),
            *(OpenAllocation(reservation, task) for reservation, task in zip(reservations, tasks, strict=True)),
            *giving_way(book, _allocations_of(commit)),
        ),
    )


def _allocations_of(commit: Commit) -> tuple[AllocationId, ...]:
    return tuple(allocation_id(commit.bid_id, slot) for slot in commit.slots)


def _ack(book: OfferBook, commit: Commit) -> CommitAck:
    """Says yes to the very terms of the commit."""
    return CommitAck(
        commit.request_id, commit.bid_id, _allocations_of(commit), book.invoke_within_ms, terms=commit.terms
    )


def _prices(lock: CapabilityLock, award: Award | None) -> tuple[Price, int]:
    """The tariff that applies and what a slot costs at most: those of the bid, or what it is awarded."""
    price = award.price if award is not None else lock.price
    return paid_tariff(lock.tariff, lock.price, price), price


def _terms(book: OfferBook, lock: CapabilityLock, commit: Commit) -> Digest:
    """What this node agrees on when a bid is taken, by what it wrote down itself."""
    tariff, price = _prices(lock, commit.award)
    agreement = Agreement(
        request_id=lock.request_id,
        request=lock.request,
        bid_id=lock.bid_id,
        provider=book.me,
        requester=lock.requester,
        slots=commit.slots,
        tariff=tariff,
        price=price,
        limits=limits_of(lock.slots[0]),
        wall_ms=lock.wall_ms,
        valid_until=lock.valid_until,
    )
    return terms_digest(agreement)


class _Refused(NamedTuple):
    """Why a bid of ours is not taken; `detail` is for a person."""

    refusal: CommitRefusal
    detail: str = ""


def _turned_down(stimulus: CommitHeard, refused: _Refused) -> Decision:
    commit, requester = stimulus.commit, stimulus.requester
    answer = Send(requester, CommitRefused(commit.request_id, commit.bid_id, refused.refusal, refused.detail))
    if refused.refusal is CommitRefusal.UNKNOWN_BID or not stimulus.may_write:
        return Decision((), (answer,))  # the first tells nothing of our bids, and anyone may invent one
    return Decision((CommitTurnedDown(commit.bid_id, requester, refused.refusal),), (answer,))


def _refusal(book: OfferBook, stimulus: CommitHeard, lock: CapabilityLock) -> _Refused | None:
    """Why a bid that is still locked is not taken, if anything is in the way."""
    commit = stimulus.commit
    return _not_for_it(stimulus, lock) or _on_other_terms(book, commit, lock) or _not_served(book, stimulus, lock)


def _not_for_it(stimulus: CommitHeard, lock: CapabilityLock) -> _Refused | None:
    commit = stimulus.commit
    if lock.requester != stimulus.requester or lock.request_id != commit.request_id:
        return _Refused(CommitRefusal.NOT_YOURS)
    return _Refused(CommitRefusal.TOO_MANY_SLOTS) if len(commit.slots) > len(lock.slots) else None


def _on_other_terms(book: OfferBook, commit: Commit, lock: CapabilityLock) -> _Refused | None:
    flaw = award_flaw(book, lock, commit.award)
    if flaw is AwardFlaw.NOT_CLOSED:
        return _Refused(CommitRefusal.NOT_CLOSED)
    if flaw is not None:
        return _Refused(CommitRefusal.PRICE_UNPROVEN, str(flaw))
    if commit.terms != _terms(book, lock, commit):
        return _Refused(CommitRefusal.TERMS_DIFFER)
    alone = (book.policy.alone.get(task.executor) for task in commit.invocations if wants_company(task))
    if why := next(filter(None, alone), None):
        return _Refused(CommitRefusal.NEEDS_CHANGED, why)
    fits = all(task_fits(task, lock.slots[0], lock.wall_ms) for task in commit.invocations)
    return None if fits else _Refused(CommitRefusal.NEEDS_CHANGED)


def _not_served(book: OfferBook, stimulus: CommitHeard, lock: CapabilityLock) -> _Refused | None:
    if book.phase is BookPhase.STOPPING:
        return _Refused(CommitRefusal.STOPPING)
    missing = _missing_right(book, stimulus, lock)
    return _Refused(CommitRefusal.NOT_GRANTED, missing) if missing else None


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
    return next((in_words(clause) for clause in clauses), "")
