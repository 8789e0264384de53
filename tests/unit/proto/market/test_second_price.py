"""Second prices: what the winner is paid, and what proves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto import ids
from dms_proto.capability import Capability, Price, Resources
from dms_proto.errors import UserError
from dms_proto.ids import Digest, PeerId
from dms_proto.market.candidates import Candidate
from dms_proto.market.preferences import Preferences, cheapest
from dms_proto.market.ranking import rank
from dms_proto.market.second_price import (
    AwardFlaw,
    Offered,
    Salts,
    by_price_alone,
    check_award,
    check_usable,
    critical_price,
    paid_tariff,
    rival_from,
    seal_of,
)
from dms_proto.messages import Award, Bid, BidRequest, Pricing
from dms_proto.units import CORE, GIB, HOUR, MAX_QUANTITY, MINUTE

REQUEST = ids.request_id(b"a request with a second price")
MOST = 1_000
NEEDS = Capability(resources=Resources(CORE, GIB), relayed=True, max_wall_ms=10 * MINUTE)
ASKED = BidRequest(REQUEST, 0, NEEDS, 1, 3, 2**32, MOST, 250, pricing=Pricing.SECOND_PRICE)


class Bidder(NamedTuple):
    """Somebody with capacity to sell: what running it costs it, and how fast its cores are."""

    name: str
    cost: int
    score: int


def bid_of(bidder: Bidder, price: int | None = None, salt: bytes = b"s" * 32) -> Bid:
    asked = bidder.cost if price is None else price
    offer = Capability(resources=Resources(8 * CORE, 16 * GIB), architecture="x86_64", cpu_score=bidder.score)
    id_ = ids.bid_id(REQUEST, PeerId(bidder.name), 0)
    return Bid(REQUEST, 0, 0, id_, offer, 1, Price(start=asked), asked, 10**13, 10_000, salt)


def outcome(bids: dict[str, Bid]) -> tuple[str, int] | None:
    """Who wins by the ranking that nodes use, and what it is paid."""
    candidates = [Candidate(b.bid_id, PeerId(name), b.offer, b.tariff, b.price) for name, b in bids.items()]
    order = rank(ASKED, candidates, by_price_alone(cheapest())).ranked
    if not order:
        return None
    first, *others = (
        Offered(e.provider, e.bid_id, bids[e.provider].price, bids[e.provider].offer.cpu_score) for e in order
    )
    return first.provider, critical_price(REQUEST, first, others[0] if others else None, MOST)


def gain(market: Sequence[Bidder], prices: Sequence[int], of: int) -> int:
    """What a bidder is paid beyond its cost."""
    bids = {b.name: bid_of(b, price) for b, price in zip(market, prices, strict=True)}
    won = outcome(bids)
    return won[1] - market[of].cost if won is not None and won[0] == market[of].name else 0


costs = st.integers(1, MOST + 100)
scores = st.sampled_from((0, 1, 700, 1_000, 1_001, 3_000))
markets = st.lists(st.tuples(costs, scores), min_size=1, max_size=6).map(
    lambda found: [Bidder(f"p{number}", *one) for number, one in enumerate(found)]
)


@given(markets, st.data())
def test_nobody_gains_by_bidding_anything_but_what_the_work_is_worth_to_it(
    market: list[Bidder], data: st.DataObject
) -> None:
    of = data.draw(st.integers(0, len(market) - 1))
    others = [data.draw(costs) for _ in market]
    honest = [*others[:of], market[of].cost, *others[of + 1 :]]
    shaded = [*others[:of], data.draw(costs), *others[of + 1 :]]

    assert gain(market, honest, of) >= 0
    assert gain(market, shaded, of) <= gain(market, honest, of)


@given(markets)
def test_what_is_paid_is_within_the_winners_bid_and_the_maximum(market: list[Bidder]) -> None:
    bids = {bidder.name: bid_of(bidder) for bidder in market}
    won = outcome(bids)

    assert won is None or bids[won[0]].price <= won[1] <= MOST


@given(markets)
def test_the_price_is_the_highest_at_which_the_winner_still_wins(market: list[Bidder]) -> None:
    bids = {bidder.name: bid_of(bidder) for bidder in market}
    won = outcome(bids)
    if won is None:
        return
    name, paid = won
    score = bids[name].offer.cpu_score

    assert outcome(bids | {name: bid_of(Bidder(name, paid, score))}) == won
    assert paid == MOST or outcome(bids | {name: bid_of(Bidder(name, paid + 1, score))}) != won


@given(markets, st.integers(1, MOST), scores)
def test_one_more_bid_never_raises_the_price_of_a_winner_that_stays(
    market: list[Bidder], price: int, score: int
) -> None:
    bids = {bidder.name: bid_of(bidder) for bidder in market}
    before, after = outcome(bids), outcome(bids | {"new": bid_of(Bidder("new", price, score))})

    assert before is None or after is None or after[0] != before[0] or after[1] <= before[1]


def test_with_nobody_else_the_maximum_is_paid_and_for_nothing_nothing() -> None:
    assert outcome({"a": bid_of(Bidder("a", 10, 1_000))}) == ("a", MOST)
    assert outcome({"a": bid_of(Bidder("a", 0, 1_000))}) == ("a", 0)


def test_a_rival_that_is_twice_as_fast_leaves_half_of_its_price() -> None:
    bids = {"slow": bid_of(Bidder("slow", 100, 1_000)), "fast": bid_of(Bidder("fast", 400, 2_000))}
    won = outcome(bids)

    assert won is not None
    assert won[0] == "slow"
    assert won[1] in (199, 200)  # equal prices per work are decided by hash


@given(
    st.builds(Price, *(st.integers(0, 10**7) for _ in range(5))),
    st.integers(0, 4 * HOUR),
    st.integers(0, 10**9),
)
def test_a_tariff_that_is_paid_more_covers_the_bids_own_and_stays_within_the_price(
    tariff: Price, wall_ms: int, more: int
) -> None:
    asked = tariff.cost(NEEDS.resources, wall_ms)
    paid = asked + more if asked else 0
    raised = paid_tariff(tariff, asked, paid)

    assert raised.cost(NEEDS.resources, wall_ms) <= paid
    for used in (0, wall_ms // 3, wall_ms):
        assert raised.cost(NEEDS.resources, used) >= tariff.cost(NEEDS.resources, used)


amounts = st.integers(0, MAX_QUANTITY)


@given(st.builds(Price, amounts, amounts, amounts, amounts, amounts), amounts, amounts)
def test_a_tariff_that_is_paid_more_is_one_that_can_be_said(tariff: Price, asked: int, more: int) -> None:
    raised = paid_tariff(tariff, asked, min(asked + more, MAX_QUANTITY))

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(raised), type=Price) == raised


# ------------------------------------------------------------------------------------------------------------------ proofs

WINNER = Bidder("winner", 100, 1_000)
RIVAL = Bidder("rival", 300, 1_000)


def award(rival: Bid | None = None, provider: str = "rival", price: int | None = None) -> Award:
    """What an honest requester says, but for the price if one is given."""
    mine = Offered(PeerId("winner"), bid_of(WINNER).bid_id, 100, 1_000)
    against = Offered(PeerId(provider), rival.bid_id, rival.price, rival.offer.cpu_score) if rival is not None else None
    fair = critical_price(REQUEST, mine, against, MOST)
    return Award(fair if price is None else price, rival_from(rival, PeerId(provider)) if rival is not None else None)


def flaw(given: Award | None, seals: Sequence[Digest] | None = None, bid: Bid | None = None) -> AwardFlaw | None:
    listed = [seal_of(bid_of(WINNER), PeerId("winner")), seal_of(bid_of(RIVAL), PeerId("rival"))]
    return check_award(bid or bid_of(WINNER), PeerId("winner"), MOST, listed if seals is None else seals, given)


def test_a_price_that_follows_from_the_list_is_accepted() -> None:
    assert flaw(award(bid_of(RIVAL))) is None
    assert flaw(award()) is None


@pytest.mark.parametrize("price", [99, 100, 298, 301, MOST, MOST + 1])
def test_any_other_price_is_named(price: int) -> None:
    assert flaw(award(bid_of(RIVAL), price=price)) is AwardFlaw.PRICE_DIFFERS


def test_a_rival_that_would_have_won_proves_nothing() -> None:
    better = bid_of(RIVAL, price=50)
    listed = [seal_of(bid_of(WINNER), PeerId("winner")), seal_of(better, PeerId("rival"))]

    assert flaw(award(better), listed) is AwardFlaw.PRICE_DIFFERS
    assert flaw(award(better, price=100), listed) is AwardFlaw.PRICE_DIFFERS


@pytest.mark.parametrize(
    "changed", [{"price": 101}, {"cpu_score": 2_000}, {"salt": b"t" * 32}, {"provider": PeerId("other")}]
)
def test_a_rival_that_was_changed_after_the_list_was_closed_is_named(changed: dict[str, object]) -> None:
    told = rival_from(bid_of(RIVAL), PeerId("rival"))

    assert flaw(Award(200, msgspec.structs.replace(told, **changed))) is AwardFlaw.RIVAL_UNLISTED


def test_what_else_an_award_can_lack_is_named() -> None:
    winner = PeerId("winner")

    assert flaw(None) is AwardFlaw.NO_AWARD
    assert flaw(award(), ()) is AwardFlaw.NOT_CLOSED
    assert flaw(award(), bid=bid_of(WINNER, salt=b"")) is AwardFlaw.NOT_SEALED
    assert flaw(None, bid=bid_of(WINNER, salt=b"")) is None
    assert flaw(Award(100, rival_from(bid_of(WINNER), winner))) is AwardFlaw.RIVAL_IS_WINNER


@given(st.integers(0, 10**6), st.binary(min_size=32, max_size=32), st.sampled_from(("winner", "rival")))
def test_a_seal_holds_every_part_of_a_bid_and_whose_it_is(price: int, salt: bytes, name: str) -> None:
    bid, other = bid_of(WINNER), bid_of(WINNER, price=price, salt=salt)
    same = (bid, "winner") == (other, name)

    assert (seal_of(bid, PeerId("winner")) == seal_of(other, PeerId(name))) is same
    assert seal_of(bid, PeerId("winner")) != seal_of(msgspec.structs.replace(bid, valid_ms=1), PeerId("winner"))


def test_salts_differ_by_secret_requester_and_bid() -> None:
    bids = [ids.bid_id(REQUEST, PeerId("p"), number) for number in range(2)]
    found = {Salts(secret).of(PeerId(who), bid) for secret in (b"x", b"y") for who in "ab" for bid in bids}

    assert len(found) == 8
    assert {len(salt) for salt in found} == {32}
    assert "x" not in repr(Salts(b"x"))


# ------------------------------------------------------------------------------------------------------------- what goes with it


@pytest.mark.parametrize("rule", ["price < 0.5", "price_per_work < 0.5 && provider.standing > 0.2"])
def test_a_constraint_on_the_price_is_refused_with_the_way_out(rule: str) -> None:
    with pytest.raises(UserError, match="looks at the price") as caught:
        check_usable(Preferences(constraints=(rule,)), 1)
    assert "max_price" in caught.value.hint


def test_several_allocations_are_refused_and_other_constraints_are_not() -> None:
    check_usable(Preferences(constraints=("provider.standing > 0.2", "link.rtt_ms < 50.0")), 1)
    with pytest.raises(UserError, match="for one allocation, and count is 3"):
        check_usable(Preferences(), 3)
