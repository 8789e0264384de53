"""reliability: how the provider stands with the requester, from the requester's own evidence only; see `reputation`."""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest
from dms_proto.reputation import FULL


def reliability(_request: BidRequest) -> Callable[[Candidate], int]:
    """The provider's standing: a quarter for a newcomer, towards one with what it keeps, towards zero with what it breaks."""
    return lambda candidate: SCALE * candidate.standing // FULL
