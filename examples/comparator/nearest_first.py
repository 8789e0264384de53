"""A comparator that only looks at the way: the nearest machine that fits wins, and of equally near ones the cheaper."""

from __future__ import annotations

from collections.abc import Iterable

from dms_proto.market.comparator import CapabilityComparator
from dms_proto.market.preferences import Preferences
from dms_proto.market.ranking import Candidate, Ranked, Ranking, Term
from dms_proto.messages import BidRequest

FAR_US = 1_000_000
"""A round trip from which on a machine is as far as can be."""


class NearestFirst(CapabilityComparator):
    """What fits is decided as dms does; only the order is another."""

    def rank(self, request: BidRequest, candidates: Iterable[Candidate], preferences: Preferences) -> Ranking:
        """Orders bids by distance. Pure: the same arguments always give the same ranking."""
        seen = {candidate.bid_id: candidate for candidate in candidates}
        admitted = super().rank(request, seen.values(), preferences)
        fitting = sorted(
            (seen[bid_id] for bid_id in admitted.order),
            key=lambda bid: (min(bid.rtt_us, FAR_US), bid.price, bid.bid_id),
        )
        ranked = tuple(
            Ranked(bid.bid_id, bid.provider, nearness(bid), (nearness(bid),), (f"{bid.rtt_us / 1000:g} ms away",))
            for bid in fitting
        )
        return Ranking(FAR_US, (Term("nearness", 1_000),), ranked, admitted.excluded)


def nearness(bid: Candidate) -> int:
    """From 0 (a second away, or farther) to `FAR_US` (here)."""
    return FAR_US - min(bid.rtt_us, FAR_US)
