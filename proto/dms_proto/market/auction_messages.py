"""What a requester says in the market, as it follows from the state of its request."""

from __future__ import annotations

import msgspec

from dms_proto.checkpoints import NO_CHECKPOINT, Checkpoint, going_on
from dms_proto.data.marks import marks_of
from dms_proto.market.auction_money import affordable
from dms_proto.market.auction_reading import seeking, terms_agreed
from dms_proto.market.auction_state import Auction, OpenBid, Slot, terms_of
from dms_proto.market.auction_terms import Terms
from dms_proto.market.reach import reach_for
from dms_proto.messages import BidRequest, Commit, Invocation
from dms_proto.siblings import NO_NAMES, Names
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
        data=marks_of(terms.request_id, terms.task),
    )


def task_of(terms: Terms, piece: int, checkpoint: Checkpoint = NO_CHECKPOINT) -> Task:
    """The task of one piece of work: the job's, told which one it is, and going on from a checkpoint. All its copies are the same."""
    index, count = (piece, terms.count) if terms.canary is None else (terms.canary.piece, terms.canary.count)
    environment = {**terms.task.environment, "DMS_INDEX": str(index), "DMS_COUNT": str(count)}
    names = Names(index, count) if terms.task.names.count else NO_NAMES
    return change(going_on(terms.task, checkpoint), environment=environment, names=names)


def task_for(terms: Terms, slot: Slot) -> Task:
    """The task of a slot's next attempt."""
    return task_of(terms, slot.piece, slot.checkpoint)


def commit_message(auction: Auction, taken: OpenBid, slots: tuple[int, ...]) -> Commit:
    """A commit to one slot carries its invocation and so saves a round trip."""
    terms = terms_of(auction)
    invocations = (task_for(terms, auction.slots[slots[0]]),) if len(slots) == 1 else ()
    numbers, agreed = tuple(terms.number_of(index) for index in slots), terms_agreed(terms, taken, slots)
    return Commit(terms.request_id, taken.bid.bid_id, numbers, invocations, terms=agreed, award=taken.award)


def invocation(terms: Terms, slot: Slot) -> Invocation:
    """Starts the work in the allocation that a slot holds; repeated, it asks where that stands."""
    return Invocation(terms.request_id, slot.allocation_id, task_for(terms, slot))
