"""How the provider's state follows from its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dms_proto.heirs import with_heir
from dms_proto.ids import BidId, PeerId
from dms_proto.machine import Event
from dms_proto.market.ledger import Reservation, remember, without
from dms_proto.market.offer_state import (
    Asking,
    BidCommitted,
    BidMade,
    BidOpened,
    BookPhase,
    CapabilityRegistered,
    CapacityFreed,
    CapacityHeld,
    CreditChanged,
    LentFrozen,
    LentThawed,
    LockExpired,
    LockReleased,
    OfferBook,
    OwnerCame,
    OwnerLeft,
    PauseLifted,
    PolicyChanged,
    PressureChanged,
    RequestDeclined,
    RequestTurnedAway,
    RequestWithdrawn,
    ReservationSettled,
    ReservationWidened,
    Sealed,
    StakesInherited,
    StandingRequest,
    Taken,
    WorkPaused,
    WorkResumed,
)
from dms_proto.rules import MAX_STANDING

MAX_REMEMBERED: Final = 4_096
"""Committed bids and bid counts kept for repeats; the oldest go first."""


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
        case StakesInherited(old=old, new=new):
            return change(book, heirs=_heirs(book, old, new), credit=without(book.credit, old))
        case WorkPaused(stopping=True):
            return change(book, phase=BookPhase.STOPPING)  # `paused_because` stays: so the owner left it
        case WorkPaused(because=because):
            return change(book, phase=BookPhase.PAUSED, paused_because=because)
        case OwnerCame():
            return change(book, owner=event)
        case OwnerLeft():
            return change(book, owner=None)
        case PauseLifted():
            return change(book, paused_because="")
        case WorkResumed():
            return change(book, phase=BookPhase.OPEN, paused_because="")
        case BidMade(bid=bid, lock=lock, stands=request, stands_until=until, rights=rights):
            asking = (lock.requester, bid.request_id)
            standing = without(book.standing, asking)
            if request is not None:
                standing[asking] = StandingRequest(lock.requester, request, until, rights, bid.held)
            return change(
                book,
                ledger=book.ledger.lock(lock),
                sealed={**book.sealed, bid.bid_id: Sealed(bid)} if bid.salt else book.sealed,
                **_remembered(book, standing),
                rounds=remember(book.rounds, asking, max(bid.round, book.rounds.get(asking, 0)), MAX_REMEMBERED),
                numbers=remember(book.numbers, bid.request_id, bid.number + 1, MAX_REMEMBERED),
            )
        case RequestDeclined(requester=requester, request=request, stands_until=until, rights=rights, held=held):
            asking = (requester, request.request_id)
            standing = without(book.standing, asking)
            if until:
                standing[asking] = StandingRequest(requester, request, until, rights, held)
            return change(
                book,
                **_remembered(book, standing),
                rounds=remember(book.rounds, asking, request.round, MAX_REMEMBERED),
            )
        case RequestTurnedAway(requester=requester, request=request):
            asking = (requester, request.request_id)
            return change(book, rounds=remember(book.rounds, asking, request.round, MAX_REMEMBERED))
        case RequestWithdrawn(request_id=request_id, requester=requester):
            return change(book, standing=without(book.standing, (requester, request_id)))
        case BidOpened(bid_id=bid_id, seals=seals):
            return change(book, sealed={**book.sealed, bid_id: change(book.sealed[bid_id], seals=seals)})
        case CapacityHeld(lock=lock):
            return change(book, ledger=book.ledger.lock(lock))
        case LockReleased(bid_id=bid) | LockExpired(bid_id=bid):
            return change(book, ledger=book.ledger.unlock(bid), sealed=_unsealed(book, bid))
        case BidCommitted(bid_id=bid, requester=requester, reservations=reservations, terms=terms):
            ids = tuple(reservation.allocation_id for reservation in reservations)
            slots = tuple(reservation.slot for reservation in reservations)
            return change(
                book,
                ledger=book.ledger.commit(bid, reservations),
                sealed=_unsealed(book, bid),
                committed=remember(book.committed, bid, Taken(requester, slots, terms, ids), MAX_REMEMBERED),
            )
        case ReservationWidened():
            return change(book, ledger=book.ledger.resize(_widened(book, event)))
        case ReservationSettled(allocation_id=allocation, resources=resources, price=price):
            changed = change(book.ledger.reservations[allocation], resources=resources, price=price, is_changing=False)
            return change(book, ledger=book.ledger.resize(changed))
        case CapacityFreed(allocation_id=allocation):
            return change(book, ledger=book.ledger.free(allocation), frozen=book.frozen - {allocation})
        case LentFrozen(allocation_ids=allocations):
            return change(book, frozen=book.frozen.union(allocations))
        case LentThawed(allocation_ids=allocations):
            return change(book, frozen=book.frozen.difference(allocations))
        case _:
            return book


def _widened(book: OfferBook, event: ReservationWidened) -> Reservation:
    return msgspec.structs.replace(
        book.ledger.reservations[event.allocation_id],
        resources=event.resources,
        price=event.price,
        change=event.number,
        terms=event.terms,
        is_changing=True,
    )


def _heirs(book: OfferBook, old: PeerId, new: PeerId) -> dict[PeerId, PeerId]:
    """With one more; of a name under which nothing is at stake any more nothing is remembered."""
    at_stake = book.at_stake
    return {name: heir for name, heir in with_heir(book.heirs, old, new).items() if name in at_stake}


def _unsealed(book: OfferBook, bid_id: BidId) -> Mapping[BidId, Sealed]:
    return without(book.sealed, bid_id) if bid_id in book.sealed else book.sealed


def _remembered(book: OfferBook, standing: dict[Asking, StandingRequest]) -> dict[str, Any]:
    """What stands, within bounds: of the requester with the most, the one that ends first makes room."""
    if len(standing) <= MAX_STANDING:
        return {"standing": standing}
    most = Counter(one.requester for one in standing.values()).most_common(1)[0][0]
    del standing[min((k for k, one in standing.items() if one.requester == most), key=lambda k: standing[k].until)]
    return {"standing": standing, "forgotten": book.forgotten + 1}
