"""Offline beside online: work that can wait has the CPU that work for which somebody waits leaves idle, and gives it back at once.

Online is what is of the class interactive or service, offline what is of the class batch. Where the owner wishes it
(`ProviderPolicy.offline_gives_way`)::

    an offline job is committed     its memory, disk and devices are reserved, its CPU is lent: it counts as available
    an online job bids              on available CPU, lent or not; a bid alone changes nothing for anybody
    an online job is committed      what was lent last is frozen, until the rest has room
    an online job is over           what has stood still longest goes on, as far as there is room
    it stood still for too long     it is evicted, and its requester tries it elsewhere (`allocation.freezing`)

So the capacity law holds as ever, and beside it: **the CPU of offline work that is not frozen is at most what online work does not have committed.**
Memory and devices are never lent: nothing that is frozen gives them back. An offline job finds less room than an online one, by what is lent already.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Final

import msgspec

from dms_proto.allocation.freezing import FreezeWished, Prior, ThawWished
from dms_proto.capability import Capability, JobClass, Resources
from dms_proto.ids import AllocationId
from dms_proto.machine import Decision, Effect, Event
from dms_proto.market.ledger import Ledger, Reservation
from dms_proto.market.offer_fold import evolve
from dms_proto.market.offer_state import LentFrozen, LentThawed, OfferBook, TellAllocation

GRACE_MS: Final = 2_000
"""The most that offline work has to save what it has done when it is evicted: it runs beside online work then."""
WHY: Final = "somebody waits for other work here"
"""What the requester of offline work is told that is frozen."""


def is_offline(needs: Capability) -> bool:
    """Whether what is asked for can wait, as it says itself."""
    return needs.job_classes == (JobClass.BATCH,)


def gives_way(book: OfferBook, needs: Capability) -> bool:
    """Whether what is asked for would be lent its CPU here."""
    return book.policy.offline_gives_way and is_offline(needs)


def room_for(book: OfferBook, needs: Capability) -> Resources:
    """What can be offered now: free capacity, for offline work without what is lent already."""
    return free_beside_lent(book) if is_offline(needs) else book.free


def free_beside_lent(book: OfferBook) -> Resources:
    """Free capacity, without what is lent already."""
    lent = lent_millicores(book.ledger.reservations.values())
    return msgspec.structs.replace(book.free, cpu_millicores=max(0, book.free.cpu_millicores - lent))


def lent_millicores(reservations: Iterable[Reservation]) -> int:
    """The CPU that is lent to these, frozen or not."""
    return sum(each.resources.cpu_millicores for each in reservations if each.lent)


def uncommitted_millicores(ledger: Ledger) -> int:
    """The CPU that online work does not have committed and the owner does not hold: bids may yet come to nothing."""
    bids = (lock.amount.cpu_millicores for lock in ledger.locks.values() if lock.request_id)
    return ledger.available.cpu_millicores + sum(bids)


def with_lent(book: OfferBook, decision: Decision) -> Decision:
    """A decision, and what follows from it for the work to which CPU is lent."""
    if not decision.events or not _lends(book.ledger):
        return decision
    after = reduce(evolve, decision.events, book)
    lent = [each for each in after.ledger.reservations.values() if each.lent]
    if not lent:
        return decision
    frozen = _frozen(after, lent)
    stops = tuple(each.allocation_id for each in lent if each.allocation_id in frozen - after.frozen)
    starts = tuple(each.allocation_id for each in lent if each.allocation_id in after.frozen - frozen)
    events: tuple[Event, ...] = (LentFrozen(stops),) if stops else ()
    events += (LentThawed(starts),) if starts else ()
    told = (*(_freeze(after, each) for each in stops), *(_thaw(each) for each in starts))
    return Decision((*decision.events, *events), (*decision.effects, *told))


def told_again(book: OfferBook) -> tuple[Effect, ...]:
    """After a restart: each is told where it stands; it knows what it has heard before."""
    lent = (each.allocation_id for each in book.ledger.reservations.values() if each.lent)
    return tuple(_freeze(book, each) if each in book.frozen else _thaw(each) for each in lent)


def _lends(ledger: Ledger) -> bool:
    """Whether CPU is lent, or would be by a commit."""
    return any(each.lent for each in ledger.reservations.values()) or any(lock.lends for lock in ledger.locks.values())


def _frozen(book: OfferBook, lent: list[Reservation]) -> frozenset[AllocationId]:
    """Who has to stand still: of those that go on, the last who came; of those that stand still, all for whom there is no room yet."""
    room = uncommitted_millicores(book.ledger)
    first = [each for each in lent if each.allocation_id not in book.frozen]
    frozen: set[AllocationId] = set()
    for each in (*first, *(each for each in lent if each.allocation_id in book.frozen)):
        if each.resources.cpu_millicores <= room:
            room -= each.resources.cpu_millicores
        else:
            frozen.add(each.allocation_id)
    return frozenset(frozen)


def _freeze(book: OfferBook, allocation: AllocationId) -> Effect:
    wish = FreezeWished(Prior.ONLINE, WHY, book.policy.evict_offline_after_ms, GRACE_MS)
    return TellAllocation(allocation, wish)


def _thaw(allocation: AllocationId) -> Effect:
    return TellAllocation(allocation, ThawWished(Prior.ONLINE))
