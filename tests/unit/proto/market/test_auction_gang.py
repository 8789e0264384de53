"""Allocations that belong together: all get a place at once or none, and none goes on when one has failed."""

from __future__ import annotations

from dms_proto.market.auction_events import AwardMade, BidsReleased, RequestWaiting
from dms_proto.market.auction_state import SlotPhase
from dms_proto.messages import Cancel, Commit, Phase, Release
from dms_proto.sim.requester import Requester
from dms_proto.work import EndReason


def running() -> Requester:
    """A request for two that runs at `a` and `b`; the job's own failure is final."""
    requester = Requester(count=2, together=True, job_failures=1).submit("a", "b")
    for peer, bid in [(peer, requester.bid(peer)) for peer in "ab"]:
        requester.acks(peer, bid)
    assert {slot.phase for slot in requester.state.slots} == {SlotPhase.HELD}
    return requester


def test_all_are_taken_in_one_award() -> None:
    requester = Requester(count=3, together=True).submit("a", "b")
    requester.bid("a", slots=2)
    assert requester.sent(Commit) == []

    requester.bid("b")

    (award,) = requester.noted(AwardMade)
    assert sorted(slot for _, slots in award.taken for slot in slots) == [0, 1, 2]


def test_places_for_a_part_are_not_taken_but_let_go_and_it_is_said_how_many_there_were() -> None:
    requester = Requester(count=3, together=True).submit("a", "b")
    requester.bid("a", slots=2)

    requester.declines("b")

    (waiting,) = requester.noted(RequestWaiting)
    assert waiting.why == "a place for 2 of 3 allocations that go together"
    assert requester.noted(BidsReleased)
    assert [type(message) for message in (*requester.sent(Commit), *requester.sent(Release))] == [Release]


def test_places_for_a_part_are_waited_for_as_long_as_was_wished() -> None:
    requester = Requester(count=2, together=True, queue_ms=0).submit("a", "b")
    requester.bid("a")
    requester.declines("b")
    requester.asks("a", "b")  # once more, and everybody
    requester.declines("a")  # the rest of it

    requester.declines("b")

    assert requester.reason is EndReason.NO_BIDS
    assert requester.state.ending is not None
    assert requester.state.ending.detail == "a place for 1 of 2 allocations that go together"


def test_when_one_fails_for_good_the_others_are_stopped_and_its_failure_is_the_reason() -> None:
    requester = running()
    first, second = requester.state.slots
    requester.reports(str(first.provider), first.allocation_id, Phase.RUNNING)

    requester.ends(str(second.provider), second.allocation_id, EndReason.OUT_OF_MEMORY)

    assert [cancel.allocation_id for cancel in requester.sent(Cancel)] == [first.allocation_id]
    requester.ends(str(first.provider), first.allocation_id, EndReason.CANCELLED)
    assert requester.reason is EndReason.OUT_OF_MEMORY


def test_one_whose_node_is_lost_seeks_a_place_while_the_others_go_on() -> None:
    requester = running()
    slot = requester.state.slots[1]

    requester.ends(str(slot.provider), slot.allocation_id, EndReason.PROVIDER_FAULT)

    assert requester.sent(Cancel) == []
    assert requester.called() == [1]
    requester.asks("c")
    requester.bid("c")
    assert requester.state.slots[slot.index].provider == "c"


def test_independent_allocations_are_taken_as_they_find_places() -> None:
    requester = Requester(count=3).submit("a", "b")
    requester.bid("a", slots=2)

    requester.declines("b")

    assert len(requester.noted(AwardMade)) == 1
