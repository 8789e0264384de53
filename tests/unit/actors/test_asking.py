"""When rounds go out: in their order, never faster than other nodes take them, of each request the newest."""

from __future__ import annotations

from dms.testing.honest_pair import HonestPair
from dms_actors.asking import PACE, PAUSE_MS, TAKEN, Asking
from dms_actors.letters import AnnounceWanted, TurnsCame
from dms_proto.capability import Capability
from dms_proto.ids import request_id
from dms_proto.market.auction_events import RequestOpened
from dms_proto.market.auction_fold import evolve
from dms_proto.market.auction_state import Auction
from dms_proto.market.auction_stimuli import Announced, TurnPending
from dms_proto.market.seekers import Seekers
from dms_proto.messages import BidRequest
from dms_proto.sim.requester import terms
from dms_proto.units import SECOND
from dms_proto.wire.buckets import Limit, TokenBucket


def wanted(number: int, round_: int = 1) -> AnnounceWanted:
    request = BidRequest(
        request_id(number.to_bytes(16, "big")),
        round_,
        Capability(),
        1,
        bids_wanted=1,
        reach=1,
        max_price=1,
        wait_ms=1,
        stands_ms=1,
    )
    return AnnounceWanted(request, "cause")


def test_a_few_go_out_at_once_in_their_order() -> None:
    asking = Asking(0, Seekers(1))
    for number in range(3):
        asking.want(wanted(number))

    assert list(asking.due(0)) == [wanted(0), wanted(1), wanted(2)]
    assert asking.deadline() is None


def test_however_many_are_wanted_at_once_no_node_gets_more_than_it_takes() -> None:
    asking, theirs = Asking(0, Seekers(1)), TokenBucket(TAKEN, 0)
    for number in range(2_000):
        asking.want(wanted(number))

    went, now = list(asking.due(0)), 0
    assert all(theirs.take(now) for _ in went)
    while (at := asking.deadline()) is not None:
        now = at
        due = list(asking.due(now))
        assert all(theirs.take(now) for _ in due)
        went += due

    assert went == [wanted(number) for number in range(2_000)]
    assert now <= (2_000 - PACE.burst) * SECOND // PACE.per_second + SECOND


def test_a_later_round_takes_the_place_of_one_that_waits() -> None:
    asking = Asking(0, Seekers(1), Limit(1, 1))
    for number in (0, 1, 2):
        asking.want(wanted(number))
    assert list(asking.due(0)) == [wanted(0)]

    asking.want(wanted(1, round_=2))
    assert list(asking.due(SECOND)) == [wanted(1, round_=2)]
    assert list(asking.due(2 * SECOND)) == [wanted(2)]


def test_a_request_that_is_over_is_not_asked_for() -> None:
    asking = Asking(0, Seekers(1), Limit(1, 1))
    for number in (0, 1):
        asking.want(wanted(number))
    assert list(asking.due(0)) == [wanted(0)]
    asking.forget(wanted(1).request.request_id)

    assert list(asking.due(SECOND)) == []
    assert asking.deadline() is None


def submitted(number: int) -> Auction:
    request_id = wanted(number).request.request_id
    return evolve(Auction(), RequestOpened(terms(request_id=request_id), number))


def test_a_round_waits_until_its_request_s_turn_has_come() -> None:
    seekers = Seekers(1)
    asking = Asking(0, seekers)
    requests = [wanted(number).request.request_id for number in range(3)]
    for number, request in enumerate(requests):
        seekers.note(request, submitted(number))
    assert [asking.want(wanted(number)) for number in range(3)] == [None, 0, 1]
    assert list(asking.due(0)) == [wanted(0)]

    asking.begin(seekers.forget(requests[0]))
    assert list(asking.due(0)) == [wanted(1)]
    asking.forget(requests[2])
    asking.begin(seekers.forget(requests[1]))
    assert list(asking.due(0)) == []


class Told(list[object]):
    """Stands where orchestrators do: keeps what they are told."""

    name = "told"

    def tell(self, message: object) -> bool:
        self.append(message)
        return True


def test_the_node_announces_what_it_may_at_once_and_the_rest_in_time() -> None:
    pair = HonestPair()
    node, told = pair.node(pair.requester), Told()
    batch = [wanted(number) for number in range(PACE.burst * 2)]
    for each in batch:
        pair.requester.orchestrators.add(each.request.request_id, told)  # type: ignore[arg-type]

    node.receive(batch, pair.now)
    assert len(told) == PACE.burst
    due = node.deadline()
    assert due is not None
    assert due <= pair.now + PAUSE_MS
    node.receive((), pair.now + SECOND)
    assert len(told) == PACE.burst * 2


def test_a_request_is_told_that_it_waits_for_its_turn_and_its_round_goes_out_when_that_comes() -> None:
    pair = HonestPair()
    node, told, seekers = pair.node(pair.requester), Told(), pair.requester.seekers
    requests = [wanted(number).request.request_id for number in range(2)]
    for number, request in enumerate(requests):
        pair.requester.orchestrators.add(request, told)  # type: ignore[arg-type]
        seekers.note(request, submitted(number))

    node.receive([wanted(number) for number in range(2)], pair.now)
    assert [letter.stimulus for letter in told if isinstance(letter.stimulus, TurnPending)] == [TurnPending(1, 0)]
    node.receive([TurnsCame(seekers.forget(requests[0]))], pair.now)
    assert [type(letter.stimulus) for letter in told] == [TurnPending, Announced, Announced]
