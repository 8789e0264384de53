"""reliability: how often the provider kept its word, from the requester's own history only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest

PRIOR_SUCCESSES: Final = 4
PRIOR_TRIALS: Final = 5
"""A provider without history counts as one that kept 4 of 5 promises: it gets its chance, and a proven one is preferred."""


def reliability(_request: BidRequest) -> Callable[[Candidate], int]:
    """The share of promises kept, with the prior (the rule of succession)."""

    def value(candidate: Candidate) -> int:
        kept = candidate.successes + PRIOR_SUCCESSES
        return SCALE * kept // (candidate.successes + candidate.failures + PRIOR_TRIALS)

    return value
