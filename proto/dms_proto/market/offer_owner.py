"""The owner comes first: while the machine is the owner's, nothing new is bid on, and what runs gives way.

A bid that was made before still binds: its commit is taken, and what it opens gives way from the first moment.
"""

from __future__ import annotations

from collections.abc import Iterable

from dms_proto.allocation.freezing import FreezeWished, Prior, ThawWished
from dms_proto.ids import AllocationId
from dms_proto.machine import IGNORED, Decision, Effect
from dms_proto.market.offer_state import OfferBook, OwnerCame, OwnerLeft, OwnerSeen, TellAllocation
from dms_proto.messages import Clause


def owner_seen(book: OfferBook, stimulus: OwnerSeen, now: int) -> Decision:
    """The owner has come or gone; that the reason is another one changes nothing."""
    if bool(stimulus.because) == (book.owner is not None):
        return IGNORED
    if not stimulus.because:
        return Decision((OwnerLeft(now),), _each(book.ledger.reservations, ThawWished(Prior.OWNER)))
    came = OwnerCame(stimulus.because, stimulus.evict_after_ms, stimulus.grace_ms, now)
    return Decision((came,), _each(book.ledger.reservations, _wish(came)))


def giving_way(book: OfferBook, allocations: Iterable[AllocationId]) -> tuple[Effect, ...]:
    """What is said to these allocations while the owner is there; nothing while not."""
    return _each(allocations, _wish(book.owner)) if book.owner is not None else ()


def told_of_owner(book: OfferBook) -> tuple[Effect, ...]:
    """After a restart: what all allocations may not have heard."""
    wish = ThawWished(Prior.OWNER) if book.owner is None else _wish(book.owner)
    return _each(book.ledger.reservations, wish)


def owner_clauses(book: OfferBook) -> tuple[Clause, ...]:
    """Why nothing new is bid on."""
    if book.owner is None:
        return ()
    observed = f"its owner comes first: {book.owner.because}"
    return (Clause("accepts_work", "a node that takes work", observed, passing=True),)


def _wish(came: OwnerCame) -> FreezeWished:
    return FreezeWished(Prior.OWNER, came.because, came.evict_after_ms, came.grace_ms)


def _each(allocations: Iterable[AllocationId], wish: FreezeWished | ThawWished) -> tuple[Effect, ...]:
    return tuple(TellAllocation(allocation_id, wish) for allocation_id in allocations)
