"""The pool as its owner has set it: what of the machine it may use, and its rules."""

from __future__ import annotations

from typing import Final

import msgspec

from dms.config.settings import Pool
from dms_proto.capability import NOTHING, Resources
from dms_proto.ids import BidId
from dms_proto.pool.callers import OWN_TIER
from dms_proto.pool.state import PoolRules
from dms_proto.units import MIB

HOLD: Final = BidId("pod:pool")
"""The owner's capability lock that is the pool's share of the machine."""
WHOLE: Final = 100


def capacity_of(pool: Pool) -> Resources:
    """What of the machine is the pool's, beside GPUs; nothing while it is off."""
    if not pool.cpu or not pool.memory:
        return NOTHING
    return Resources(pool.cpu, pool.memory, pool.disk)


def share_of(pool: Pool, registered: Resources) -> Resources:
    """What is the pool's, with its GPUs as far as the machine has them. `registered`: all that the node may give of the machine."""
    capacity = capacity_of(pool)
    if capacity == NOTHING:
        return NOTHING
    return msgspec.structs.replace(capacity, gpus=tuple(gpu for gpu in registered.gpus if gpu.device in pool.gpus))


def rules_of(pool: Pool) -> PoolRules:
    """The rules."""
    return PoolRules(
        virtual=pool.virtual,
        calls=pool.calls,
        ttl_ms=pool.ttl_ms,
        hot_ms=pool.hot_ms,
        strategy=pool.strategy,
        reserved=_reserved(capacity_of(pool), pool.own_percent),
        start_ms=pool.start_ms,
        count_ms=pool.count_ms,
        call_ms=pool.longest_call_ms,
    )


def _reserved(capacity: Resources, percent: int) -> dict[int, Resources]:
    """What is kept for the owner's own machines."""
    if not percent or capacity == NOTHING:
        return {}
    return {
        OWN_TIER: Resources(
            capacity.cpu_millicores * percent // WHOLE,
            capacity.memory_bytes * percent // WHOLE // MIB * MIB,
            capacity.disk_bytes * percent // WHOLE // MIB * MIB,
        )
    }
