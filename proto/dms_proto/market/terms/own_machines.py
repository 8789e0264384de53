"""own_machines: whether the machine belongs to the requester."""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest


def own_machines(_request: BidRequest) -> Callable[[Candidate], int]:
    """One for an own machine, zero for any other."""
    return lambda candidate: SCALE if candidate.own else 0
