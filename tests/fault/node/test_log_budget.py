"""Whatever a stranger says, it makes an event store no longer than its share; honest work goes on, and the stranger is heard again in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from dms.testing.guest import Guest
from dms.testing.honest_pair import HonestPair
from dms.testing.seeded_world import TOPIC, TTL_MS
from dms_actors.letters import Told
from dms_actors.ports import GossipReceived
from dms_actors.strangers import Strangers
from dms_proto.capability import Capability, ExecutorOffer, Price, Resources
from dms_proto.grants.renewal import Renewal
from dms_proto.grants.rights import TIME, Rights
from dms_proto.grants.trust import AnchorWished, GrantMade, Proven, RenewalAsked
from dms_proto.ids import GrantId, MessageId, PeerId, bid_id, digest_of, request_id
from dms_proto.log_costs import ALLOCATION_BYTES
from dms_proto.market.auction_events import BidReceived, DeclineReceived, OpeningRefused, SealReceived
from dms_proto.market.offer_state import RequestDeclined
from dms_proto.market.second_price import seal_of
from dms_proto.messages import Bid, BidRequest, Clause, Closing, Commit, Decline, Pricing, Release, SealedBid
from dms_proto.units import HOUR, MIB, MINUTE, SECOND
from dms_proto.wire import seal
from dms_proto.wire.log_budget import BURSTS_A_DAY, PEER_PART, SOURCE_PART, LogBudget

pytestmark = pytest.mark.usefixtures("quiet")
SHARE = MIB
OF_ONE = SHARE // PEER_PART // BURSTS_A_DAY
"""What one stranger has at once: 32 KiB."""
SLACK = 16 * 1024
"""What the last message leads to, what is gained meanwhile, and what the honest pair writes."""
TURNS = 60
SALT = bytes(32)
AT_ONCE = 50


@pytest.fixture
def pair() -> HonestPair:
    return HonestPair(lambda: Strangers(LogBudget(SHARE)))


def without_budget() -> HonestPair:
    """Its share is more than is ever said."""
    return HonestPair(lambda: Strangers(LogBudget(2**50)))


LABELLED = Capability(labels={f"label-{n}": "x" * 60 for n in range(10)})


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


def written_for_a_stranger(pair: HonestPair, say: Callable[[HonestPair, Guest, int], None]) -> int:
    """Bytes that a provider writes while a stranger says the same for a minute."""
    guest, before = pair.guest(), pair.written()
    for turn in range(TURNS):
        for number in range(AT_ONCE):
            say(pair, guest, turn * AT_ONCE + number)
        pair.pass_time(SECOND)
        guest.connect(pair.provider)
    return pair.written() - before


@pytest.mark.parametrize("say", SAYINGS)
def test_one_stranger_makes_the_log_no_longer_than_its_share(
    pair: HonestPair, say: Callable[[HonestPair, Guest, int], None]
) -> None:
    assert pair.works()
    before = pair.written()
    assert written_for_a_stranger(pair, say) < OF_ONE + SLACK
    assert pair.works()
    assert pair.written() - before < OF_ONE + SLACK + 2 * ALLOCATION_BYTES


@pytest.mark.parametrize("say", SAYINGS)
def test_it_would_be_longer_without_a_budget(say: Callable[[HonestPair, Guest, int], None]) -> None:
    """The test above tests something."""
    assert written_for_a_stranger(without_budget(), say) > 2 * (OF_ONE + SLACK)


def test_a_stranger_past_its_share_is_told_so_and_heard_again_when_it_has_gained_it_back(pair: HonestPair) -> None:
    guest = pair.guest()
    for number in range(1_000):
        ask_for_too_much(pair, guest, number)
        if number % 200 == 199:
            pair.pass_time(SECOND)
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
    assert pair.written() - before < SHARE // SOURCE_PART // BURSTS_A_DAY + 2 * SLACK
    neighbour, stranger = pair.guest(remote="30.0.0.200"), pair.guest(remote="40.0.0.1")
    assert not neighbour.is_connected(pair.provider)
    stranger.say(pair.provider, asking(99_999))
    pair.pass_time(SECOND)
    assert stranger.last(Bid) is not None


def bid_of(guest: Guest, asked: BidRequest, number: int, *, until: int, valid_ms: int, salt: bytes = b"") -> Bid:
    """A bid for nothing, of a machine without anything that is asked for."""
    return Bid(
        request_id=asked.request_id,
        round=asked.round,
        number=number,
        bid_id=bid_id(asked.request_id, guest.peer, number),
        offer=LABELLED,
        slots=1,
        tariff=Price(),
        price=0,
        valid_until=until,
        valid_ms=valid_ms,
        salt=salt,
    )


def sealed_of(bid: Bid, guest: Guest, asked: BidRequest) -> SealedBid:
    """What is shown of a bid before the list is closed."""
    seal = seal_of(bid, guest.peer)
    return SealedBid(
        bid.request_id, bid.round, bid.number, bid.bid_id, seal, asked.max_price, bid.valid_until, bid.valid_ms
    )


def flood_of_bids(pair: HonestPair, guest: Guest, asked: BidRequest, number: int) -> None:
    """Each is newer than the one before and ends at once; none of them will do."""
    guest.say(pair.requester, bid_of(guest, asked, number, until=pair.now + 1, valid_ms=1))


def flood_of_seals(pair: HonestPair, guest: Guest, asked: BidRequest, number: int) -> None:
    """The same, sealed, and never opened."""
    bid = bid_of(guest, asked, number, until=pair.now + 1, valid_ms=1, salt=SALT)
    guest.say(pair.requester, sealed_of(bid, guest, asked))


def flood_of_declines(pair: HonestPair, guest: Guest, asked: BidRequest, number: int) -> None:
    """Each for another reason."""
    clauses = tuple(Clause(f"dimension {n}", "x" * 200, f"{number}" * 10, passing=True) for n in range(8))
    guest.say(pair.requester, Decline(asked.request_id, asked.round, clauses))


Flood = Callable[[HonestPair, Guest, BidRequest, int], None]
FLOODS = [
    (flood_of_bids, Pricing.FIRST_PRICE),
    (flood_of_seals, Pricing.SECOND_PRICE),
    (flood_of_declines, Pricing.FIRST_PRICE),
]


def asked_alone(pair: HonestPair, pricing: Pricing) -> tuple[Guest, BidRequest]:
    """A stranger that the requester asks, and what for; nobody else can be reached."""
    guest = Guest(pair.market, "30.0.0.1")
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello())
    pair.pass_time(SECOND)
    pair.part()
    pair.market.submit(pair.requester, pricing=pricing)
    pair.pass_time(SECOND // 10)
    asked = guest.last(BidRequest)
    assert asked is not None
    return guest, asked


def written_for_a_provider(pair: HonestPair, flood: Flood, pricing: Pricing) -> int:
    """Bytes that a requester writes while it waits and a stranger answers it for a minute."""
    before = pair.written(pair.requester)
    guest, asked = asked_alone(pair, pricing)
    for turn in range(TURNS):
        for number in range(AT_ONCE // 5):
            flood(pair, guest, asked, turn * AT_ONCE + number)
        pair.pass_time(SECOND)
        guest.connect(pair.requester)
    return pair.written(pair.requester) - before


@pytest.mark.parametrize(("flood", "pricing"), FLOODS)
def test_one_provider_makes_the_log_of_who_asks_no_longer_than_its_share(
    pair: HonestPair, flood: Flood, pricing: Pricing
) -> None:
    assert written_for_a_provider(pair, flood, pricing) < OF_ONE + SLACK


def test_it_would_be_longer_for_who_asks_without_a_budget() -> None:
    """By declines: of one provider's bids an auction takes a few only."""
    assert written_for_a_provider(without_budget(), flood_of_declines, Pricing.FIRST_PRICE) > 2 * (OF_ONE + SLACK)


