"""The comparator: what a plug-in replaces to bring its own way of choosing (entry point group ``dms.comparators``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dms_proto.capability import Capability, Resources
from dms_proto.market import comparison, ranking
from dms_proto.market.candidates import Candidate
from dms_proto.market.gpus import assign_gpus
from dms_proto.market.preferences import Preferences
from dms_proto.market.ranking import Ranking
from dms_proto.market.verdicts import Comparison
from dms_proto.messages import BidRequest

__all__ = ["CapabilityComparator", "Comparator", "assign_gpus"]


class Comparator(Protocol):
    """Two pure functions of their arguments: the same arguments must always give equal results, or decisions cannot be replayed."""

    def compare(
        self, required: Capability, offered: Capability, *, total: Resources | None = None, max_price: int | None = None
    ) -> Comparison:
        """Holds what a machine offers against what a request requires."""
        ...

    def rank(self, request: BidRequest, candidates: Iterable[Candidate], preferences: Preferences) -> Ranking:
        """Orders bids: a total order, whatever order they are given in. Must not raise."""
        ...


class CapabilityComparator:
    """The comparator of dms. Stateless."""

    def compare(
        self, required: Capability, offered: Capability, *, total: Resources | None = None, max_price: int | None = None
    ) -> Comparison:
        """See `comparison.compare`."""
        return comparison.compare(required, offered, total=total, max_price=max_price)

    def fits(self, required: Capability, offered: Capability, *, max_price: int | None = None) -> bool:
        """See `comparison.fits`."""
        return comparison.fits(required, offered, max_price=max_price)

    def rank(self, request: BidRequest, candidates: Iterable[Candidate], preferences: Preferences) -> Ranking:
        """See `ranking.rank`."""
        return ranking.rank(request, candidates, preferences)
