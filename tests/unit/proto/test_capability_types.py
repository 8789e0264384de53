from __future__ import annotations

from fractions import Fraction
from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.capability import NOTHING, Capability, Gpu, Price, Resources
from dms_proto.units import GIB, HOUR
from dms_proto.work import DETERMINISTIC, NODE_FAULTS, OWNERS, EndReason, Limits, Task

tariffs = st.integers(0, 10**9)
prices = st.builds(Price, tariffs, tariffs, tariffs, tariffs, tariffs)
gpus = st.builds(Gpu, milli=st.integers(0, 1000), memory_bytes=st.integers(0, 2**40))
resources = st.builds(
    Resources,
    st.integers(0, 1_000_000),
    st.integers(0, 2**44),
    st.integers(0, 2**50),
    st.lists(gpus, max_size=4).map(tuple),
)
spans = st.integers(0, 10**10)


def exact(price: Price, held: Resources, millis: int) -> Fraction:
    """The cost without any rounding, written from the definition of a tariff."""
    per_hour = (
        Fraction(price.cpu_core_hour * held.cpu_millicores, 1000)
        + Fraction(price.memory_gib_hour * held.memory_bytes, GIB)
        + Fraction(price.disk_gib_hour * held.disk_bytes, GIB)
        + Fraction(price.gpu_hour * sum(gpu.milli for gpu in held.gpus), 1000)
    )
    return price.start + per_hour * Fraction(millis, HOUR)


@given(prices, resources, spans)
def test_a_cost_is_the_exact_cost_rounded_up_once(price: Price, held: Resources, millis: int) -> None:
    assert price.cost(held, millis) == ceil(exact(price, held, millis))


@given(prices, resources, spans, spans)
def test_longer_never_costs_less(price: Price, held: Resources, millis: int, more: int) -> None:
    assert price.cost(held, millis + more) >= price.cost(held, millis)


@given(prices, resources, st.integers(0, 10**6), st.integers(0, 2**40), spans)
def test_holding_more_never_costs_less(price: Price, held: Resources, cpu: int, memory: int, millis: int) -> None:
    larger = msgspec.structs.replace(
        held, cpu_millicores=held.cpu_millicores + cpu, memory_bytes=held.memory_bytes + memory
    )
    assert price.cost(larger, millis) >= price.cost(held, millis)


@given(prices, resources, spans, spans)
def test_splitting_a_span_in_two_costs_at_most_one_start_and_one_rounding_more(
    price: Price, held: Resources, first: int, second: int
) -> None:
    whole, parts = price.cost(held, first + second), price.cost(held, first) + price.cost(held, second)
    assert whole <= parts <= whole + price.start + 1


@given(prices, resources, spans, st.integers(0, 10**15), st.integers(0, 99))
def test_a_tariff_comes_down_to_what_is_paid_and_no_further_than_it_may(
    price: Price, held: Resources, millis: int, most: int, percent: int
) -> None:
    cost, came = price.cost(held, millis), price.down_to(most, held, millis, percent)
    least = price.start + Fraction((cost - price.start) * (100 - percent), 100)

    if cost <= most or most < least:
        assert came == price
    else:
        assert came.start <= came.cost(held, millis) <= most
        assert came.start == price.start
        parts = zip(msgspec.structs.astuple(came), msgspec.structs.astuple(price), strict=True)
        assert all(now <= before for now, before in parts)


def test_nothing_held_costs_the_start_fee_alone() -> None:
    assert Price(start=7, cpu_core_hour=10**6).cost(NOTHING, HOUR) == 7


def test_one_core_for_one_hour_costs_the_tariff() -> None:
    assert Price(cpu_core_hour=20_000).cost(Resources(cpu_millicores=1000), HOUR) == 20_000


@given(resources, st.integers(0, 8))
def test_copies_are_independent_needs(held: Resources, factor: int) -> None:
    copies = held.times(factor)
    assert copies.cpu_millicores == held.cpu_millicores * factor
    assert copies.memory_bytes == held.memory_bytes * factor
    assert copies.disk_bytes == held.disk_bytes * factor
    assert len(copies.gpus) == len(held.gpus) * factor


words = st.text(max_size=128)  # the bounds of what may arrive, see `rules`


@given(st.builds(Capability, resources=resources, price=prices, labels=st.dictionaries(words, words, max_size=64)))
def test_a_capability_survives_its_encoding(capability: Capability) -> None:
    raw = msgspec.msgpack.encode(capability)
    assert msgspec.msgpack.decode(raw, type=Capability) == capability


def test_a_task_survives_its_encoding() -> None:
    task = Task("sandbox", ("true",), environment={"A": "1"}, limits=Limits(wall_ms=5))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(task), type=Task) == task


@pytest.mark.parametrize("reason", EndReason)
def test_every_ending_has_an_owner(reason: EndReason) -> None:
    assert reason in OWNERS


def test_no_ending_is_both_the_jobs_own_and_the_nodes_fault() -> None:
    assert not DETERMINISTIC & NODE_FAULTS
    assert EndReason.COMPLETED not in DETERMINISTIC | NODE_FAULTS
