"""evenness: how little the provider has done for the requester yet, so that nodes which all can do it come to the same share."""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest


def evenness(_request: BidRequest) -> Callable[[Candidate], int]:
    """1 for who has done nothing for the requester, a half after one allocation, a third after two, well or badly.

    What is under way is not counted here; see `ranking`. Whoever is new goes first, again and again if it comes under ever new names: for nodes that
    the requester knows.
    """
    return lambda candidate: SCALE // (1 + candidate.successes + candidate.failures)
