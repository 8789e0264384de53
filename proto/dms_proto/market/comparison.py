"""Comparing: the one function behind the decision to bid, dry runs, ranking and explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms_proto.capability import Capability, Resources
from dms_proto.market.dimensions import TABLE, Question
from dms_proto.market.verdicts import Comparison, over_all


def compare(
    required: Capability, offered: Capability, *, total: Resources | None = None, max_price: int | None = None
) -> Comparison:
    """Holds what a machine offers against what a request requires, dimension by dimension.

    Args:
        required: the least that will do.
        offered: what is there; its resources are what is free now, with at most one GPU entry per device.
        total: the registered amounts; where they would do though the free ones do not, the clause is `passing`.
        max_price: micro-credits for one allocation; None leaves price out.
    """
    question = Question(required, offered, total, max_price)
    return over_all(verdict for dimension in TABLE for verdict in dimension.judge(question))


def fits(required: Capability, offered: Capability, *, max_price: int | None = None) -> bool:
    """The same as ``compare(…).fits``, without saying why."""
    return fit_test(required, max_price=max_price)(offered)


def fit_test(required: Capability, *, max_price: int | None = None) -> Callable[[Capability], bool]:
    """`fits` for many machines: looks only at what the request asks for."""
    amounts = required.resources
    cpu, memory, disk, wall_ms = amounts.cpu_millicores, amounts.memory_bytes, amounts.disk_bytes, required.max_wall_ms
    prepared = (dimension.test(required, max_price) for dimension in TABLE if dimension.name not in _AT_ONCE)
    tests = tuple(test for test in prepared if test is not None)

    def fits_offer(offered: Capability) -> bool:
        there = offered.resources
        if there.cpu_millicores < cpu or there.memory_bytes < memory or there.disk_bytes < disk:
            return False
        if wall_ms > offered.max_wall_ms and offered.max_wall_ms:
            return False
        for test in tests:  # noqa: SIM110 - `all` over a generator takes twice the time, and this runs for every bid
            if not test(offered):
                return False
        return True

    return fits_offer


_AT_ONCE: Final = frozenset({"cpu", "memory", "disk", "wall_time"})
"""Dimensions that nearly every request asks for: tested in one go, not in four calls."""
