"""The provider's part of a second price (`second_price`): seal, open, and look at the price before it agrees.

A bid is opened when it stands on a closed list, and taken only at a price that follows from that list.
"""

from __future__ import annotations

from dms_proto.ids import PeerId
from dms_proto.machine import Decision, Event, Send
from dms_proto.market.ledger import CapabilityLock
from dms_proto.market.offer_state import BidOpened, ClosingHeard, OfferBook
from dms_proto.market.second_price import AwardFlaw, check_award, seal_of
from dms_proto.messages import Award, Bid, SealedBid


def sealed(bid: Bid, provider: PeerId, most: int) -> SealedBid:
    """What is told of a bid at first. `most`: what the request would pay."""
    return SealedBid(
        request_id=bid.request_id,
        round=bid.round,
        number=bid.number,
        bid_id=bid.bid_id,
        seal=seal_of(bid, provider),
        max_price=most,
        valid_until=bid.valid_until,
        valid_ms=bid.valid_ms,
    )


def heed(book: OfferBook, stimulus: ClosingHeard) -> Decision:
    """What is on the list is opened, and again when it is asked for again. The first list holds: another one for the same bid changes nothing.

    What is not on it was left out. It stays locked until it is released or expires: a list may be an old one.
    """
    events: list[Event] = []
    effects: list[Send] = []
    closing = stimulus.closing
    for bid_id, held in book.sealed.items():
        lock = book.ledger.locks[bid_id]
        if (lock.requester, lock.request_id) != (stimulus.requester, closing.request_id):
            continue
        if held.seals:
            effects += [Send(stimulus.requester, held.bid)] if held.seals == closing.seals else []
        elif seal_of(held.bid, book.me) in closing.seals:
            events.append(BidOpened(bid_id, closing.seals, stimulus.requester))
            effects.append(Send(stimulus.requester, held.bid))
    return Decision(tuple(events), tuple(effects))


def award_flaw(book: OfferBook, lock: CapabilityLock, award: Award | None) -> AwardFlaw | None:
    """What is wrong with the price at which a bid of ours is taken, if anything."""
    held = book.sealed.get(lock.bid_id)
    if held is None:
        return AwardFlaw.NOT_SEALED if award is not None else None
    return check_award(held.bid, book.me, lock.most, held.seals, award)
