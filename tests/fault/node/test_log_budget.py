"""Whatever a stranger says, it makes an event store no longer than its share; honest work goes on, and the stranger is heard again in time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from dms.testing.guest import Guest
from dms.testing.honest_pair import HonestPair
from dms_actors.strangers import Strangers
from dms_proto.capability import Capability, ExecutorOffer, Price, Resources
from dms_proto.ids import bid_id, digest_of, request_id
from dms_proto.log_costs import ALLOCATION_BYTES
from dms_proto.messages import Bid, BidRequest, Clause, Commit, Decline, Release
from dms_proto.units import HOUR, MIB, MINUTE, SECOND
from dms_proto.wire.log_budget import BURSTS_A_DAY, OF_PEER, OF_SOURCE, LogBudget

SHARE = 16 * MIB
OF_ONE = SHARE // OF_PEER // BURSTS_A_DAY
"""What one stranger has at once: half a MiB."""
SLACK = 64 * 1024
"""What the last message leads to, what is gained meanwhile, and what the honest pair writes."""
TURNS = 60
AT_ONCE = 50


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def pair() -> HonestPair:
    return HonestPair(lambda: Strangers(LogBudget(SHARE)))


def asking(number: int, cores: int = 1, **changed: object) -> BidRequest:
    needs = Capability(
        resources=Resources(cores * 1_000, MIB),
        executors=(ExecutorOffer("seeded"),),
        max_wall_ms=MINUTE,
        labels={f"label-{n}": "x" * 60 for n in range(10)},
    )
    if cores == 1:
        needs = Capability(resources=Resources(10, MIB), executors=(ExecutorOffer("seeded"),), max_wall_ms=MINUTE)
    told: dict[str, object] = {
        "bids_wanted": 1,
        "reach": 2**32,
        "max_price": 10**9,
        "wait_ms": 250,
        "stands_ms": 0,
    } | changed
    return BidRequest(request_id(number.to_bytes(16, "big")), 0, needs, 1, **told)  # type: ignore[arg-type]


def ask_for_too_much(pair: HonestPair, guest: Guest, number: int) -> None:
    guest.say(pair.provider, asking(number, cores=1_000))


def ask_and_let_go(pair: HonestPair, guest: Guest, number: int) -> None:
    guest.on_heard = lambda _peer, said: (
        guest.say(pair.provider, Release(said.request_id, said.bid_id)) if isinstance(said, Bid) else None
    )
    guest.say(pair.provider, asking(number))


def commit_to_other_terms(pair: HonestPair, guest: Guest, number: int) -> None:
    bid = guest.last(Bid)
    if number % AT_ONCE == 0 or bid is None:
        guest.say(pair.provider, asking(number))
    else:
        guest.say(pair.provider, Commit(bid.request_id, bid.bid_id, (0,), terms=digest_of(b"other")))


def say_something_new(pair: HonestPair, guest: Guest, number: int) -> None:
    guest.say(pair.provider, guest.hello(name=f"guest {number}", summary=asking(number, cores=1_000).needs))


def come_and_go(pair: HonestPair, guest: Guest, number: int) -> None:
    (guest.leave if number % 2 else guest.connect)(pair.provider)
    guest.say(pair.provider, guest.hello(name=f"guest {number}"))


SAYINGS = [ask_for_too_much, ask_and_let_go, commit_to_other_terms, say_something_new, come_and_go]


@pytest.mark.parametrize("say", SAYINGS)
def test_one_stranger_makes_the_log_no_longer_than_its_share(
    pair: HonestPair, say: Callable[[HonestPair, Guest, int], None]
) -> None:
    assert pair.works()
    guest, before = pair.guest(), pair.written()
    for turn in range(TURNS):
        for number in range(AT_ONCE):
            say(pair, guest, turn * AT_ONCE + number)
        pair.pass_time(SECOND)
        guest.connect(pair.provider)
    assert pair.written() - before < OF_ONE + SLACK
    assert pair.works()
    assert pair.written() - before < OF_ONE + SLACK + 2 * ALLOCATION_BYTES


def test_it_would_be_longer_without_a_budget() -> None:
    """The test above tests something: this much is written for a peer whom the owner lets in."""
    pair = HonestPair()
    guest, before = pair.guest(), pair.written()
    for number in range(TURNS * AT_ONCE):
        ask_for_too_much(pair, guest, number)
        if number % AT_ONCE == 0:
            pair.pass_time(SECOND)
    pair.pass_time(SECOND)
    assert pair.written() - before > 2 * (OF_ONE + SLACK)


def test_a_stranger_past_its_share_is_told_so_and_heard_again_when_it_has_gained_it_back(pair: HonestPair) -> None:
    guest = pair.guest()
    for number in range(1_000):
        ask_for_too_much(pair, guest, number)
    pair.pass_time(SECOND)
    guest.say(pair.provider, asking(5_000))
    pair.pass_time(SECOND)
    declined = guest.last(Decline)
    assert declined is not None
    assert [clause.dimension for clause in declined.clauses] == ["log_budget"]

    pair.pass_time(HOUR)
    guest.say(pair.provider, asking(5_001))
    pair.pass_time(SECOND)
    bid = guest.last(Bid)
    assert bid is not None
    assert bid.request_id == asking(5_001).request_id


def test_a_hundred_strangers_of_one_source_share_its_share_and_another_source_is_served(pair: HonestPair) -> None:
    before = pair.written()
    for sybil in range(100):
        guest = pair.guest(remote=f"30.0.0.{sybil}")
        for number in range(40):
            ask_for_too_much(pair, guest, sybil * 100 + number)
        pair.pass_time(SECOND // 10)
    assert pair.written() - before < SHARE // OF_SOURCE // BURSTS_A_DAY + 2 * SLACK
    neighbour, stranger = pair.guest(remote="30.0.0.200"), pair.guest(remote="40.0.0.1")
    assert not neighbour.is_connected(pair.provider)
    stranger.say(pair.provider, asking(99_999))
    pair.pass_time(SECOND)
    assert stranger.last(Bid) is not None


def flood_of_bids(pair: HonestPair, guest: Guest, asked: BidRequest, number: int) -> None:
    """Each is newer than the one before and ends at once: none of them is a repeat, and there is always room for one more."""
    bid = Bid(
        request_id=asked.request_id,
        round=asked.round,
        number=number,
        bid_id=bid_id(asked.request_id, guest.peer, number),
        offer=asked.needs,
        slots=1,
        tariff=Price(),
        price=10**12,
        valid_until=pair.now + 1,
        valid_ms=1,
    )
    guest.say(pair.requester, bid)


def flood_of_declines(pair: HonestPair, guest: Guest, asked: BidRequest, number: int) -> None:
    """Each for another reason."""
    clauses = tuple(Clause(f"dimension {n}", "x" * 200, f"{number}" * 10, passing=True) for n in range(8))
    guest.say(pair.requester, Decline(asked.request_id, asked.round, clauses))


@pytest.mark.parametrize("flood", [flood_of_bids, flood_of_declines])
def test_one_provider_makes_the_log_of_who_asks_no_longer_than_its_share(
    pair: HonestPair, flood: Callable[[HonestPair, Guest, BidRequest, int], None]
) -> None:
    guest = Guest(pair.market, "30.0.0.1")
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello())
    pair.pass_time(SECOND)
    pair.node().book.state.ledger.check()
    pair.market.fabric.disconnect(pair.requester.signer.peer_id, pair.provider.signer.peer_id)
    before = pair.written(pair.requester)
    pair.market.submit(pair.requester)
    pair.pass_time(SECOND)
    asked = guest.last(BidRequest)
    assert asked is not None
    for number in range(TURNS * AT_ONCE):
        flood(pair, guest, asked, number)
        if number % AT_ONCE == 0:
            pair.pass_time(SECOND)
    pair.pass_time(SECOND)
    assert pair.written(pair.requester) - before < OF_ONE + SLACK
