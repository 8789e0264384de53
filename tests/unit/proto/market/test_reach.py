"""Which nodes answer a gossiped request: few, other ones each time, more with each round."""

from dms_proto import ids
from dms_proto.ids import PeerId
from dms_proto.market.reach import EVERYBODY, OVERSAMPLING, WIDENING, distance, is_within, reach_for

PEERS = [PeerId(f"peer {number}") for number in range(1_000)]


def request(number: int) -> ids.RequestId:
    return ids.request_id(number.to_bytes(16, "big"))


def test_about_as_many_answer_as_are_asked_however_large_the_network_is() -> None:
    for size in (100, 1_000):
        reach = reach_for(3, size, 0)
        answers = [sum(is_within(request(r), peer, reach) for peer in PEERS[:size]) for r in range(50)]
        assert 5 < sum(answers) / len(answers) < 14


def test_each_request_reaches_other_nodes() -> None:
    reach = reach_for(3, 1_000, 0)
    reached = [{peer for peer in PEERS if is_within(request(r), peer, reach)} for r in range(20)]

    assert len(set().union(*reached)) > 100


def test_each_round_reaches_those_before_and_more() -> None:
    for peer in PEERS[:50]:
        within = [is_within(request(1), peer, reach_for(3, 1_000, round_)) for round_ in range(5)]
        assert within == sorted(within)
    assert reach_for(3, 1_000, 1) == EVERYBODY * 3 * OVERSAMPLING * WIDENING // 1_000


def test_a_small_network_and_a_late_round_reach_everybody() -> None:
    assert reach_for(3, 9, 0) == EVERYBODY
    assert reach_for(1, 10**9, 100) == EVERYBODY
    assert all(is_within(request(1), peer, EVERYBODY) for peer in PEERS)


def test_the_distance_is_the_same_for_everyone_and_differs_per_request() -> None:
    assert distance(request(1), PEERS[0]) == distance(request(1), PEERS[0])
    assert len({distance(request(number), PEERS[0]) for number in range(100)}) == 100
    assert all(0 <= distance(request(number), PEERS[0]) < EVERYBODY for number in range(100))
