from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms.net.config import RateLimit
from dms.net.limits import Backoff, Bucket, Meter, Spans

LIMIT = RateLimit(frames_per_s=10, frames_burst=20, bytes_per_s=1000, bytes_burst=2000)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 50)), max_size=100))
def test_a_bucket_never_gives_more_than_burst_and_rate_allow(steps: list[tuple[float, int]]) -> None:
    bucket, now, given_out = Bucket(10, 50), 0.0, 0
    for wait, amount in steps:
        now += wait
        if bucket.take(amount, now):
            given_out += amount
        assert given_out <= 50 + 10 * now + 1e-6


def test_a_clock_that_runs_backwards_adds_nothing() -> None:
    bucket = Bucket(10, 10)
    assert bucket.take(10, 5.0)
    assert not bucket.take(1, 1.0)


def test_spending_into_debt_tells_how_long_it_takes_to_pay() -> None:
    bucket = Bucket(10, 10)
    assert bucket.spend(10, 0.0) == 0
    assert bucket.spend(5, 0.0) == 0.5
    assert bucket.spend(0, 0.5) == 0


def test_a_burst_passes_and_what_is_above_is_refused() -> None:
    meter = Meter(LIMIT)
    assert [meter.admit(10, 1.0) for _ in range(25)] == [True] * 20 + [False] * 5


def test_bytes_count_as_well_as_frames() -> None:
    meter = Meter(LIMIT)
    assert meter.admit(1500, 1.0)
    assert not meter.admit(1500, 1.0)
    assert meter.admit(400, 1.0)


def test_after_a_quiet_time_a_burst_passes_again() -> None:
    meter = Meter(LIMIT)
    for _ in range(25):
        meter.admit(10, 1.0)
    assert meter.admit(10, 60.0)


def test_a_ban_ends_by_itself_or_when_lifted() -> None:
    bans = Spans()
    bans.add("a", 10, now=100)
    bans.add("b", 10, now=100)
    assert bans.holds("a", 109.9)
    assert not bans.holds("a", 110)
    bans.add("b", 0, now=101)
    assert not bans.holds("b", 102)
    assert len(bans) == 0


def test_running_bans_are_listed_with_what_is_left_of_them() -> None:
    bans = Spans()
    bans.add("a", 10, now=100)
    bans.add("b", 2, now=100)
    assert bans.running(103) == (("a", 7),)


def test_a_crowd_of_identities_does_not_grow_the_table() -> None:
    bans = Spans()
    for number in range(10_000):
        bans.add(f"peer {number}", 60 + number, now=0)
    assert len(bans) <= 4_096
    assert bans.holds("peer 9999", 1)


def test_waits_double_up_to_the_longest_and_begin_again() -> None:
    backoff = Backoff(1, 5)
    assert [backoff.next(1) for _ in range(4)] == [1, 2, 4, 5]
    assert backoff.next(0) == 2.5
    backoff.reset()
    assert backoff.next(1) == 1


def test_a_ban_says_how_long_it_lasts() -> None:
    bans = Spans()
    bans.add("a", 10, now=5)
    assert [bans.left("a", 7), bans.left("a", 20), bans.left("b", 7)] == [8, 0, 0]
