"""data: how soon what the work reads is there; a provider that holds it already need not fetch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest
from dms_proto.units import MIB, SECOND

HALF_MS: Final = 30 * SECOND
"""Half a minute of fetching is worth half."""
USUAL_BYTES_PER_MS: Final = 10 * MIB // SECOND
"""How fast data is taken to come, since nobody has measured it: 10 MiB a second."""


def data(request: BidRequest) -> Callable[[Candidate], int]:
    """One for nothing to fetch, half where fetching what is missing takes `HALF_MS`. Weighed only for requests that tell of data."""
    total = sum(mark.size for mark in request.data)

    def value(candidate: Candidate) -> int:
        missing = max(0, total - candidate.held)
        return SCALE * HALF_MS // (HALF_MS + missing // USUAL_BYTES_PER_MS)

    return value
