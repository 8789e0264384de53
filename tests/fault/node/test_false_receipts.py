"""A node signs for what it heard: an ending that its request never heard, or heard otherwise, is not confirmed, though the request is over."""

from __future__ import annotations

import msgspec

from dms.testing.honest_pair import HonestPair
from dms_actors.events import from_row
from dms_actors.past import MAX_KEPT, READING
from dms_proto.ids import PeerId, allocation_id, bid_id, request_id
from dms_proto.market.auction_state import AllocationFinished
from dms_proto.messages import AllocationStatus, Phase, Receipt
from dms_proto.units import SECOND
from dms_proto.work import Ending, EndReason, Usage


def finished(pair: HonestPair) -> AllocationStatus:
    """The ending of a job that the requester has done."""
    assert pair.works()
    rows = [row for row in pair.requester.machine.log.events if row.kind == AllocationFinished.__name__]
    event = from_row(rows[-1])
    assert isinstance(event, AllocationFinished)
    return event.status


def invented(number: int) -> AllocationStatus:
    """The ending of an allocation that never was."""
    request = request_id(number.to_bytes(16, "big"))
    allocation = allocation_id(bid_id(request, PeerId("nobody"), 0), 0)
    return AllocationStatus(request, allocation, 4, Phase.ENDED, ending=Ending(EndReason.COMPLETED, 0))


def test_an_ending_is_known_as_it_was_heard_when_its_request_is_over() -> None:
    pair = HonestPair()
    status, past = finished(pair), pair.node(pair.requester)._past
    assert past.is_as_heard(status, pair.now)
    assert past.is_as_heard(msgspec.structs.replace(status, price=1), pair.now)  # it may be forgiven
    assert past.is_as_heard(msgspec.structs.replace(status, usage=Usage(wall_ms=10**9)), pair.now) is False


def test_what_a_stranger_makes_up_is_not_confirmed() -> None:
    pair = HonestPair()
    guest = pair.guest()
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello())
    made_up = msgspec.structs.replace(finished(pair), usage=Usage(wall_ms=10**9))
    guest.say(pair.requester, made_up)
    pair.pass_time(SECOND)
    receipt = guest.last(Receipt)
    assert receipt is not None
    assert (receipt.reason, receipt.usage, receipt.price) == (EndReason.PROVIDER_LOST, Usage(), 0)


def test_whoever_makes_up_endings_neither_fills_its_memory_nor_has_it_read_without_end() -> None:
    pair = HonestPair()
    status, past = finished(pair), pair.node(pair.requester)._past
    assert past.is_as_heard(status, pair.now)
    answers = [past.is_as_heard(invented_one, pair.now) for invented_one in map(invented, range(READING.burst))]
    assert answers == [False] * (READING.burst - 1) + [None]
    assert past.is_as_heard(status, pair.now)
    assert len(past._kept) <= MAX_KEPT
