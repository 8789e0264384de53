"""Tiers: whom a newcomer may make go, and what is kept for those who pay.

A tier is a number; 0 pays nothing, and a higher one goes before a lower. A container that is *hot*, used a short while ago, goes for a higher
tier alone: equals never evict each other's. One that has gone cold goes for anybody. A tier may have capacity reserved; what of it is not in use
is lent to nobody, so that it is there without anybody having to go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dms_proto.capability import NOTHING, Resources
from dms_proto.market.arithmetic import add, clamp_subtract, total_of
from dms_proto.pool.records import Container, VirtualContainer, VirtualId


def tier_of(container: Container, virtual: Mapping[VirtualId, VirtualContainer]) -> int:
    """The highest tier that a container works for: of the one that it was admitted for, and of all that point to it."""
    return max(container.tier, *(virtual[each].tier for each in container.virtual), 0)


def hot_until(container: Container, hot_ms: int) -> int:
    """Unix ms until which a container is hot."""
    return container.used_at + hot_ms


def kept_for_others(reserved: Mapping[int, Resources], containers: Iterable[Container], tier: int) -> Resources:
    """What the other tiers have reserved and do not use."""
    held: dict[int, list[Resources]] = {}
    for container in containers:
        held.setdefault(container.tier, []).append(container.size)
    kept = NOTHING
    for other, amount in reserved.items():
        if other != tier:
            kept = add(kept, clamp_subtract(amount, total_of(held.get(other, ()))))
    return kept
