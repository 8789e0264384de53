"""What its requester makes of an allocation that stands still, and of one that was evicted."""

import pytest

from dms_proto.allocation.freezing import MOST_FROZEN_MS
from dms_proto.ids import AllocationId
from dms_proto.market.auction_events import AttemptEnded, ProviderFroze, ProviderThawed
from dms_proto.market.auction_freezes import BORNE_EVICTIONS, MOST_FREEZES, Freezes
from dms_proto.market.auction_state import AuctionPhase, SlotPhase
from dms_proto.messages import Phase
from dms_proto.reputation.evidence import kinds_of
from dms_proto.sim.requester import Requester
from dms_proto.units import MINUTE
from dms_proto.work import EndReason
from tests.unit.proto.market.test_auction_attempts import held, retried_at

WHY = "other programs use 1.5 cores"


def running() -> tuple[Requester, AllocationId]:
    requester = held()
    allocation = requester.state.slots[0].allocation_id
    requester.reports("a", allocation, Phase.RUNNING)
    return requester, allocation


def freezes(requester: Requester, allocation: AllocationId, why: str = WHY) -> None:
    requester.reports("a", allocation, Phase.RUNNING, frozen=why, evict_after_ms=MINUTE if why else 0)


def test_that_it_stands_still_and_goes_on_is_written_down_once() -> None:
    requester, allocation = running()
    freezes(requester, allocation)
    assert requester.noted(ProviderFroze) == [ProviderFroze(0, allocation, WHY, MINUTE, requester.now)]
    freezes(requester, allocation)
    assert requester.events == ()
    freezes(requester, allocation, "")
    assert requester.noted(ProviderThawed) == [ProviderThawed(0, allocation, requester.now)]
    assert requester.state.slots[0].phase is SlotPhase.HELD


def test_its_limits_are_later_by_as_long_as_it_stood_still() -> None:
    requester, allocation = running()
    due = requester.state.slots[0].nudge_at
    freezes(requester, allocation)
    assert requester.state.slots[0].nudge_at == due + MOST_FROZEN_MS
    requester.now += 5 * MINUTE
    freezes(requester, allocation, "")
    assert requester.state.slots[0].nudge_at == due + 5 * MINUTE


def test_who_keeps_it_frozen_for_longer_than_may_be_is_given_up_as_a_fault() -> None:
    requester, allocation = running()
    freezes(requester, allocation)
    requester.wait(requester.state.slots[0].nudge_at - requester.now)
    (ended,) = requester.noted(AttemptEnded)
    assert ended.ending.reason is EndReason.PROVIDER_FAULT


def test_a_provider_that_says_more_freezes_than_are_noted_fills_no_log_with_them() -> None:
    requester, allocation = running()
    for _ in range(2 * MOST_FREEZES):
        freezes(requester, allocation)
        freezes(requester, allocation, "")
    assert len([event for event in requester.log if isinstance(event, ProviderFroze)]) == MOST_FREEZES
    assert requester.state.slots[0].freezes.why == ""


def test_a_provider_that_gives_ever_new_reasons_fills_no_log_with_them() -> None:
    requester, allocation = running()
    for number in range(2 * MOST_FREEZES):
        freezes(requester, allocation, f"reason {number}")
    assert len([event for event in requester.log if isinstance(event, ProviderFroze)]) == MOST_FREEZES
    freezes(requester, allocation, "")
    assert requester.state.slots[0].freezes.why == ""


def test_what_was_evicted_is_tried_elsewhere_and_nobody_is_blamed() -> None:
    requester, allocation = running()
    requester.ends("a", allocation, EndReason.EVICTED)
    slot = requester.state.slots[0]
    assert (slot.phase, slot.faults, slot.failed_on, slot.price) == (SlotPhase.SEEKING, 0, (), 0)
    assert slot.freezes == Freezes(evictions=1)
    assert kinds_of(EndReason.EVICTED) == ()
    retried_at(requester, "b")
    assert requester.state.slots[0].provider == "b"


def test_who_evicts_whatever_is_brought_to_it_does_not_keep_a_job_for_ever() -> None:
    requester = held()
    for number in range(BORNE_EVICTIONS + 1):
        slot = requester.state.slots[0]
        assert slot.phase is not SlotPhase.DONE, number
        requester.ends(slot.provider, slot.allocation_id, EndReason.EVICTED)
        if number < BORNE_EVICTIONS:
            retried_at(requester, "b" if slot.provider == "a" else "a")
            requester.acknowledged()
    assert requester.state.phase is AuctionPhase.ENDED
    assert requester.reason is EndReason.RETRIES_EXHAUSTED


@pytest.mark.parametrize("kind", [ProviderFroze, ProviderThawed])
def test_the_state_follows_from_the_log(kind: type) -> None:
    requester, allocation = running()
    freezes(requester, allocation)
    if kind is ProviderThawed:
        freezes(requester, allocation, "")
    assert isinstance(requester.log[-1], kind)
    live = requester.state.slots[0].freezes
    assert requester.restart().slots[0].freezes == live
