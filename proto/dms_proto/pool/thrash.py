"""A guard against thrashing: what is not evicted, since it would only have to be started again.

A container stays at least as long as its start took: so at most half of the time goes into starting. And where images that were evicted come back
too often, nothing is evicted for a while: there is not enough room for what is wanted, and no order of eviction can make any. What lower tiers do
to each other stops no higher one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from dms_proto.pool.records import Container, Image

REMEMBERED: int = 256
"""Images of which it is known when they were last evicted."""


class Recreation(msgspec.Struct, frozen=True):
    """An image that had been evicted was started anew, for a tier, at `at` (Unix ms)."""

    at: int
    tier: int


def settled_at(container: Container) -> int:
    """Unix ms from which on a container may be evicted."""
    return container.ready_at + container.start_ms


def is_recreation(evicted: Mapping[Image, int], image: Image, now: int, window_ms: int) -> bool:
    """Whether an image that is wanted now was evicted within the window."""
    at = evicted.get(image)
    return at is not None and now - at <= window_ms


def within(recreated: Iterable[Recreation], now: int, window_ms: int) -> tuple[Recreation, ...]:
    """Those within the window, oldest first."""
    return tuple(each for each in recreated if now - each.at < window_ms)


def thrashes_until(recreated: Iterable[Recreation], now: int, window_ms: int, most: int) -> int:
    """Unix ms until which nothing is evicted, since so many were evicted for nothing within the window; 0: something may be."""
    recent = within(recreated, now, window_ms)
    return recent[-most].at + window_ms if len(recent) >= most else 0
