"""Laws of ranking, and the named mistakes of others that must not happen here."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms_proto.capability import Capability, ExecutorOffer, Gpu, Price, Resources
from dms_proto.ids import BidId, PeerId
from dms_proto.market.admission import cost_under
from dms_proto.market.candidates import Candidate
from dms_proto.market.comparator import CapabilityComparator
from dms_proto.market.ordering import MAX_BAND
from dms_proto.market.preferences import (
    PRESETS,
    Preferences,
    balanced,
    cheapest,
    fastest,
    own_machines_first,
)
from dms_proto.market.ranking import Decision, Ranking, decide, rank, replay
from dms_proto.market.terms import PENALTIES, SCALE, TERMS, UNCOUNTED
from dms_proto.market.terms.price import work_price
from dms_proto.reputation import FULL, NEWCOMER, NOTHING_KNOWN, Kind, noted, standing
from dms_proto.units import CREDIT, GIB, HOUR
from tests.unit.proto.market.market_strategies import (
    EASY,
    a_bid,
    a_request,
    bids,
    needs,
    offers,
    preferences,
    prices,
    weightings,
)

A100 = Gpu("0", "nvidia", "A100", 80 * GIB)


def winner(request, candidates, wishes) -> str:
    """The name given to `a_bid` of the best."""
    return rank(request, candidates, wishes).order[0].removeprefix("b-")


def place(ranking: Ranking, bid: Candidate) -> int:
    return ranking.order.index(bid.bid_id)


# ------------------------------------------------------------------------------------------------------------------- laws


@given(bids(), preferences())
def test_the_order_is_total_every_bid_has_exactly_one_place(candidates, wishes) -> None:
    ranking = rank(a_request(), candidates, wishes)
    everyone = [*ranking.order, *(entry.bid_id for entry in ranking.excluded)]
    assert sorted(everyone) == sorted(candidate.bid_id for candidate in candidates)


@given(bids(), preferences(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_arrival(candidates, wishes, random) -> None:
    shuffled = random.sample(candidates, len(candidates))
    for request in (a_request(), a_request(max_price=CREDIT // 10)):  # the second leaves some out
        assert rank(request, candidates, wishes) == rank(request, shuffled, wishes)


@given(bids(least=3), weightings())
def test_outside_the_band_the_order_is_transitive_and_does_not_depend_on_who_else_bids(candidates, weights) -> None:
    wishes = Preferences(weights=weights, spread_percent=0)
    order = rank(a_request(), candidates, wishes).order
    by_id = {candidate.bid_id: candidate for candidate in candidates}
    for i, first in enumerate(order):
        for second in order[i + 1 :]:
            assert rank(a_request(), [by_id[second], by_id[first]], wishes).order == (first, second)


def test_without_a_band_bids_of_equal_score_go_by_price_for_the_work_also_when_they_are_the_best() -> None:
    """Once the best two of equal score went by hash, but the same two behind a better one by price: who else bid decided."""
    own, cheap = a_bid("own", own=True, price=2_000), a_bid("cheap", price=1_000)
    wishes = Preferences(weights={"own_machines": 1.0, "rank": 1.0}, rank="provider.own ? 0.0 : 1.0", spread_percent=0)
    for n in range(20):
        ranking = rank(a_request(request_id=f"r-{n}"), [own, cheap], wishes)
        assert ranking.ranked[0].score == ranking.ranked[1].score
        assert ranking.order == ("b-cheap", "b-own")


@given(bids(least=2), preferences())
def test_two_bids_are_in_one_order_only(candidates, wishes) -> None:
    """Antisymmetric up to the stated tie-break: no two bids share a place, and the place follows from the key alone."""
    ranking = rank(a_request(), candidates, wishes)
    assert len(set(ranking.order)) == len(ranking.order)
    scores = [entry.score for entry in ranking.ranked]
    band = sum(any("by hash" in reason for reason in entry.reasons) for entry in ranking.ranked)
    assert scores[band:] == sorted(scores[band:], reverse=True)


BETTER = {
    "price": lambda bid: msgspec.structs.replace(bid, price=bid.price // 2, tariff=Price(start=bid.price // 2)),
    "speed": lambda bid: msgspec.structs.replace(
        bid, offer=msgspec.structs.replace(bid.offer, cpu_score=bid.offer.cpu_score * 3 // 2 + 1)
    ),
    "proximity": lambda bid: msgspec.structs.replace(bid, rtt_us=max(1, (bid.rtt_us or 200_000) // 2)),
    "direct": lambda bid: msgspec.structs.replace(bid, relayed=False),
    "own": lambda bid: msgspec.structs.replace(bid, own=True),
    "standing": lambda bid: msgspec.structs.replace(bid, standing=bid.standing + (FULL - bid.standing) // 2),
    "under way": lambda bid: msgspec.structs.replace(bid, at_work=bid.at_work // 2),
}
MORE = {
    "memory": lambda bid: _with_resources(bid, memory_bytes=bid.offer.resources.memory_bytes + 3 * GIB),
    "cpu": lambda bid: _with_resources(bid, cpu_millicores=bid.offer.resources.cpu_millicores + 4000),
    "disk": lambda bid: _with_resources(bid, disk_bytes=bid.offer.resources.disk_bytes + 9 * GIB),
    "gpu": lambda bid: _with_resources(bid, gpus=(A100,)),
}


def _with_resources(bid: Candidate, **amounts: object) -> Candidate:
    resources = msgspec.structs.replace(bid.offer.resources, **amounts)
    return msgspec.structs.replace(bid, offer=msgspec.structs.replace(bid.offer, resources=resources))


@settings(max_examples=60)
@pytest.mark.parametrize("respect", BETTER)
@given(candidates=bids(least=2), weights=weightings(), percent=st.sampled_from([0, 3, 20]), data=st.data())
def test_a_bid_that_gets_better_never_falls(respect, candidates, weights, percent, data) -> None:
    wishes = Preferences(weights=weights, spread_percent=percent)
    at = data.draw(st.integers(0, len(candidates) - 1))
    improved = [BETTER[respect](bid) if i == at else bid for i, bid in enumerate(candidates)]
    before, after = rank(a_request(), candidates, wishes), rank(a_request(), improved, wishes)
    assert place(after, candidates[at]) <= place(before, candidates[at])


THRIFTLESS = tuple(name for name in TERMS if name not in ("fit", "spare_gpu"))


@settings(max_examples=60)
@pytest.mark.parametrize("amount", MORE)
@given(candidates=bids(least=2), weights=weightings(THRIFTLESS), percent=st.sampled_from([0, 3, 20]), data=st.data())
def test_a_machine_with_more_never_falls_where_thrift_is_not_asked_for(
    amount, candidates, weights, percent, data
) -> None:
    """`fit` and `spare_gpu` prefer machines with less on purpose; no other term does."""
    wishes = Preferences(weights=weights, spread_percent=percent)
    at = data.draw(st.integers(0, len(candidates) - 1))
    grown = [MORE[amount](bid) if i == at else bid for i, bid in enumerate(candidates)]
    before, after = rank(a_request(), candidates, wishes), rank(a_request(), grown, wishes)
    assert place(after, candidates[at]) <= place(before, candidates[at])


@given(bids(least=2), preferences())
def test_a_dominating_bid_never_loses(candidates, wishes) -> None:
    request = a_request()
    ranking = rank(request, candidates, wishes)
    by_id = {candidate.bid_id: candidate for candidate in candidates}
    points = {entry.bid_id: entry.points for entry in ranking.ranked}
    for i, ahead in enumerate(ranking.order):
        for behind in ranking.order[i + 1 :]:
            mine = (-by_id[ahead].at_work, -work_price(by_id[ahead]), *points[ahead])
            theirs = (-by_id[behind].at_work, -work_price(by_id[behind]), *points[behind])
            dominated = mine != theirs and all(t >= m for m, t in zip(mine, theirs, strict=True))
            assert not dominated, f"{behind} is at least as good as {ahead} in everything"


@given(bids(), preferences())
def test_the_score_is_the_sum_of_its_summands_and_every_summand_is_weight_times_value(candidates, wishes) -> None:
    ranking = rank(a_request(), candidates, wishes)
    for entry in ranking.ranked:
        assert entry.score == sum(entry.points)
        for term, points in zip(ranking.terms, entry.points, strict=True):
            value, rest = divmod(points, term.weight)
            assert rest == 0
            assert (-SCALE <= value <= 0) if term.name in PENALTIES else (0 <= value <= SCALE)
        counted = zip(ranking.terms, entry.points, strict=True)
        assert sum(points for term, points in counted if term.name not in UNCOUNTED) <= ranking.unit


@given(bids(least=1), weightings(), st.sampled_from([2.0, 10.0]))
def test_only_the_proportions_of_the_weights_matter(candidates, weights, factor) -> None:
    scaled = {name: weight * factor for name, weight in weights.items()}
    one = rank(a_request(), candidates, Preferences(weights=weights))
    other = rank(a_request(), candidates, Preferences(weights=scaled))
    assert one.order == other.order


@given(bids(), preferences())
def test_a_stored_decision_replays_to_the_same_ranking_bit_for_bit(candidates, wishes) -> None:
    decision = decide(a_request(), candidates, wishes)
    stored = msgspec.msgpack.encode(decision)
    read_back = msgspec.msgpack.decode(stored, type=Decision)
    assert read_back == decision
    assert msgspec.msgpack.encode(replay(read_back)) == msgspec.msgpack.encode(decision.ranking)


@given(needs, st.lists(st.tuples(offers, prices, st.integers(0, 4 * CREDIT)), max_size=5), preferences())
def test_ranking_arbitrary_bids_neither_raises_nor_admits_what_does_not_fit(required, offered, wishes) -> None:
    request = a_request(required, max_price=2 * CREDIT)
    candidates = [
        Candidate(BidId(f"b-{i}"), PeerId(f"p{i}"), offer, tariff, price)
        for i, (offer, tariff, price) in enumerate(offered)
    ]
    ranking = rank(request, candidates, wishes)
    by_id = {candidate.bid_id: candidate for candidate in candidates}
    for bid_id in ranking.order:
        bid = by_id[bid_id]
        assert CapabilityComparator().fits(required, bid.offer)
        assert bid.tariff.cost(required.resources, required.max_wall_ms) <= bid.price <= request.max_price
    assert all(entry.clauses for entry in ranking.excluded)


@given(needs, prices)
def test_the_prepared_cost_is_the_cost(required, price) -> None:
    assert cost_under(required.resources, required.max_wall_ms)(price) == price.cost(
        required.resources, required.max_wall_ms
    )


@settings(max_examples=30)
@pytest.mark.parametrize("name", TERMS)
@given(candidates=bids(), required=st.sampled_from([EASY, Capability(Resources(1000, GIB, 0, (Gpu(),)), relayed=True)]))
def test_every_term_is_an_integer_within_its_range(name, candidates, required) -> None:
    value = TERMS[name](a_request(required))
    for candidate in candidates:
        if required.resources.gpus and not candidate.offer.resources.gpus:
            continue  # terms value only bids that fit
        low, high = (-SCALE, 0) if name in PENALTIES else (0, SCALE)
        assert low <= value(candidate) <= high
        assert type(value(candidate)) is int


# -------------------------------------------------------------------------------------------------------------- tie-break


@pytest.mark.parametrize("preset", PRESETS)
def test_equal_nodes_share_the_wins(preset: str) -> None:
    nodes = [a_bid(str(i)) for i in range(10)]
    wins = Counter(winner(a_request(request_id=f"r-{n}"), nodes, PRESETS[preset]()) for n in range(1_000))
    shares = sorted(wins[str(i)] for i in range(10))
    gini = sum((2 * i - 11) * share for i, share in enumerate(shares, start=1)) / (10 * sum(shares))
    assert gini < 0.3
    assert shares[0] > 0


def test_nodes_within_three_percent_share_the_wins_and_others_do_not() -> None:
    # Two of each kind, so that none is better than another in every respect.
    near = [a_bid("fast", score=1010, rtt_us=15_100), a_bid("close", score=1000, rtt_us=15_000)]
    far = a_bid("far", score=1000, rtt_us=120_000)
    wins = Counter(
        winner(a_request(request_id=f"r-{n}"), [*near, far], Preferences(weights={"speed": 50.0, "proximity": 50.0}))
        for n in range(200)
    )
    assert wins["far"] == 0
    assert min(wins["fast"], wins["close"]) > 60


@pytest.mark.parametrize("percent", [0, 3])
def test_of_equal_nodes_whoever_has_least_of_ours_under_way_goes_first(percent: int) -> None:
    loads = {"a": 2, "b": 0, "c": 7, "d": 1}
    for number in range(20):
        crowd = [a_bid(name, at_work=load) for name, load in loads.items()]
        ranking = rank(a_request(request_id=f"r-{number}"), crowd, Preferences(spread_percent=percent))
        assert ranking.order == ("b-b", "b-d", "b-a", "b-c")
        assert "7 allocations of ours under way there" in ranking.ranked[-1].reasons


def test_what_is_under_way_does_not_outweigh_a_better_bid() -> None:
    loaded, idle = a_bid("loaded", score=2000, at_work=50), a_bid("idle")
    assert winner(a_request(), [loaded, idle], balanced()) == "loaded"


def test_whoever_is_not_known_yet_is_as_good_as_who_is_when_that_is_not_held_against_it() -> None:
    proven = a_bid("proven", standing=FULL - 40_000, chance=40_000, at_work=1)
    newcomer = a_bid("newcomer", standing=NEWCOMER)
    assert winner(a_request(), [proven, newcomer], balanced()) == "proven"
    tried = msgspec.structs.replace(newcomer, chance=FULL - NEWCOMER)
    assert winner(a_request(), [proven, tried], balanced()) == "newcomer"
    assert rank(a_request(), [proven, tried], balanced()).equals(3) == 2


def test_a_cheaper_bid_within_the_band_goes_first_when_it_is_as_good_in_all_else() -> None:
    for n in range(50):
        request = a_request(request_id=f"r-{n}")
        assert winner(request, [a_bid("dear", price=101_000), a_bid("cheap", price=100_000)], balanced()) == "cheap"
        assert winner(request, [a_bid("dear", price=101_000), a_bid("cheap", price=100_999)], cheapest()) == "cheap"


@pytest.mark.parametrize(("other", "shares"), [("0.97", True), ("0.969999", False)])
def test_the_band_ends_at_exactly_three_percent_below_the_best(other: str, shares: bool) -> None:
    wishes = Preferences(weights={}, rank=f"provider.own ? 1.0 : {other}")
    ranking = rank(a_request(), [a_bid("a", own=True), a_bid("b")], wishes)
    assert [bool(entry.reasons) for entry in ranking.ranked] == [shares, shares]


def test_without_spread_only_exact_ties_are_shared() -> None:
    fast, close = a_bid("fast", score=1010, rtt_us=15_100), a_bid("close", score=1000, rtt_us=15_000)
    wishes = Preferences(weights={"speed": 50.0, "proximity": 50.0}, spread_percent=0)
    assert len({winner(a_request(request_id=f"r-{n}"), [fast, close], wishes) for n in range(50)}) == 1


def test_two_equal_bids_of_one_provider_have_a_stable_order() -> None:
    one = a_bid("a")
    two = msgspec.structs.replace(one, bid_id=BidId("b-b"))
    assert rank(a_request(), [one, two], balanced()) == rank(a_request(), [two, one], balanced())


def test_a_crowd_of_equal_bids_is_ordered_like_a_few() -> None:
    crowd = [a_bid(str(i)) for i in range(3 * MAX_BAND)]
    order = rank(a_request(), crowd, balanced()).order
    few = [bid for bid in crowd if bid.bid_id in order[:5]]
    assert rank(a_request(), few, balanced()).order == order[:5]


def test_a_bid_may_not_be_dominated_across_the_edge_of_the_band() -> None:
    crowd = [a_bid(str(i), rtt_us=20_000 + i) for i in range(2 * MAX_BAND)]
    order = rank(a_request(), crowd, Preferences(weights={"proximity": 1.0})).order
    assert order == tuple(bid.bid_id for bid in crowd)


# ------------------------------------------------------------------------------------------------------ named regressions


def test_a_gpu_job_is_not_ranked_by_free_main_memory() -> None:
    """Raw bytes of RAM once drowned GPU memory: the machine with most RAM won although its GPU was the smallest."""
    request = a_request(Capability(Resources(1000, GIB, GIB, (Gpu("", "nvidia", "", 8 * GIB),)), relayed=True))
    lots_of_ram = a_bid("ram", memory=1024 * GIB, gpus=(Gpu("0", "nvidia", "T4", 16 * GIB),))
    big_gpu = a_bid("gpu", memory=64 * GIB, gpus=(A100,))
    assert winner(request, [lots_of_ram, big_gpu], Preferences(weights={"memory": 1.0})) == "gpu"
    more_ram = _with_resources(lots_of_ram, memory_bytes=1024 * 1024 * GIB)
    value = TERMS["memory"](request)
    assert value(more_ram) == value(lots_of_ram), "main memory does not enter at all"


def test_dimensions_are_fractions_before_they_are_added() -> None:
    """A job that fills half the cores and a thousandth of the memory fits as well as one that does the reverse."""
    by_cpu = a_request(Capability(Resources(4096, GIB), relayed=True))
    by_memory = a_request(Capability(Resources(8, 512 * GIB), relayed=True))
    machine = a_bid("a", cpu=8192, memory=1024 * GIB)
    assert TERMS["fit"](by_cpu)(machine) == TERMS["fit"](by_memory)(machine) == (SCALE // 2 + SCALE // 1024) // 2


def test_each_price_is_multiplied_by_its_own_amount_not_all_by_the_same_seconds() -> None:
    """yapapi once multiplied every counter by the same seconds: a CPU-only job then paid for memory and GPU time as if it used them."""
    request = a_request(Capability(Resources(cpu_millicores=1000), relayed=True, max_wall_ms=HOUR), max_price=CREDIT)
    resources, wall = request.needs.resources, request.needs.max_wall_ms

    def priced(name: str, tariff: Price) -> Candidate:
        return msgspec.structs.replace(a_bid(name), tariff=tariff, price=tariff.cost(resources, wall))

    dear_gpus = priced("dear-gpus", Price(cpu_core_hour=100_000, memory_gib_hour=900_000, gpu_hour=900_000))
    plain = priced("plain", Price(cpu_core_hour=110_000))
    assert dear_gpus.price == 100_000, "memory and GPU cost nothing to a job that uses none"
    assert winner(request, [dear_gpus, plain], cheapest()) == "dear-gpus"
    half_as_long = msgspec.structs.replace(request, needs=msgspec.structs.replace(request.needs, max_wall_ms=HOUR // 2))
    started = priced("fee", Price(start=60_000, cpu_core_hour=50_000))
    assert started.price == 110_000
    assert started.tariff.cost(resources, half_as_long.needs.max_wall_ms) == 85_000, "the fee is not a matter of time"


@pytest.mark.parametrize("preset", ["balanced", "own-machines-first"])
def test_a_cpu_job_does_not_take_the_only_free_gpu_machine_when_another_fits(preset: str) -> None:
    gpu_machine = a_bid("gpu", price=0, score=4000, rtt_us=1, standing=FULL, gpus=(A100,))
    plain_machine = a_bid("plain", price=9 * CREDIT, score=1, rtt_us=900_000, relayed=True, standing=0)
    for n in range(20):
        assert winner(a_request(request_id=f"r-{n}"), [gpu_machine, plain_machine], PRESETS[preset]()) == "plain"
    assert winner(a_request(), [gpu_machine], PRESETS[preset]()) == "gpu", "rather than nowhere"


def test_a_gpu_job_is_not_kept_from_gpu_machines() -> None:
    request = a_request(Capability(Resources(1000, GIB, 0, (Gpu(),)), relayed=True))
    ranking = rank(request, [a_bid("gpu", gpus=(A100,))], balanced())
    assert ranking.order == ("b-gpu",)
    assert ranking.ranked[0].points[[term.name for term in ranking.terms].index("spare_gpu")] == 0


@pytest.mark.parametrize("wishes", [cheapest(), balanced()])
def test_slow_and_cheap_does_not_beat_fast_and_fair(wishes: Preferences) -> None:
    """Twice the speed at 1.8 times the price is the better price for the work."""
    slow = a_bid("slow", price=100_000, score=1000)
    fast = a_bid("fast", price=180_000, score=2000)
    assert winner(a_request(), [slow, fast], wishes) == "fast"


def test_fast_and_dear_does_not_beat_slow_and_fair_by_price() -> None:
    slow = a_bid("slow", price=100_000, score=1000)
    fast = a_bid("fast", price=220_000, score=2000)
    assert winner(a_request(), [slow, fast], cheapest()) == "slow"


def test_leaving_the_benchmark_out_does_not_pay() -> None:
    assert (
        winner(a_request(), [a_bid("unmeasured", price=1000, score=0), a_bid("slow", price=1000, score=10)], cheapest())
        == "slow"
    )


def standing_of(kept: int, faults: int = 0) -> int:
    evidence = NOTHING_KNOWN
    for kind in (*[Kind.KEPT] * kept, *[Kind.FAULT] * faults):
        evidence = noted(evidence, kind, 0)
    return standing(evidence, 0).score


def test_a_node_that_fails_three_starts_in_ten_loses_to_an_equal_one_within_twenty_jobs() -> None:
    flaky = a_bid("flaky", standing=standing_of(kept=14, faults=6))
    honest = a_bid("honest", standing=standing_of(kept=20))
    assert all(winner(a_request(request_id=f"r-{n}"), [flaky, honest], balanced()) == "honest" for n in range(50))
    recovered = a_bid("flaky", standing=standing_of(kept=400, faults=6))
    assert any(winner(a_request(request_id=f"r-{n}"), [recovered, honest], balanced()) == "flaky" for n in range(50))


def test_own_machines_come_first_however_dear_and_far() -> None:
    own = a_bid("own", price=9 * CREDIT, score=100, rtt_us=900_000, relayed=True, own=True)
    stranger = a_bid("stranger", price=0, score=4000, rtt_us=1, standing=FULL)
    assert winner(a_request(), [own, stranger], own_machines_first()) == "own"


def test_the_fastest_preset_takes_the_fastest_core_and_of_equals_the_nearest() -> None:
    assert winner(a_request(), [a_bid("a", score=2000), a_bid("b", score=1500, price=0)], fastest()) == "a"
    assert winner(a_request(), [a_bid("a", rtt_us=90_000), a_bid("b", rtt_us=1_000)], fastest()) == "b"


# -------------------------------------------------------------------------------------------------------------- exclusion


def excluded(candidate: Candidate, wishes: Preferences | None = None, **request: object) -> dict[str, str]:
    ranking = rank(a_request(**request), [candidate], wishes or balanced())
    assert ranking.order == ()
    return {clause.dimension: clause.observed for clause in ranking.excluded[0].clauses}


def test_a_machine_that_does_not_fit_is_left_out_with_its_clauses() -> None:
    assert excluded(a_bid("a", cpu=999, memory=GIB - 1)).keys() == {"cpu", "memory"}


def test_a_price_above_the_maximum_is_left_out() -> None:
    assert excluded(a_bid("a", price=CREDIT + 1), max_price=CREDIT) == {"price": "1.000001 credits"}


def test_a_price_below_its_own_tariff_is_left_out() -> None:
    """The bill rests on the tariff: a low stated price would only win the comparison."""
    liar = msgspec.structs.replace(a_bid("a"), tariff=Price(start=CREDIT), price=1)
    assert excluded(liar) == {"price": "0.000001 credits"}


@pytest.mark.parametrize(
    ("constraint", "observed"),
    [
        ("price < 0.01", "false"),
        ("offer.labels.zone == 'a'", "unknown: zone is not there"),
        ("link.rtt_ms < 5.0", "unknown: rtt_ms is not there"),
        ("price", "unknown: gives a number, not true or false"),
        ("price <", "unknown: "),
    ],
)
def test_a_constraint_that_is_not_true_leaves_the_bid_out_with_the_expression(constraint: str, observed: str) -> None:
    ranking = rank(a_request(), [a_bid("a")], Preferences(constraints=("true", constraint)))
    (clause,) = ranking.excluded[0].clauses
    assert (clause.dimension, clause.wanted) == ("constraint", constraint)
    assert clause.observed.startswith(observed)


def test_constraints_that_are_true_leave_everyone_in() -> None:
    wishes = Preferences(constraints=("price <= request.max_price", "offer.cpu >= request.cpu", "!link.relayed"))
    assert rank(a_request(), [a_bid("a"), a_bid("b")], wishes).excluded == ()


def test_what_one_bid_lacks_is_not_read_from_the_bid_before_it() -> None:
    wishes = Preferences(constraints=("link.rtt_ms < 50.0",))
    ranking = rank(a_request(), [a_bid("measured", rtt_us=1_000), a_bid("unmeasured")], wishes)
    assert ranking.order == ("b-measured",)


# -------------------------------------------------------------------------------------------------------------- cel rank


def test_a_rank_is_one_more_term_with_its_weight() -> None:
    many, few = a_bid("many", cpu=64_000), a_bid("few", cpu=1000)
    wishes = Preferences(weights={"rank": 10.0}, rank="offer.cpu >= 8.0 ? 1.0 : 0.0")
    ranking = rank(a_request(), [few, many], wishes)
    assert ranking.order == ("b-many", "b-few")
    assert [(term.name, term.weight) for term in ranking.terms] == [("rank", 10_000)]
    assert [entry.score / ranking.unit for entry in ranking.ranked] == [1.0, 0.0]


def test_a_rank_without_a_weight_counts_as_much_as_a_preset() -> None:
    ranking = rank(a_request(), [a_bid("a")], Preferences(rank="1.0"))
    assert {term.name: term.weight for term in ranking.terms}["rank"] == 100_000


def test_an_unknown_rank_counts_nothing_and_says_so() -> None:
    ranking = rank(a_request(), [a_bid("a")], Preferences(weights={}, rank="link.rtt_ms / 100.0"))
    assert ranking.ranked[0].score == 0
    assert ranking.ranked[0].reasons == ("rank is unknown and counts nothing: rtt_ms is not there",)


@pytest.mark.parametrize(("rank_", "score"), [("7.0", 1.0), ("-7.0", 0.0), ("1.0", 1.0), ("0.0", 0.0), ("0.25", 0.25)])
def test_a_rank_is_held_between_nothing_and_one(rank_: str, score: float) -> None:
    ranking = rank(a_request(), [a_bid("a")], Preferences(weights={}, rank=rank_))
    assert ranking.ranked[0].score / ranking.unit == score
    assert bool(ranking.ranked[0].reasons) == ("7" in rank_)


# --------------------------------------------------------------------------------------------------------------- the rest


def test_no_bids_give_an_empty_ranking() -> None:
    assert rank(a_request(), [], balanced()).order == ()


def test_without_weights_the_price_for_the_work_decides() -> None:
    assert winner(a_request(), [a_bid("a", price=2), a_bid("b", price=1)], Preferences(weights={})) == "b"


def test_a_penalty_does_not_count_in_what_a_perfect_bid_scores() -> None:
    wishes = Preferences(weights={"speed": 2.0, "own_machines": 1.0, "spare_gpu": 100.0})
    assert rank(a_request(), [a_bid("a")], wishes).unit == 3_000 * SCALE


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_weight_no_check_would_pass_weighs_nothing(weight: float) -> None:
    ranking = rank(a_request(), [a_bid("a")], Preferences(weights={"price": weight, "speed": 1.0, "luck": 1.0}))
    assert [term.name for term in ranking.terms] == ["speed"]


def test_the_story_of_a_score_reads_as_its_sum() -> None:
    ranking = rank(a_request(), [a_bid("a", price=0, score=1000)], Preferences(weights={"price": 3.0, "speed": 1.0}))
    assert ranking.story(ranking.ranked[0]) == "score 0.875 = price 0.750 + speed 0.125"


def test_bids_that_share_the_wins_say_so() -> None:
    ranking = rank(a_request(), [a_bid("a"), a_bid("b"), a_bid("c", price=9 * CREDIT)], balanced())
    assert ["by hash" in " ".join(entry.reasons) for entry in ranking.ranked] == [True, True, False]


def test_a_plug_in_ranks_instead_and_its_decision_is_kept() -> None:
    def by_name(request, candidates, wishes) -> Ranking:
        ranking = rank(request, candidates, wishes)
        return msgspec.structs.replace(ranking, ranked=tuple(sorted(ranking.ranked, key=lambda entry: entry.bid_id)))

    decision = decide(a_request(), [a_bid("z"), a_bid("a", price=9 * CREDIT)], balanced(), ranker=by_name)
    assert decision.ranking.order == ("b-a", "b-z")
    assert replay(decision, ranker=by_name) == decision.ranking
    assert CapabilityComparator().rank(a_request(), decision.candidates, balanced()).order == ("b-z", "b-a")


def test_needs_for_executors_are_checked_in_the_offer() -> None:
    request = a_request(Capability(executors=(ExecutorOffer("wasm"),), relayed=True))
    offer = Capability(executors=(ExecutorOffer("wasm", "50"),))
    bid = Candidate(BidId("b-1"), PeerId("p"), offer, Price(), 0)
    assert rank(request, [bid, a_bid("none")], balanced()).order == (BidId("b-1"),)
