"""price: how little one unit of measured work costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest

WORK: Final = 1_000_000
"""A price times this, by the score of a core: its price per unit of work."""


def work_price(candidate: Candidate) -> int:
    """`price_per_work` of what the candidate asks."""
    return price_per_work(candidate.price, candidate.offer.cpu_score)


def price_per_work(price: int, cpu_score: int) -> int:
    """Thousandths of a micro-credit for what the reference core does within the wall limit.

    The bid's price pays for time; a core twice as fast does twice the work in it. A core that was never measured counts as the slowest there is:
    leaving the benchmark out must not pay.
    """
    return price * WORK // (cpu_score or 1)


def value_of_work(request: BidRequest) -> Callable[[int], int]:
    """The value of a `work_price`: best for nothing; half at a quarter of the maximum price (on a reference core), a fifth at the maximum."""
    half = max(1, request.max_price * 250)
    best = SCALE * half
    return lambda per_work: best // (half + per_work)


def price(request: BidRequest) -> Callable[[Candidate], int]:
    """`value_of_work` of what the candidate asks."""
    value = value_of_work(request)
    return lambda candidate: value(work_price(candidate))
