"""The owner's conditions and prices, from the configuration."""

from __future__ import annotations

from dms.config import Config
from dms_proto.capability import Price
from dms_proto.market.preferences import ProviderPolicy


def policy_of(config: Config) -> ProviderPolicy:
    """What strangers pay and which work is taken."""
    provider = config.provider
    return ProviderPolicy(
        accepts_work=provider.enabled,
        tariff=Price(
            start=max(provider.price_start, provider.min_price),
            cpu_core_hour=provider.price_cpu_core,
            memory_gib_hour=provider.price_memory_gib,
            disk_gib_hour=provider.price_disk_gib,
            gpu_hour=provider.price_gpu,
        ),
        max_wall_ms=provider.max_wall_ms,
        job_classes=provider.job_classes,
        comparator=provider.comparator,
    )
