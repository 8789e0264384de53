"""Which container gets a call: an idle one, else the shortest queue; said with scores and reasons, and computed again."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.capability import Capability, Price, Resources
from dms_proto.ids import BidId, PeerId, RequestId
from dms_proto.market.candidates import Candidate
from dms_proto.market.preferences import balanced
from dms_proto.market.ranking import decide
from dms_proto.messages import BidRequest
from dms_proto.pool.placement import Bounds, Option, Route, place, replay
from dms_proto.pool.records import ContainerId, ContainerPhase
from dms_proto.units import CORE, CREDIT, GIB

BOUNDS = Bounds(virtual=10, calls=4)
READY = ContainerPhase.READY

options = st.lists(
    st.builds(
        Option,
        st.integers(0, 99).map(lambda number: ContainerId(f"c-{number}")),
        st.integers(0, 99),
        st.sampled_from(ContainerPhase),
        st.integers(0, 5),
        st.integers(0, 12),
        st.booleans(),
    ),
    unique_by=(lambda option: option.container_id, lambda option: option.number),
    max_size=8,
)


def option(
    number: int, phase: ContainerPhase = READY, *, calls: int = 0, virtual: int = 1, own: bool = False
) -> Option:
    return Option(ContainerId(f"c-{number}"), number, phase, calls, virtual, own)


def chosen(*given: Option) -> str | None:
    return place(given, BOUNDS).chosen


def test_an_idle_container_goes_before_the_own_one_that_is_busy() -> None:
    assert chosen(option(1, calls=1, own=True), option(2)) == "c-2"


def test_of_idle_ones_the_own_one_is_taken_then_the_emptiest_then_the_oldest() -> None:
    assert chosen(option(1), option(2, virtual=9, own=True)) == "c-2"
    assert chosen(option(1, virtual=3), option(2, virtual=2)) == "c-2"
    assert chosen(option(2), option(1)) == "c-1"


def test_of_busy_ones_the_shortest_queue_is_taken() -> None:
    assert chosen(option(1, calls=3, own=True), option(2, calls=2), option(3, calls=3)) == "c-2"


def test_a_start_is_waited_for_rather_than_two_calls_and_not_rather_than_none() -> None:
    starting = option(1, ContainerPhase.STARTING)
    assert chosen(starting, option(2, calls=2)) == "c-1"
    assert chosen(starting, option(2)) == "c-2"


def test_who_takes_no_more_is_left_out_with_the_reason() -> None:
    full = place(
        (
            option(1, calls=4),
            option(2, virtual=10),
            option(3, ContainerPhase.STOPPING),
            option(4, virtual=10, own=True),
        ),
        BOUNDS,
    )
    assert full.chosen == "c-4"
    assert [(each.container_id, each.why) for each in full.excluded] == [
        ("c-1", "it has 4 calls, as many as it takes"),
        ("c-2", "10 virtual containers point to it, as many as may"),
        ("c-3", "it is stopping"),
    ]
    assert chosen() is None


def test_the_choice_is_told_as_a_score_with_its_summands() -> None:
    placement = place((option(1, own=True, virtual=3),), BOUNDS)
    assert placement.story(placement.ranked[0]) == "score 478 = queue 400 + own 50 + room 28"
    assert placement.ranked[0].reasons == ("idle", "its own", "3 of 10 places taken")


def test_both_steps_of_a_route_are_computed_again() -> None:
    request, bid = market_request(), market_bid()
    machine = decide(request, [bid], balanced())
    container = place((option(1), option(2, calls=1)), BOUNDS)
    assert machine.ranking.order == (bid.bid_id,)
    assert Route(machine, container).is_replayed
    other = place((option(2),), BOUNDS)
    assert not Route(machine, msgspec.structs.replace(container, ranked=other.ranked)).is_replayed
    worse = msgspec.structs.replace(machine, ranking=msgspec.structs.replace(machine.ranking, ranked=()))
    assert not Route(worse, container).is_replayed


def market_request() -> BidRequest:
    return BidRequest(RequestId("r-" + "a" * 26), 0, Capability(Resources(CORE, GIB)), 1, 3, 2**32, CREDIT, 250)


def market_bid() -> Candidate:
    tariff = Price(start=10, cpu_core_hour=1_000)
    offer = Capability(Resources(8 * CORE, 8 * GIB), cpu_score=1_000)
    return Candidate(BidId("b"), PeerId("provider"), offer, tariff, tariff.cost(Resources(CORE, GIB), 0), 1)


@given(given=options, shuffled=st.randoms())
def test_a_placement_is_replayed_and_does_not_depend_on_the_order_of_what_is_looked_at(given, shuffled) -> None:  # type: ignore[no-untyped-def]
    placement = place(given, BOUNDS)
    assert replay(placement) == placement
    others = list(given)
    shuffled.shuffle(others)
    assert place(others, BOUNDS) == placement


@given(given=options)
def test_nobody_waits_longer_than_he_must(given: list[Option]) -> None:
    placement = place(given, BOUNDS)
    taking = {entry.container_id for entry in placement.ranked}
    ahead = {each.container_id: each.calls + (each.phase is not READY) for each in given if each.container_id in taking}
    assert len(placement.ranked) + len(placement.excluded) == len(given)
    if ahead:
        assert placement.chosen is not None
        assert ahead[placement.chosen] == min(ahead.values())
