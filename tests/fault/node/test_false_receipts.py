"""A node signs for what it heard: an ending that its request never heard, or heard otherwise, is not confirmed, though the request is over.

And what a debtor was forgiven is told again until it has signed for that, not for what it was told before.
"""

from __future__ import annotations

import msgspec

from dms.testing.guest import Guest
from dms.testing.honest_pair import HonestPair
from dms.testing.seeded_world import TTL_MS
from dms_actors.events import from_row
from dms_actors.letters import Told
from dms_actors.past import MAX_KEPT, READING, TELLING
from dms_proto.accounts.book import answered, claim
from dms_proto.accounts.machine import EntryWritten, ForgiveWished, TellForgiven
from dms_proto.ids import MessageId, PeerId, allocation_id, bid_id, request_id
from dms_proto.market.agreement import receipt_for
from dms_proto.market.auction_events import AllocationFinished
from dms_proto.messages import AllocationStatus, Phase, Receipt
from dms_proto.units import SECOND
from dms_proto.wire import seal
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


def forgiven(pair: HonestPair, debtor: Guest) -> AllocationStatus:
    """The ending of an allocation at the provider, of which a debtor has accepted 50 of 70, and was forgiven the rest."""
    status = finished(pair)
    about = (debtor.peer, status.request_id, status.allocation_id)
    for booked in (*claim(*about, 70), *answered(*about, 70, 50)):
        pair.provider.node.tell(Told(EntryWritten(booked.entry), "test"))
    pair.provider.node.tell(Told(ForgiveWished(debtor.peer, (status.allocation_id,)), "test"))
    pair.pass_time(SECOND)
    told = debtor.last(AllocationStatus)
    assert told is not None
    assert (told.allocation_id, told.price) == (status.allocation_id, 50)
    return told


def test_a_receipt_says_that_a_forgiving_was_heard_only_if_it_answers_that() -> None:
    """One for the ending as it was told before says the same, and may come late or once more."""
    pair = HonestPair()
    debtor = pair.guest()
    told = forgiven(pair, debtor)
    receipt = receipt_for(told, 50)
    (about,) = pair.node()._past._told
    for cause, is_heard in (("", False), ("00" * 16, False), (about, True)):
        id_ = MessageId(pair.market.loop.rng.randbytes(16))
        to = pair.provider.signer.peer_id
        frame = seal(debtor.signer, receipt, id=id_, sent=pair.now, ttl_ms=TTL_MS, to=to, cause=cause)
        debtor.say_bytes(pair.provider, frame)
        pair.pass_time(SECOND)
        assert bool(pair.node().accounts.state.forgiven) is not is_heard


def test_whoever_has_itself_told_again_what_it_was_forgiven_does_not_have_it_read_without_end() -> None:
    pair = HonestPair()
    debtor = pair.guest()
    told = forgiven(pair, debtor)
    debtor.heard.clear()
    again = TellForgiven(debtor.peer, told.allocation_id, 50, pair.now)
    for _ in range(2 * TELLING.burst):
        pair.node()._past.tell_forgiven(again, pair.node()._world.post, "test")
    pair.pass_time(SECOND)
    assert debtor.heard == [told] * TELLING.burst
    first = msgspec.structs.replace(again, again_at=0)
    pair.node()._past.tell_forgiven(first, pair.node()._world.post, "test")
    pair.pass_time(SECOND)
    assert debtor.heard == [told] * (TELLING.burst + 1)
