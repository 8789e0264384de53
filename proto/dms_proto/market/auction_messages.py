"""What a requester says in the market, as it follows from the state of its request."""

from __future__ import annotations

import msgspec

from dms_proto.market.auction_fold import affordable, seeking, terms_agreed
from dms_proto.market.auction_state import Auction, OpenBid, Slot, Terms
from dms_proto.market.reach import reach_for
from dms_proto.messages import BidRequest, Commit, Invocation
from dms_proto.work import Task

change = msgspec.structs.replace


def bid_request(auction: Auction, round_: int) -> BidRequest:
    """The request as it is announced in `round_`, for the slots that still seek."""
    terms = terms_of(auction)
    return BidRequest(
        request_id=terms.request_id,
        round=round_,
        needs=terms.needs,
        count=max(1, len(seeking(auction))),
        bids_wanted=terms.bids_wanted,
        reach=reach_for(terms.bids_wanted, max(auction.known, 1), round_),
        max_price=affordable(auction),
        wait_ms=terms.window_ms,
        stands_ms=terms.queue_ms,
        priority=terms.priority,
        pricing=terms.pricing,
    )


def task_of(terms: Terms, index: int) -> Task:
    """The task of one slot: the job's, told which one it is."""
    environment = {**terms.task.environment, "DMS_INDEX": str(index), "DMS_COUNT": str(terms.count)}
    return change(terms.task, environment=environment)


def commit_message(terms: Terms, taken: OpenBid, slots: tuple[int, ...]) -> Commit:
    """A commit to one slot carries its invocation and so saves a round trip."""
    invocations = (task_of(terms, slots[0]),) if len(slots) == 1 else ()
    agreed = terms_agreed(terms, taken, slots)
    return Commit(terms.request_id, taken.bid.bid_id, slots, invocations, terms=agreed, award=taken.award)


def invocation(terms: Terms, slot: Slot) -> Invocation:
    """Starts the work in the allocation that a slot holds; repeated, it asks where that stands."""
    return Invocation(terms.request_id, slot.allocation_id, task_of(terms, slot.index))


def terms_of(auction: Auction) -> Terms:
    """What was submitted."""
    assert auction.terms is not None, "a new auction has no terms"
    return auction.terms
