"""speed: how fast one core is, as measured."""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest
from dms_proto.units import CORE


def speed(_request: BidRequest) -> Callable[[Candidate], int]:
    """Half for the reference core (score 1.0), two thirds for one twice as fast, and so on towards one."""

    def value(candidate: Candidate) -> int:
        score = candidate.offer.cpu_score
        return SCALE * score // (score + CORE)

    return value
