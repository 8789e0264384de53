"""proximity: how short the way to the provider is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest

NEAR_US: Final = 10_000
"""A round trip of up to 10 ms is as good as none: a busy machine adds as much. One of 20 ms, about across a country, is worth half."""
UNMEASURED_US: Final = 200_000
"""A way not yet measured counts as one around the world."""


def proximity(_request: BidRequest) -> Callable[[Candidate], int]:
    """One up to `NEAR_US`, half at twice that, a third at three times. A relayed way counts half: it shares the relay's bandwidth."""

    def value(candidate: Candidate) -> int:
        near = SCALE * NEAR_US // max(candidate.rtt_us or UNMEASURED_US, NEAR_US)
        return near // 2 if candidate.relayed else near

    return value
