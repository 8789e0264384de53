"""Counts by name and reason, and histograms of sizes and times: what `dms status` and the bench read.

Tiny on purpose: a lock, two dicts, no export format. Names are the program's; reasons may come from a peer's message, so their number is bounded.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import Final

import msgspec

MAX_REASONS: Final = 64
"""Reasons kept per name. A peer that invents reasons must not fill the memory; those beyond count as `OTHER`."""
OTHER: Final = "other"
_STEPS_PER_DOUBLING: Final = 4
"""Buckets grow by 2^(1/4), so a percentile is at most 19 % too high."""
_EDGES: Final = tuple(2 ** (step / _STEPS_PER_DOUBLING) for step in range(-40, 161))
"""Upper edges from about 0.001 to about 10^12: microseconds to hours, or bytes to terabytes, whatever unit the name says."""


class Summary(msgspec.Struct, frozen=True):
    """A histogram in a few numbers. Percentiles are upper edges of their buckets, never above `maximum`."""

    count: int
    total: float
    minimum: float
    maximum: float
    p50: float
    p95: float
    p99: float


class Snapshot(msgspec.Struct, frozen=True):
    """Everything counted since the start. `counts`: name to reason to count; reason "" where the name says all."""

    counts: dict[str, dict[str, int]]
    summaries: dict[str, Summary]


class Counters:
    """Counts and histograms of one process. Every method may be called from any thread and takes about a microsecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, int]] = {}
        self._histograms: dict[str, _Histogram] = {}

    def inc(self, name: str, reason: str = "", by: int = 1) -> None:
        """Adds `by` to the count of `name` for `reason`."""
        with self._lock:
            reasons = self._counts.setdefault(name, {})
            if reason not in reasons and len(reasons) >= MAX_REASONS:
                reason = OTHER
            reasons[reason] = reasons.get(reason, 0) + by

    def observe(self, name: str, value: float) -> None:
        """Adds a measurement to the histogram of `name`; the name ends in its unit ("bid_round_ms")."""
        with self._lock:
            self._histograms.setdefault(name, _Histogram()).add(value)

    def count(self, name: str, reason: str | None = None) -> int:
        """The count of `name` for `reason`, or over all reasons."""
        with self._lock:
            reasons = self._counts.get(name, {})
            return sum(reasons.values()) if reason is None else reasons.get(reason, 0)

    def snapshot(self) -> Snapshot:
        """All of it at one moment; the copy does not change any more."""
        with self._lock:
            return Snapshot(
                counts={name: dict(reasons) for name, reasons in self._counts.items()},
                summaries={name: histogram.summary() for name, histogram in self._histograms.items()},
            )


class _Histogram:
    """Not thread-safe: `Counters` holds the lock."""

    __slots__ = ("_buckets", "_count", "_maximum", "_minimum", "_total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0
        self._total = 0.0
        self._minimum = float("inf")
        self._maximum = float("-inf")

    def add(self, value: float) -> None:
        bucket = bisect_left(_EDGES, value)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._count += 1
        self._total += value
        self._minimum = min(self._minimum, value)
        self._maximum = max(self._maximum, value)

    def summary(self) -> Summary:
        return Summary(
            self._count,
            self._total,
            self._minimum,
            self._maximum,
            self._percentile(0.50),
            self._percentile(0.95),
            self._percentile(0.99),
        )

    def _percentile(self, share: float) -> float:
        wanted, seen = share * self._count, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                edge = _EDGES[bucket] if bucket < len(_EDGES) else self._maximum
                return max(self._minimum, min(edge, self._maximum))
        return self._maximum
