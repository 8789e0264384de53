"""Token buckets: what fits in passes, what does not is refused, and one peer's flood is its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.ids import PeerId
from dms_proto.messages import KINDS
from dms_proto.wire import DEFAULT_LIMITS, ClassBuckets, KindClass, Limit, TokenBucket, kind_class

A, B = PeerId("A"), PeerId("B")
TWO = {KindClass.MARKET: Limit(per_second=1, burst=2)}


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(Limit(per_second=10, burst=3), now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(99)
    assert bucket.take(100)
    assert not bucket.take(199)
    assert bucket.take(200)


def test_a_refused_take_costs_nothing() -> None:
    bucket = TokenBucket(Limit(1, 1), now=0)
    assert bucket.take(0)
    assert not any(bucket.take(now) for now in range(1, 1_000))
    assert bucket.take(1_000)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(Limit(100, 2), now=0)
    assert [bucket.take(10**9) for _ in range(3)] == [True, True, False]


def test_a_cost_above_one_takes_as_many() -> None:
    bucket = TokenBucket(Limit(1, 5), now=0)
    assert bucket.take(0, cost=5)
    assert not bucket.take(999)


def test_a_clock_that_goes_back_gains_nothing_and_goes_on() -> None:
    bucket = TokenBucket(Limit(1, 1), now=10_000)
    assert bucket.take(10_000)
    assert not bucket.take(0)
    assert bucket.take(1_000)


@given(
    pauses=st.lists(st.integers(0, 500), min_size=1, max_size=200),
    rate=st.integers(1, 50),
    burst=st.integers(1, 20),
)
def test_over_any_time_no_more_passes_than_burst_and_rate_allow(pauses: list[int], rate: int, burst: int) -> None:
    bucket, now, passed = TokenBucket(Limit(rate, burst), now=0), 0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(now)
        assert passed <= burst + now * rate / 1_000


def test_one_peers_flood_leaves_the_others_alone() -> None:
    buckets = ClassBuckets(TWO)
    assert [buckets.take(A, KindClass.MARKET, 0) for _ in range(3)] == [True, True, False]
    assert buckets.take(B, KindClass.MARKET, 0)
    assert buckets.take(A, KindClass.STREAM, 0)


def test_memory_is_bounded_and_only_full_buckets_are_forgotten() -> None:
    buckets = ClassBuckets(TWO, max_buckets=2)
    assert [buckets.take(A, KindClass.MARKET, 0) for _ in range(3)] == [True, True, False]
    assert buckets.take(B, KindClass.MARKET, 0)
    assert not buckets.take(PeerId("C"), KindClass.MARKET, 0)
    assert buckets.take(PeerId("C"), KindClass.MARKET, 1_000)  # B's is full again
    assert len(buckets) == 2
    assert buckets.take(A, KindClass.MARKET, 1_000)
    assert not buckets.take(A, KindClass.MARKET, 1_000)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_class_with_a_limit(kind: str) -> None:
    assert kind_class(kind) in DEFAULT_LIMITS


def test_asking_is_cheaper_than_answering_and_limited_apart() -> None:
    """A request costs its receiver more than any other message: whoever may send thousands of those may not ask as often."""
    assert kind_class("BidRequest") is KindClass.REQUEST
    assert DEFAULT_LIMITS[KindClass.REQUEST].burst < DEFAULT_LIMITS[kind_class("Commit")].per_second


def test_every_class_has_a_limit_that_lets_something_through() -> None:
    assert set(DEFAULT_LIMITS) == set(KindClass)
    assert all(limit.per_second >= 1 and limit.burst >= 1 for limit in DEFAULT_LIMITS.values())
