"""A second price between the two machines: seals, the list, openings, and the price that follows."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto import ids
from dms_proto.capability import Price
from dms_proto.ids import PeerId
from dms_proto.machine import TimeCame
from dms_proto.market.auction import resume
from dms_proto.market.auction_events import AwardMade, OpeningRefused, RequestWaiting, SealReceived, SealsListed
from dms_proto.market.auction_state import SHARE, SearchPhase
from dms_proto.market.auction_stimuli import PeerLost
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.offer_state import BidOpened, CommitTurnedDown, CreditSeen, LockReleased
from dms_proto.market.preferences import Preferences, ProviderPolicy
from dms_proto.market.second_price import OpeningFlaw, rival_from, seal_of
from dms_proto.market.seen import seen_in
from dms_proto.messages import (
    MAX_SEALS,
    Award,
    Bid,
    Closing,
    Commit,
    CommitRefusal,
    CommitRefused,
    Pricing,
    Release,
    SealedBid,
)
from dms_proto.reputation import Kind
from dms_proto.sim.provider import ME, TARIFF, Provider, request
from dms_proto.sim.requester import REQUEST, Requester
from dms_proto.units import MAX_QUANTITY

ACK = 500
SECOND = Pricing.SECOND_PRICE


def market(*peers: str, **changed: object) -> Requester:
    """A request for a second price that was announced to these peers."""
    return Requester(**{"pricing": SECOND, "bids_wanted": len(peers), **changed}).submit(*peers)


def closed(
    *peers: str, prices: tuple[int, ...] = (100, 300, 200), **changed: object
) -> tuple[Requester, dict[str, Bid]]:
    """The same with all of them on the list."""
    requester = market(*peers, **changed)
    return requester, {peer: requester.seals(peer, price=price) for peer, price in zip(peers, prices, strict=False)}


# --------------------------------------------------------------------------------------------------------------- requester


def test_the_list_is_closed_when_enough_sealed_bids_are_in_and_told_to_those_on_it() -> None:
    requester = market("a", "b")
    first = requester.seals("a")
    assert requester.sent(Closing) == []

    second = requester.seals("b")

    assert [type(event) for event in requester.events] == [SealReceived, SealsListed]
    assert requester.sent_to(Closing) == ["a", "b"]
    listed = tuple(sorted((seal_of(first, PeerId("a")), seal_of(second, PeerId("b")))))
    assert {closing.seals for closing in requester.sent(Closing)} == {listed}
    assert requester.sent(Commit) == []


def test_the_winner_is_paid_what_the_best_of_the_others_allows_and_is_shown_it() -> None:
    requester, bids = closed("a", "b", "c")
    for peer, bid in bids.items():
        requester.opens(peer, bid)

    (commit,) = requester.sent(Commit, PeerId("a"))
    assert commit.award is not None
    assert commit.award.price in (199, 200)  # equal prices are decided by hash
    assert commit.award.rival == rival_from(bids["c"], PeerId("c"))
    slot = requester.state.slots[0]
    assert (slot.agreed, slot.terms) == (commit.award.price, commit.terms)
    requester.acks("a", bids["a"].bid_id)
    requester.ends("a", slot.allocation_id, price=slot.agreed)
    assert requester.state.slots[0].price == slot.agreed


def test_with_one_bid_the_maximum_is_paid() -> None:
    requester, bids = closed("a")
    requester.opens("a", bids["a"])

    (commit,) = requester.sent(Commit)
    assert commit.award == Award(requester.terms.max_price)


def test_no_weights_decide_and_the_constraints_do() -> None:
    preferences = Preferences(constraints=("provider.id != 'a'",), weights={"reliability": 1.0})
    requester, bids = closed("a", "b", "c", preferences=preferences)
    for peer, bid in bids.items():
        requester.opens(peer, bid)

    assert requester.winner == "c"
    (commit,) = requester.sent(Commit)
    assert commit.award is not None
    assert commit.award.rival is not None
    assert commit.award.rival.provider == "b"


def test_after_a_silent_winner_the_next_is_paid_by_the_one_after_it() -> None:
    requester, bids = closed("a", "b", "c")
    for peer, bid in bids.items():
        requester.opens(peer, bid)
    requester.wait(ACK)

    (commit,) = requester.sent(Commit, PeerId("c"))
    assert commit.award is not None
    assert commit.award.rival == rival_from(bids["b"], PeerId("b"))


def test_a_bid_that_is_not_opened_in_time_is_none_and_its_bidder_is_left_out() -> None:
    requester, bids = closed("a", "b", "c")
    requester.opens("b", bids["b"])
    requester.opens("c", bids["c"])
    assert requester.sent(Commit) == []

    requester.wait(ACK)

    assert requester.noted(OpeningRefused) == [OpeningRefused(bids["a"].bid_id, PeerId("a"), OpeningFlaw.UNOPENED)]
    assert requester.sent(Release, PeerId("a")) == [Release(REQUEST, bids["a"].bid_id)]
    assert requester.winner == "c"
    seen = [found for event in requester.events for found in seen_in(event)]
    assert [(provider, kind) for provider, _, kind in seen] == [("a", Kind.UNOPENED)]
    requester.opens("a", bids["a"])
    assert requester.events == ()
    assert requester.sent(Release, PeerId("a")) == [Release(REQUEST, bids["a"].bid_id)]


def test_when_nobody_opens_it_waits_and_asks_again() -> None:
    requester, _ = closed("a")
    requester.wait(ACK)

    assert requester.noted(RequestWaiting)
    assert requester.state.search is SearchPhase.WAITING


@pytest.mark.parametrize(
    ("peer", "changed", "flaw"),
    [
        ("a", {"price": 99}, OpeningFlaw.ALTERED),
        ("a", {"price": 101}, OpeningFlaw.ALTERED),
        ("a", {"salt": b"another"}, OpeningFlaw.ALTERED),
        ("a", {"valid_ms": 60_000}, OpeningFlaw.ALTERED),
        ("a", {"slots": 2}, OpeningFlaw.ALTERED),
        ("b", {}, None),
    ],
)
def test_what_is_not_what_was_sealed_is_refused_by_name(
    peer: str, changed: dict[str, object], flaw: OpeningFlaw | None
) -> None:
    requester, bids = closed("a", "b")
    requester.opens(peer, msgspec.structs.replace(bids["a"], **changed))

    refused = [OpeningRefused(bids["a"].bid_id, PeerId("a"), flaw)] if flaw is not None else []
    assert requester.noted(OpeningRefused) == refused
    assert requester.sent(Release, PeerId(peer)) == [Release(REQUEST, bids["a"].bid_id)]
    assert requester.state.bids == {}
    assert (bids["a"].bid_id in requester.state.seals) is (flaw is None)  # a stranger takes nothing from its bidder


def test_what_is_opened_before_it_is_asked_for_is_refused_by_name() -> None:
    requester = market("a", "b")
    requester.opens("a", requester.seals("a"))

    assert [event.flaw for event in requester.noted(OpeningRefused)] == [OpeningFlaw.NOT_LISTED]


def test_what_comes_too_late_by_the_clock_alone_is_refused_by_name() -> None:
    requester, bids = closed("a", "b")
    requester.now += ACK
    requester.opens("a", bids["a"])

    assert OpeningRefused(bids["a"].bid_id, PeerId("a"), OpeningFlaw.LATE) in requester.events


def test_a_bid_dearer_than_what_it_was_sealed_under_is_refused_by_name() -> None:
    requester, bids = closed("a", prices=(2_000,))
    requester.opens("a", bids["a"])

    assert [event.flaw for event in requester.noted(OpeningRefused)] == [OpeningFlaw.TOO_DEAR]


def test_an_open_bid_takes_no_part_where_bids_are_sealed_and_a_sealed_one_none_where_they_are_open() -> None:
    sealed_market = market("a")
    sealed_market.bid("a")
    assert sealed_market.sent(Release, PeerId("a"))
    assert sealed_market.state.bids == {}

    open_market = Requester().submit("a")
    open_market.seals("a")
    assert open_market.sent(Release, PeerId("a"))
    assert open_market.state.seals == {}


def test_a_sealed_bid_in_the_name_of_another_is_released() -> None:
    requester = market("a")
    bid = requester.made("b", salt=b"s")
    told = SealedBid(REQUEST, 0, 0, bid.bid_id, seal_of(bid, PeerId("a")), 1_000, bid.valid_until, bid.valid_ms)
    from dms_proto.market.auction_stimuli import SealHeard
    from dms_proto.market.candidates import BidderFacts

    requester.tell(SealHeard(PeerId("a"), told, BidderFacts()))

    assert requester.sent(Release, PeerId("a"))
    assert requester.state.seals == {}


def test_only_so_many_sealed_bids_are_kept() -> None:
    requester = market("a", bids_wanted=MAX_SEALS + 2)
    for number in range(MAX_SEALS):
        requester.seals(f"p{number}", facts=BidderFacts(source=f"net {number}"))
    assert len(requester.state.seals) == MAX_SEALS

    requester.seals("one too many", facts=BidderFacts(source="net of its own"))
    assert requester.sent(Release, PeerId("one too many"))
    assert len(requester.state.seals) == MAX_SEALS


def test_one_provider_neither_fills_the_list_nor_closes_it() -> None:
    requester = market("h", "a", bids_wanted=2)
    for number in range(MAX_SEALS):
        requester.seals("h", number)
    assert len(requester.state.seals) == 1
    assert requester.sent_ever(Closing) == []

    requester.seals("a")

    assert requester.sent_to(Closing) == ["h", "a"]


def test_a_crowd_at_one_source_leaves_room_on_the_list() -> None:
    requester = market("a", bids_wanted=MAX_SEALS)
    for number in range(MAX_SEALS):
        requester.seals(f"p{number}", facts=BidderFacts(source="8.8.8.0/24"))
    assert len(requester.state.seals) == MAX_SEALS // SHARE

    honest = requester.seals("a", facts=BidderFacts(source="9.9.9.0/24"))

    assert honest.bid_id in requester.state.seals


def test_a_seal_that_has_expired_makes_room_for_the_next_of_its_bidder() -> None:
    requester = market("a", "b")
    first = requester.seals("a", valid_ms=100)
    requester.wait(100)

    second = requester.seals("a", 1)

    assert set(requester.state.seals) == {second.bid_id}
    assert first.bid_id not in requester.state.seals
    assert requester.restart() == requester.state


def test_who_is_left_out_takes_no_place_on_the_list() -> None:
    requester, bids = closed("a", "b")
    requester.opens("b", bids["b"])
    requester.wait(ACK)
    assert requester.noted(OpeningRefused)

    requester.seals("a", 1)

    assert requester.sent(Release, PeerId("a"))
    assert requester.state.seals == {}


def test_repeats_change_nothing() -> None:
    requester, bids = closed("a", "b")
    requester.opens("a", bids["a"])
    before = requester.state
    requester.opens("a", bids["a"])
    requester.seals("b", price=300)

    assert requester.state == before


def test_a_late_seal_is_released_when_the_slot_is_held() -> None:
    requester, bids = closed("a", "b")
    late = requester.seals("c")
    for peer, bid in bids.items():
        requester.opens(peer, bid)
    requester.acks("a", bids["a"].bid_id)

    assert requester.sent(Release, PeerId("c")) == [Release(REQUEST, late.bid_id)]
    assert requester.state.seals == {}


def test_a_bidder_that_went_away_is_not_waited_for() -> None:
    requester, bids = closed("a", "b")
    requester.opens("b", bids["b"])
    requester.tell(PeerLost(PeerId("a")))

    assert requester.winner == "b"


def test_after_a_restart_those_who_have_not_opened_are_asked_again_under_the_same_list() -> None:
    requester, bids = closed("a", "b")
    (asked,) = requester.sent(Closing, PeerId("a"))
    requester.opens("b", bids["b"])
    assert [effect.message for effect in resume(requester.restart())] == [asked]

    requester.opens("a", bids["a"])
    (commit,) = requester.sent(Commit)
    assert [effect.message for effect in resume(requester.restart())] == [commit]


def test_bids_of_a_closed_list_and_of_a_later_one_do_not_set_each_others_prices() -> None:
    requester, bids = closed("a", "b")
    requester.seals("c", price=150)
    requester.opens("a", bids["a"])
    requester.tell(PeerLost(PeerId("b")))

    (award,) = requester.noted(AwardMade)
    assert award.paid == Award(requester.terms.max_price)


# ---------------------------------------------------------------------------------------------------------------- provider


def test_a_sealed_bid_locks_its_capacity_and_tells_no_price() -> None:
    provider = Provider()
    sealed = provider.seals(request(cores=3, pricing=SECOND))

    assert provider.state.ledger.locked.cpu_millicores == 3_000
    held = provider.state.sealed[sealed.bid_id]
    assert seal_of(held.bid, ME) == sealed.seal
    assert len(held.bid.salt) == 32
    provider.check()


def test_it_is_opened_when_it_is_on_the_list_and_again_when_asked_again_but_not_for_another_list() -> None:
    provider = Provider()
    sealed = provider.seals(request(pricing=SECOND))
    other = ids.digest_of(b"other")

    (opened,) = provider.is_closed(sealed)
    assert [type(event) for event in provider.events] == [BidOpened]
    assert seal_of(opened, ME) == sealed.seal
    assert provider.is_closed(sealed) == [opened]
    assert provider.is_closed(sealed, other) == []
    assert provider.state.sealed[sealed.bid_id].seals == (sealed.seal,)


def test_left_out_it_says_nothing_and_is_free_when_it_is_released() -> None:
    provider = Provider()
    sealed = provider.seals(request(pricing=SECOND))
    bid = provider.state.sealed[sealed.bid_id].bid

    assert provider.is_closed(sealed, ids.digest_of(b"other"), listed=False) == []
    assert provider.effects == ()
    provider.is_released(bid)
    assert provider.noted(LockReleased) == [LockReleased(sealed.bid_id)]
    assert provider.state.sealed == {}


def test_nobody_else_can_have_it_opened() -> None:
    provider = Provider()
    sealed = provider.seals(request(pricing=SECOND), "a")

    assert provider.is_closed(sealed, requester="b") == []
    assert provider.effects == ()


def test_it_is_taken_at_the_price_that_the_list_gives_and_its_tariff_follows() -> None:
    provider = Provider()
    sealed = provider.seals(request(pricing=SECOND, max_price=100_000))
    rival = other_bid(sealed, 10_000)
    (bid,) = provider.is_closed(sealed, seal_of(rival, PeerId("rival")))

    (opened,) = provider.commits(bid, award=fair(bid, rival))

    assert bid.price < opened.reservation.price in (9_999, 10_000)
    assert opened.reservation.tariff.cpu_core_hour > TARIFF.cpu_core_hour
    assert provider.state.sealed == {}
    provider.check()


def other_bid(sealed: SealedBid, price: int) -> Bid:
    """What a rival of the provider has bid, as fast as itself."""
    offer = msgspec.structs.replace(request().needs, cpu_score=1_000)
    id_ = ids.bid_id(sealed.request_id, PeerId("rival"), 0)
    return Bid(sealed.request_id, 0, 0, id_, offer, 1, TARIFF, price, sealed.valid_until, sealed.valid_ms, b"r")


def fair(bid: Bid, rival: Bid) -> Award:
    from dms_proto.market.second_price import critical_price, offered

    price = critical_price(bid.request_id, offered(bid, ME), offered(rival, PeerId("rival")), 100_000)
    return Award(price, rival_from(rival, PeerId("rival")))


def test_any_other_price_is_refused_by_name_and_the_bid_stands() -> None:
    provider = Provider()
    sealed = provider.seals(request(pricing=SECOND, max_price=100_000))
    rival = other_bid(sealed, 10_000)
    (bid,) = provider.is_closed(sealed, seal_of(rival, PeerId("rival")))
    good = fair(bid, rival)
    invented = rival_from(msgspec.structs.replace(rival, price=bid.price + 1), PeerId("rival"))

    for award, named in (
        (None, "no_award"),
        (Award(bid.price), "price_differs"),
        (Award(good.price - 1, good.rival), "price_differs"),
        (Award(bid.price + 1, invented), "rival_unlisted"),
        (Award(bid.price, rival_from(bid, ME)), "rival_is_winner"),
    ):
        assert provider.commits(bid, award=award) == []
        (refused,) = provider.sent(CommitRefused)
        assert (refused.refusal, refused.detail) == (CommitRefusal.PRICE_UNPROVEN, named)
        assert provider.noted(CommitTurnedDown)
    assert len(provider.commits(bid, award=good)) == 1


def test_it_is_not_taken_before_the_list_was_shown() -> None:
    provider = Provider()
    sealed = provider.seals(request(pricing=SECOND, max_price=100_000))
    bid = provider.state.sealed[sealed.bid_id].bid

    assert provider.commits(bid, award=Award(100_000)) == []
    assert provider.sent(CommitRefused)[0].refusal is CommitRefusal.NOT_CLOSED


def test_an_award_for_an_open_bid_is_refused_by_name() -> None:
    provider = Provider()
    bid = provider.bids(request())

    assert provider.commits(bid, award=Award(bid.price)) == []
    assert provider.sent(CommitRefused)[0].refusal is CommitRefusal.PRICE_UNPROVEN


def test_an_owner_can_stay_out_of_second_prices() -> None:
    provider = Provider(policy=ProviderPolicy(tariff=TARIFF, second_price=False))

    (clause,) = provider.declines(request(pricing=SECOND)).clauses
    assert (clause.dimension, clause.nearest) == ("pricing", "first-price")
    assert provider.bids(request("other"))


def test_what_may_become_owed_for_a_sealed_bid_is_all_that_the_request_would_pay() -> None:
    provider = Provider()
    provider.tell(CreditSeen(PeerId("a"), 50_000))

    assert provider.declines(request("r", pricing=SECOND, max_price=100_000)).clauses[0].dimension == "credit"
    provider.seals(request("s", pricing=SECOND, max_price=40_000))
    assert provider.state.credit_left(PeerId("a")) == 10_000


def test_a_dry_run_is_answered_openly_and_locks_nothing() -> None:
    provider = Provider()
    bid = provider.bids(request(pricing=SECOND, dry_run=True))

    assert bid.salt == b""
    assert provider.state.ledger.locks == {}


def test_one_allocation_is_offered_whatever_is_asked_for() -> None:
    provider = Provider()
    sealed = provider.seals(request(pricing=SECOND, count=3))

    assert provider.state.sealed[sealed.bid_id].bid.slots == 1


def test_folding_the_log_gives_the_live_state() -> None:
    provider = Provider()
    sealed = provider.seals(request(pricing=SECOND))
    provider.is_closed(sealed)
    live = provider.state
    assert provider.restart() == live

    provider.now = sealed.valid_until + 1_000
    provider.tell(TimeCame())
    assert provider.state.sealed == {}


def test_a_tariff_that_costs_nothing_here_and_more_than_can_be_said_elsewhere_wins_like_any_other() -> None:
    requester = market("h", max_price=100_000)
    bid = requester.seals("h", price=1, tariff=Price(start=1, gpu_hour=MAX_QUANTITY))

    requester.opens("h", bid)

    (slot,) = requester.state.slots
    assert (slot.provider, slot.agreed) == ("h", 100_000)
    assert slot.tariff == Price(start=100_000, gpu_hour=MAX_QUANTITY)
