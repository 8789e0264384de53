from __future__ import annotations

import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.telemetry.counters import MAX_REASONS, OTHER, Counters


def test_counts_are_kept_by_name_and_reason() -> None:
    counters = Counters()
    counters.inc("refused", "expired")
    counters.inc("refused", "expired", by=2)
    counters.inc("refused", "bad_signature")
    counters.inc("sent")
    assert counters.snapshot().counts == {"refused": {"expired": 3, "bad_signature": 1}, "sent": {"": 1}}
    assert counters.count("refused") == 4
    assert counters.count("refused", "expired") == 3
    assert counters.count("never") == 0


def test_a_peer_that_invents_reasons_fills_no_memory_and_loses_no_count() -> None:
    counters = Counters()
    for number in range(10 * MAX_REASONS):
        counters.inc("refused", f"reason {number}")
    reasons = counters.snapshot().counts["refused"]
    assert len(reasons) == MAX_REASONS + 1
    assert reasons[OTHER] == 9 * MAX_REASONS
    assert counters.count("refused") == 10 * MAX_REASONS


def test_no_count_is_lost_between_threads() -> None:
    counters = Counters()

    def work() -> None:
        for _ in range(2000):
            counters.inc("done")
            counters.observe("ms", 1.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.count("done") == 16_000
    assert counters.snapshot().summaries["ms"].count == 16_000


def test_a_snapshot_does_not_change_any_more() -> None:
    counters = Counters()
    counters.inc("a")
    before = counters.snapshot()
    counters.inc("a")
    assert before.counts == {"a": {"": 1}}


def test_a_snapshot_can_be_sent_as_json() -> None:
    counters = Counters()
    counters.inc("a", "b")
    counters.observe("round_ms", 12.5)
    decoded = msgspec.json.decode(msgspec.json.encode(counters.snapshot()))
    assert decoded["counts"] == {"a": {"b": 1}}
    assert decoded["summaries"]["round_ms"]["p50"] == 12.5


@given(st.lists(st.floats(0.001, 1e12), min_size=1, max_size=200))
def test_percentiles_are_at_most_a_fifth_above_the_exact_ones_and_never_below(values: list[float]) -> None:
    counters = Counters()
    for value in values:
        counters.observe("x", value)
    summary = counters.snapshot().summaries["x"]
    assert summary.count == len(values)
    assert summary.total == pytest.approx(sum(values))
    assert (summary.minimum, summary.maximum) == (min(values), max(values))
    ordered = sorted(values)
    exact = ordered[(len(values) + 1) // 2 - 1]
    assert exact <= summary.p50 * 1.000001
    assert summary.p50 <= exact * 2**0.25 * 1.000001
    assert summary.minimum <= summary.p50 <= summary.p95 <= summary.p99 <= summary.maximum


@pytest.mark.parametrize("value", [0.0, -5.0, 1e30])
def test_values_outside_the_buckets_are_counted_too(value: float) -> None:
    counters = Counters()
    counters.observe("x", value)
    summary = counters.snapshot().summaries["x"]
    assert (summary.count, summary.minimum, summary.p50, summary.maximum) == (1, value, value, value)
