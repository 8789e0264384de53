"""chance: what is not known yet of the provider is not held against it while other work is under way; see `workload`."""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest
from dms_proto.reputation import FULL


def chance(_request: BidRequest) -> Callable[[Candidate], int]:
    """What its standing lacks for want of evidence. With the weight of `reliability` it makes up for that: whatever is held against it remains."""
    return lambda candidate: SCALE * candidate.chance // FULL
