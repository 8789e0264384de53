"""The owner's conditions and prices, from the configuration, and what requests heard say about them."""

from __future__ import annotations

from dms.config import Config
from dms.node.pool import capacity_of
from dms.rpc.api.market import RequestView
from dms_proto.capability import NOTHING, JobClass, Price
from dms_proto.market.preferences import ProviderPolicy, check_policy
from dms_proto.market.price_history import Asked, Fate
from dms_proto.units import SECOND


def policy_of(config: Config) -> ProviderPolicy:
    """What strangers pay, which work is taken, and from whom.

    Raises:
        UserError: `bad_expression`: a constraint cannot be used, with where and why.
    """
    provider, access = config.provider, config.access
    policy = ProviderPolicy(
        accepts_work=provider.enabled,
        tariff=Price(
            start=max(provider.price_start, provider.min_price),
            cpu_core_hour=provider.price_cpu_core,
            memory_gib_hour=provider.price_memory_gib,
            disk_gib_hour=provider.price_disk_gib,
            gpu_hour=provider.price_gpu,
        ),
        busy_percent=provider.price_busy_percent,
        class_percent={
            JobClass.INTERACTIVE: provider.price_interactive_percent,
            JobClass.SERVICE: provider.price_service_percent,
        },
        concession_percent=provider.price_concession_percent,
        constraints=provider.constraints,
        max_wall_ms=provider.max_wall_ms,
        job_classes=provider.job_classes,
        comparator=provider.comparator,
        access=access.market,
        gpu_access=access.gpus,
        log_access=access.logs,
        takes_calls=capacity_of(config.pool) != NOTHING,
        own_peers=access.own,
        second_price=provider.second_price,
        offline_gives_way=provider.offline_gives_way,
        evict_offline_after_ms=provider.evict_offline_after_s * SECOND,
    )
    check_policy(policy)
    return policy


def could_do(request: RequestView, tariff: Price) -> Asked | None:
    """A request heard, as a piece of the price history; None: undecided yet, or there were other reasons than the price."""
    cost = tariff.cost(request.needs.resources, request.needs.max_wall_ms)
    if request.outcome in (Fate.WON, Fate.LOST):
        return Asked(cost, request.max_price, Fate(request.outcome))
    if request.clauses and all(clause.dimension == "price" for clause in request.clauses):
        return Asked(cost, request.max_price, Fate.TOO_DEAR)
    return None
