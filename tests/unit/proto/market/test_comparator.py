"""Laws of comparing: the short and the long answer agree, fitting is an order, more never hurts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.capability import Capability, Gpu, Price, Resources
from dms_proto.egress import Egress
from dms_proto.market.comparator import CapabilityComparator, Comparator
from dms_proto.market.comparison import compare, fits
from dms_proto.market.dimensions import TABLE, Question
from dms_proto.market.verdicts import FITTING, Verdict
from dms_proto.messages import Decline
from dms_proto.units import CREDIT, GIB
from tests.unit.proto.market.market_strategies import capabilities, gpu_devices, offers, pairs, variants

GRADED = ("cpu", "memory", "disk", "cpu_score")
max_prices = st.one_of(st.none(), st.integers(0, 4 * CREDIT))


@given(pairs, max_prices)
def test_the_short_and_the_long_answer_agree_in_every_dimension(pair, max_price) -> None:
    required, offered = pair
    for dimension in TABLE:
        test = dimension.test(required, max_price)
        judged = list(dimension.judge(Question(required, offered, None, max_price)))
        fitting = all(d.verdict in FITTING for d in judged)
        assert (test is None or test(offered)) == fitting, dimension.name
    assert fits(required, offered, max_price=max_price) == compare(required, offered, max_price=max_price).fits


@given(pairs, max_prices)
def test_a_clause_stands_exactly_where_it_does_not_fit(pair, max_price) -> None:
    required, offered = pair
    comparison = compare(required, offered, total=offered.resources, max_price=max_price)
    for judged in comparison.dimensions:
        assert (judged.clause is None) == (judged.verdict in FITTING)
        if judged.clause is not None:
            assert judged.clause.dimension == judged.dimension
            assert judged.clause.wanted
            assert judged.clause.observed
    assert comparison.fits == (not comparison.clauses)


@given(pairs, max_prices)
def test_the_verdict_over_all_is_the_worst_that_was_found(pair, max_price) -> None:
    required, offered = pair
    comparison = compare(required, offered, max_price=max_price)
    found = {d.verdict for d in comparison.dimensions}
    order = (Verdict.WORSE, Verdict.INCOMPARABLE, Verdict.BETTER, Verdict.EQUAL)
    assert comparison.verdict is next(v for v in order if v in found)


@given(capabilities(gpu_devices()))
def test_everything_is_equal_to_itself(capability: Capability) -> None:
    assert compare(capability, capability).verdict is Verdict.EQUAL


@given(offers, offers)
def test_better_one_way_is_worse_the_other_way(one: Capability, other: Capability) -> None:
    forth, back = compare(one, other), compare(other, one)
    opposite = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER, Verdict.EQUAL: Verdict.EQUAL}
    for name in GRADED:
        there, again = forth.of(name), back.of(name)
        assert there is not None
        assert again is not None
        assert again.verdict is opposite[there.verdict], name


chains = offers.flatmap(
    lambda first: variants(first).flatmap(lambda second: st.tuples(st.just(first), st.just(second), variants(second)))
)


@given(chains)
def test_what_fits_what_fits_fits(chain: tuple[Capability, Capability, Capability]) -> None:
    # Empty classes and no longest run mean "all" when offered and "nothing asked" when required, so they do not chain.
    first, second, third = (msgspec.structs.replace(c, job_classes=(), max_wall_ms=0) for c in chain)
    if fits(first, second) and fits(second, third):
        assert fits(first, third)


@given(
    pairs,
    st.sampled_from(["cpu_millicores", "memory_bytes", "disk_bytes"]),
    st.integers(0, 64 * GIB),
)
def test_more_of_an_amount_never_turns_a_fit_into_a_misfit(pair, field, extra) -> None:
    required, offered = pair
    more = msgspec.structs.replace(
        offered,
        resources=msgspec.structs.replace(offered.resources, **{field: getattr(offered.resources, field) + extra}),
    )
    assert fits(required, offered) <= fits(required, more)
    ranks = [Verdict.WORSE, Verdict.EQUAL, Verdict.BETTER]
    for before, after in zip(compare(required, offered).dimensions, compare(required, more).dimensions, strict=True):
        if before.dimension in GRADED:
            assert ranks.index(after.verdict) >= ranks.index(before.verdict)


@given(pairs, st.integers(0, CREDIT), st.integers(0, CREDIT))
def test_a_lower_tariff_and_a_higher_maximum_never_hurt(pair, less, more) -> None:
    required, offered = pair
    cheaper = msgspec.structs.replace(
        offered, price=msgspec.structs.replace(offered.price, start=max(0, offered.price.start - less))
    )
    maximum = CREDIT
    assert fits(required, offered, max_price=maximum) <= fits(required, cheaper, max_price=maximum)
    assert fits(required, offered, max_price=maximum) <= fits(required, offered, max_price=maximum + more)


@given(pairs, offers)
def test_waiting_helps_exactly_where_the_registered_amount_would_do(pair, full) -> None:
    required, offered = pair
    total = Resources(
        max(offered.resources.cpu_millicores, full.resources.cpu_millicores),
        max(offered.resources.memory_bytes, full.resources.memory_bytes),
        max(offered.resources.disk_bytes, full.resources.disk_bytes),
        offered.resources.gpus,
    )
    when_free = compare(required, msgspec.structs.replace(offered, resources=total))
    for judged in compare(required, offered, total=total).dimensions:
        if judged.clause is not None:
            later = when_free.of(judged.dimension)
            assert judged.clause.passing == (later is not None and later.verdict in FITTING)


@given(pairs)
def test_clauses_can_be_sent(pair) -> None:
    required, offered = pair
    clauses = compare(required, offered, total=offered.resources, max_price=0).clauses
    if clauses:
        decline = Decline("r-" + "a" * 26, 0, clauses)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(decline), type=Decline) == decline


def test_very_long_names_still_give_clauses_that_can_be_sent() -> None:
    required = Capability(labels={f"{i}" * 128: "x" * 128 for i in range(10)}, libraries=("l" * 128,) * 60)
    clauses = compare(required, Capability()).clauses
    decline = Decline("r-" + "a" * 26, 0, clauses)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(decline), type=Decline) == decline
    assert len(clauses) == 32


def test_gpu_kinds_of_every_length_give_clauses_that_can_be_sent() -> None:
    required = Capability(Resources(gpus=tuple(Gpu(model=f"{i:03d}" * 40) for i in range(200))))
    offered = Capability(Resources(gpus=tuple(Gpu(str(i), model=f"x{i:03d}" * 30) for i in range(200))))
    decline = Decline("r-" + "a" * 26, 0, compare(required, offered).clauses)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(decline), type=Decline) == decline


def test_the_tariff_is_not_compared_unless_a_maximum_is_given() -> None:
    offered = Capability(price=Price(start=CREDIT))
    assert compare(Capability(), offered).of("price") is None
    assert compare(Capability(), offered, max_price=0).of("price") is not None


def test_the_comparator_is_a_comparator() -> None:
    comparator: Comparator = CapabilityComparator()
    assert comparator.compare(Capability(), Capability()).fits
    assert CapabilityComparator().fits(Capability(), Capability())


@pytest.mark.parametrize("dimension", [dimension.name for dimension in TABLE])
def test_every_dimension_can_stand_in_the_way_alone(dimension: str) -> None:
    from dms_proto.capability import ExecutorOffer, JobClass

    offered = Capability(
        Resources(1, 1, 1, (Gpu("0", milli=1),)),
        architecture="x",
        cpu_score=1,
        country="DE",
        job_classes=(JobClass.BATCH,),
        max_wall_ms=1,
        egress=Egress(("a:1",), 1),
        relayed=True,
        price=Price(start=1),
    )
    asked = {
        "cpu": {"resources": Resources(2)},
        "memory": {"resources": Resources(0, 2)},
        "disk": {"resources": Resources(0, 0, 2)},
        "gpu": {"resources": Resources(gpus=(Gpu(),))},
        "architecture": {"architecture": "y"},
        "cpu_score": {"cpu_score": 2},
        "executor": {"executors": (ExecutorOffer("wasm"),)},
        "library": {"libraries": ("a",)},
        "label": {"labels": {"a": "b"}},
        "country": {"country": "FR"},
        "relayed": {"relayed": False},
        "job_class": {"job_classes": (JobClass.SERVICE,)},
        "egress": {"egress": Egress(("b:1",))},
        "egress_bytes": {"egress": Egress(("a:1",), 2)},
        "wall_time": {"max_wall_ms": 2},
        "price": {},
    }[dimension]
    required = Capability(**({"relayed": True} | asked))  # type: ignore[arg-type]
    clauses = compare(required, offered, max_price=0 if dimension == "price" else None).clauses
    assert [clause.dimension.partition(":")[0].partition("_share")[0] for clause in clauses] == [dimension]
