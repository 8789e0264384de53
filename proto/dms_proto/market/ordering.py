"""From points to places: the total order, its tie-break, and the band of the best among which wins are spread.

Bids are known by their index and their properties kept in columns, not in objects: there may be ten thousand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from dms_proto.ids import BidId, PeerId, RequestId
from dms_proto.market.candidates import Candidate
from dms_proto.messages import BidRequest

MAX_BAND: Final = 64
"""Bids among which wins are spread at most. Telling who dominates whom takes the square of it."""


def turn(request_id: RequestId, provider: PeerId, bid_id: BidId) -> tuple[int, BidId]:
    """Decides among equals, lower first: another order of the providers for each request, the same for everyone who computes it."""
    hashed = hashlib.sha256(f"{request_id}\0{provider}".encode()).digest()
    return int.from_bytes(hashed[:8], "big"), bid_id


def edge(best: int, percent: int) -> int:
    """The least score that is within `percent` of the best."""
    return best - abs(best) * percent // 100


class Board:
    """The bids that take part, with their values in each weighed term.

    Attributes:
        points: per bid, weight x value of each term.
        scores: their sums.
        work_prices: price per unit of work.
    """

    def __init__(
        self,
        request: BidRequest,
        bids: Sequence[Candidate],
        work_prices: Sequence[int],
        weights: Sequence[int],
        columns: Sequence[Sequence[int]],
    ) -> None:
        self._bids = bids
        self._columns = columns
        self._request_id = request.request_id
        weighed = [[weight * value for value in column] for weight, column in zip(weights, columns, strict=True)]
        self.points: list[tuple[int, ...]] = list(zip(*weighed, strict=True)) if weighed else [()] * len(bids)
        self.scores = list(map(sum, self.points))
        self.work_prices = work_prices

    def by_score(self) -> list[int]:
        """Best first: by score, then price per work, then `tie`."""
        scores, prices = self.scores, self.work_prices
        order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
        for begin, end in _runs([scores[at] for at in order]):
            order[begin:end] = sorted(order[begin:end], key=prices.__getitem__)
            for first, last in _runs([prices[at] for at in order[begin:end]]):
                # Hashing is dear: only what is equal in both is hashed.
                order[begin + first : begin + last] = sorted(order[begin + first : begin + last], key=self.tie)
        return order

    def tie(self, at: int) -> tuple[int, int, int, BidId]:
        """Among equals: what the requester has at work there, the least first, then what it has had done there, then `turn`."""
        bid = self._bids[at]
        return bid.at_work, bid.successes + bid.failures, *turn(self._request_id, bid.provider, bid.bid_id)

    def band(self, order: Sequence[int], percent: int) -> int:
        """How many of the best, in `order`, share the wins: those within `percent` of the best score; none for 0."""
        if not order or not percent:
            return 0
        least = edge(self.scores[order[0]], percent)
        return next((n for n, at in enumerate(order[:MAX_BAND]) if self.scores[at] < least), min(MAX_BAND, len(order)))

    def spread(self, band: Sequence[int]) -> list[int]:
        """The band in its final order: again and again, of those that nothing left dominates, the first by `tie`."""
        left = sorted(band, key=self.tie)
        ahead = {at: sum(self.dominates(other, at) for other in left) for at in left}
        order: list[int] = []
        while left:
            taken = next(at for at in left if not ahead[at])  # there is one: dominance is a strict partial order
            left.remove(taken)
            order.append(taken)
            for at in left:
                ahead[at] -= self.dominates(taken, at)
        return order

    def dominates(self, one: int, other: int) -> bool:
        """At least as good in every weighed term, in price per work and in what is at work there, and better in one of them."""
        mine, theirs = self._respects(one), self._respects(other)
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))

    def _respects(self, at: int) -> tuple[int, ...]:
        """Higher is better."""
        return -self._bids[at].at_work, -self.work_prices[at], *(column[at] for column in self._columns)


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """Where equal neighbours stand, as (begin, end); runs of one are left out."""
    begins = [at for at in range(1, len(values)) if values[at] != values[at - 1]]
    return [(begin, end) for begin, end in zip([0, *begins], [*begins, len(values)], strict=True) if end - begin > 1]
