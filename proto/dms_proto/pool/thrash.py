"""A guard against thrashing: what is not evicted, since it would only have to be started again.

A container stays at least as long as its start took: so at most half of the time goes into starting. And where images that were evicted come back
too often, nothing is evicted for a while: there is not enough room for what is wanted, and no order of eviction can make any.
"""

from __future__ import annotations

from collections.abc import Mapping

from dms_proto.pool.records import Container, Image

REMEMBERED: int = 256
"""Images of which it is known when they were last evicted."""


def settled_at(container: Container) -> int:
    """Unix ms from which on a container may be evicted."""
    return container.ready_at + container.start_ms


def is_recreation(evicted: Mapping[Image, int], image: Image, now: int, window_ms: int) -> bool:
    """Whether an image that is wanted now was evicted within the window."""
    at = evicted.get(image)
    return at is not None and now - at <= window_ms


def within(times: tuple[int, ...], now: int, window_ms: int) -> tuple[int, ...]:
    """The times that are not over the window, oldest first."""
    return tuple(at for at in times if now - at < window_ms)


def thrashes_until(recreated: tuple[int, ...], now: int, window_ms: int, most: int) -> int:
    """Unix ms until which nothing is evicted, since so many were evicted for nothing within the window; 0: something may be."""
    recent = within(recreated, now, window_ms)
    return recent[-most] + window_ms if len(recent) >= most else 0