@pytest.mark.parametrize("has_budget", [True, False])
@pytest.mark.parametrize(("flood", "pricing"), [each for each in FLOODS if each[0] is not flood_of_declines])
def test_no_bid_is_heard_sealed_or_open_when_nothing_is_left(
    pair: HonestPair, flood: Flood, pricing: Pricing, *, has_budget: bool
) -> None:
    pair = pair if has_budget else without_budget()
    guest, asked = asked_alone(pair, pricing)
    for number in range(AT_ONCE):
        flood_of_declines(pair, guest, asked, number)
    pair.pass_time(SECOND // 10)
    flood(pair, guest, asked, 0)
    pair.pass_time(SECOND // 10)
    kinds = Counter(row.kind for row in pair.requester.machine.log.events)
    heard = kinds[BidReceived.__name__] + kinds[SealReceived.__name__]
    assert heard == (0 if has_budget else 1)


def test_what_was_sealed_in_time_is_opened_though_nothing_is_left_by_then(pair: HonestPair) -> None:
    guest, asked = asked_alone(pair, Pricing.SECOND_PRICE)
    bid = bid_of(guest, asked, 0, until=pair.now + 10 * SECOND, valid_ms=10 * SECOND, salt=SALT)
    guest.say(pair.requester, sealed_of(bid, guest, asked))
    pair.pass_time(SECOND // 10)
    assert guest.last(Closing) is not None
    for number in range(AT_ONCE):
        flood_of_declines(pair, guest, asked, number)
    pair.pass_time(SECOND // 10)
    guest.say(pair.requester, bid)
    pair.pass_time(SECOND)

    kinds = Counter(row.kind for row in pair.requester.machine.log.events)
    assert kinds[DeclineReceived.__name__] < AT_ONCE, "nothing is left"
    assert (kinds[BidReceived.__name__], kinds[OpeningRefused.__name__]) == (1, 0)


def test_authors_known_by_gossip_only_leave_room_for_another_one(pair: HonestPair) -> None:
    forwarder = pair.guest()

    def gossip(times: int) -> int:
        """Has so many requests of a new author handed on; gives how many declines are written down by then."""
        author = Guest(pair.market)
        for number in range(times):
            id_ = MessageId(pair.market.loop.rng.randbytes(16))
            asked = asking(number, cores=1_000)
            frame = seal(author.signer, asked, id=id_, sent=pair.now, ttl_ms=TTL_MS, topic=TOPIC)
            pair.provider.node.tell(GossipReceived(TOPIC, forwarder.peer, frame))
        pair.pass_time(SECOND)
        return sum(row.kind == RequestDeclined.__name__ for row in pair.provider.machine.log.events)

    assert 0 < gossip(200) < gossip(200) < gossip(200) < gossip(1)


def test_who_showed_a_grant_is_metered_until_it_shows_it_anew_once_one_counts_no_longer(pair: HonestPair) -> None:
    guest = pair.guest()
    strangers, another = pair.node()._strangers, pair.requester.signer.peer_id
    strangers.showed_grant(guest.peer, 0)
    strangers.wrote(guest.peer, OF_ONE, pair.now, is_named=False)
    assert strangers.may_write(guest.peer, pair.now, is_named=False)
    pair.provider.node.tell(Told(AnchorWished(another), "test"))
    pair.provider.node.tell(Told(AnchorWished(another, wanted=False), "test"))
    pair.pass_time(SECOND)
    strangers.wrote(guest.peer, OF_ONE, pair.now, is_named=False)
    assert not strangers.may_write(guest.peer, pair.now, is_named=False)


def test_nobody_shows_its_grant_anew_because_one_was_given_or_renewed(pair: HonestPair) -> None:
    """Whoever holds a grant that is renewed could have everybody else metered again."""
    guest, issuer = pair.guest(), pair.node().grants.state.me
    strangers = pair.node()._strangers
    strangers.showed_grant(guest.peer, 0)
    end, id_ = pair.now + MINUTE, GrantId("g-1")
    rights, renewal = Rights(at_most={TIME: end}), Renewal(end + HOUR, HOUR)
    pair.provider.node.tell(Told(GrantMade(id_, rights, renewal=renewal), "test"))
    held = Proven(issuer, (id_,), rights, (PeerId(""),), issuer, id_, renewal)
    pair.provider.node.tell(Told(RenewalAsked(guest.peer, b"grant", held), "test"))
    pair.provider.node.tell(Told(AnchorWished(pair.requester.signer.peer_id), "test"))
    pair.pass_time(SECOND)
    assert pair.node().grants.state.issued[id_].renewed_until > end
    assert strangers.let_in_until(guest.peer)
