"""Peers that mean harm, against an honest pair under a clock of our own: the offender is muted, the pair is served, and time forgives.

`make attack` measures the same against whole nodes.
"""

from __future__ import annotations

import msgspec
import pytest

from dms.testing.guest import Guest
from dms.testing.honest_pair import HonestPair
from dms_actors.events import from_row
from dms_proto.capability import Capability, ExecutorOffer, Price, Resources
from dms_proto.ids import PeerId, bid_id, request_id
from dms_proto.market.agreement import agreement_on, terms_digest
from dms_proto.market.auction_state import BidReceived, SealReceived
from dms_proto.market.second_price import seal_of
from dms_proto.messages import AnyMessage, Bid, BidRequest, Commit, Pricing, Release, SealedBid
from dms_proto.reputation.silence import FIRST_PAUSE_MS, STRIKES
from dms_proto.units import MIB, MINUTE, SECOND
from dms_proto.wire.scores import HALF_LIFE_MS

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def pair() -> HonestPair:
    return HonestPair()


def asking(number: int) -> BidRequest:
    """A request for hardly anything."""
    needs = Capability(resources=Resources(10, MIB), executors=(ExecutorOffer("seeded"),), max_wall_ms=MINUTE)
    id_ = request_id(number.to_bytes(16, "big"))
    return BidRequest(id_, 0, needs, 1, 1, 2**32, 10**9, 250, 0)


def is_heard_again(pair: HonestPair, guest: Guest) -> bool:
    """Whether a muted guest is bid to after its time."""
    pair.pass_time(HALF_LIFE_MS)
    guest.connect(pair.provider)
    guest.say(pair.provider, guest.hello())
    guest.say(pair.provider, asking(10_000))
    pair.pass_time(SECOND)
    bid = guest.last(Bid)
    return bid is not None and bid.request_id == asking(10_000).request_id


def test_who_asks_and_vanishes_is_muted_and_forgiven(pair: HonestPair) -> None:
    """Every bid holds capacity until it expires: the guest takes none and releases none."""
    guest = pair.guest()
    for number in range(4):
        guest.say(pair.provider, asking(number))
        pair.pass_time(12 * SECOND)
        assert pair.works()
    assert "banned" in guest.goodbyes
    assert not pair.node().book.state.ledger.locks
    assert is_heard_again(pair, guest)


def test_who_commits_and_abandons_is_muted_and_forgiven(pair: HonestPair) -> None:
    """Each commit reserves capacity for work that never comes."""
    guest = pair.guest()

    def commit(_peer: PeerId, said: AnyMessage) -> None:
        if isinstance(said, Bid) and said.request_id != asking(10_000).request_id:
            needs = asking(0).needs
            meant = agreement_on(said, needs, guest.peer, pair.provider.signer.peer_id, (0,))
            guest.say(pair.provider, Commit(said.request_id, said.bid_id, (0,), terms=terms_digest(meant)))

    guest.on_heard = commit
    for number in range(5):
        guest.say(pair.provider, asking(number))
        pair.pass_time(SECOND)
    pair.pass_time(12 * SECOND)
    assert "banned" in guest.goodbyes
    assert pair.works()
    assert not pair.node().book.state.ledger.reservations
    assert is_heard_again(pair, guest)


RICH = Capability(Resources(64_000, 64 * MIB * 1024, 0), executors=(ExecutorOffer("seeded"),), max_wall_ms=MINUTE)


def bidder(pair: HonestPair) -> Guest:
    """A provider that bids next to nothing on whatever it is asked, and does nothing else."""
    guest = Guest(pair.market, "30.0.0.1")

    def bid(peer: PeerId, said: AnyMessage) -> None:
        if isinstance(said, BidRequest):
            node = next(one for one in (pair.requester, pair.provider) if one.signer.peer_id == peer)
            guest.say(node, bid_on(said, guest.peer, RICH, pair.now))

    guest.on_heard = bid
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello(summary=RICH))
    pair.pass_time(SECOND)
    return guest


