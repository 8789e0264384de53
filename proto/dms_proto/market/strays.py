"""Answers to messages about a request or an allocation that is not known here: its memory was lost, or it never was.

The sender is told what lets it go on: a lock may go, an allocation is to stop, an ending has been heard, an invocation finds nothing.
"""

from __future__ import annotations

from dms_proto.accounts.book import Accounts
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.machine import Send
from dms_proto.market.agreement import receipt_for, unheard
from dms_proto.market.offer_judgement import MAX_SLOTS
from dms_proto.messages import (
    AllocationStatus,
    Bid,
    Cancel,
    CommitAck,
    Invocation,
    InvocationAck,
    Message,
    Release,
    SealedBid,
)


def answer(sender: PeerId, message: Message, accounts: Accounts, *, is_as_heard: bool = False) -> tuple[Send, ...]:
    """What `sender` is told about `message`, which belongs to nothing known here; empty for kinds that need no answer.

    `is_as_heard`: an ending is told as it was when there was a request; then a receipt that was lost is given again as it was. A price is remembered
    longer than what it was agreed for, and confirmed also without.
    """
    match message:
        case Bid(request_id=request_id, bid_id=bid_id) | SealedBid(request_id=request_id, bid_id=bid_id):
            return (Send(sender, Release(request_id, bid_id)),)
        case CommitAck(request_id=request_id, allocation_ids=allocation_ids):
            return called_off(sender, request_id, allocation_ids)
        case AllocationStatus(request_id=request_id, allocation_id=allocation_id, ending=ending):
            if ending is None:
                return (Send(sender, Cancel(request_id, allocation_id)),)
            price = accounts.charged(sender, allocation_id)
            return (Send(sender, receipt_for(message, price) if is_as_heard else unheard(message, price)),)
        case Invocation(request_id=request_id, allocation_id=allocation_id):
            return (Send(sender, InvocationAck(request_id, allocation_id, "no such allocation here")),)
        case _:
            return ()


def called_off(sender: PeerId, request_id: RequestId, allocation_ids: tuple[AllocationId, ...]) -> tuple[Send, ...]:
    """Tells the sender of an acknowledgement to stop what nobody wants; as many as a bid has slots, however many it names."""
    return tuple(Send(sender, Cancel(request_id, allocation_id)) for allocation_id in allocation_ids[:MAX_SLOTS])