def bid_on(asked: BidRequest, by: PeerId, offer: Capability, now: int) -> Bid:
    return Bid(
        request_id=asked.request_id,
        round=asked.round,
        number=asked.round,
        bid_id=bid_id(asked.request_id, by, asked.round),
        offer=msgspec.structs.replace(offer, price=Price(), cpu_score=1_000_000),
        slots=1,
        tariff=Price(),
        price=0,
        valid_until=now + 10_000,
        valid_ms=10_000,
    )


def commits(guest: Guest) -> int:
    return sum(isinstance(said, Commit) for said in guest.heard)


def bids_heard(pair: HonestPair, guest: Guest) -> int:
    rows = (row for row in pair.requester.machine.log.events if row.kind == BidReceived.__name__)
    events = (from_row(row) for row in rows)
    return sum(isinstance(event, BidReceived) and event.provider == guest.peer for event in events)


def let_down(pair: HonestPair, guest: Guest) -> None:
    """Jobs until a guest has won as many as are forgiven; it need not win each, since bids that are close take turns."""
    for _ in range(10 * STRIKES):
        assert pair.works()
        if commits(guest) == STRIKES:
            return
    raise AssertionError(f"the guest won {commits(guest)} of {10 * STRIKES} jobs")


def test_who_bids_and_vanishes_is_not_heard_any_more_and_work_goes_elsewhere(pair: HonestPair) -> None:
    """It won every auction, and every job waited for it until its time for an answer was over."""
    guest = bidder(pair)
    let_down(pair, guest)
    heard = bids_heard(pair, guest)
    for _ in range(5):
        assert pair.works()
    assert commits(guest) == STRIKES
    assert bids_heard(pair, guest) == heard
    assert guest.last(Release) is not None

    pair.pass_time(FIRST_PAUSE_MS)
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello(summary=RICH))
    pair.pass_time(SECOND)
    heard = bids_heard(pair, guest)
    assert pair.works()
    assert bids_heard(pair, guest) == heard + 1


def test_who_is_not_heard_for_its_silence_is_not_heard_sealed_either(pair: HonestPair) -> None:
    guest = bidder(pair)
    let_down(pair, guest)

    def seal(peer: PeerId, said: AnyMessage) -> None:
        if isinstance(said, BidRequest) and said.pricing is Pricing.SECOND_PRICE:
            bid = msgspec.structs.replace(bid_on(said, guest.peer, RICH, pair.now), salt=bytes(32))
            told = (bid.bid_id, seal_of(bid, guest.peer), said.max_price, bid.valid_until, bid.valid_ms)
            guest.say(pair.requester, SealedBid(said.request_id, said.round, bid.number, *told))

    guest.on_heard = seal
    job = pair.market.submit(pair.requester, pricing=Pricing.SECOND_PRICE)
    pair.pass_time(5 * SECOND)
    assert any(isinstance(said, BidRequest) and said.request_id == job for said in guest.heard)
    assert any(isinstance(said, Release) and said.request_id == job for said in guest.heard)
    rows = (row for row in pair.requester.machine.log.events if row.kind == SealReceived.__name__)
    sealed = [event.provider for event in map(from_row, rows) if isinstance(event, SealReceived)]
    assert sealed == [pair.provider.signer.peer_id]


def test_a_crowd_that_comes_and_goes_does_not_make_an_honest_peer_forgotten_or_unserved(pair: HonestPair) -> None:
    """An eclipse attempt by 600 identities of one source, while the pair is cut apart."""
    me, other = pair.requester.signer.peer_id, pair.provider.signer.peer_id
    pair.market.fabric.disconnect(me, other)
    for number in range(600):
        guest = Guest(pair.market, f"30.0.0.{number % 256}")
        guest.connect(pair.provider)
        guest.say(pair.provider, guest.hello())
        pair.pass_time(50)
        guest.leave(pair.provider)
        if number % 64 == 0:
            pair.pass_time(SECOND)
    assert me in pair.node().members.state.peers
    pair.market.fabric.connect(me, other)
    pair.pass_time(SECOND)
    assert pair.works()
