"""Ranking bids: a total order with, for each bid, its score, the summands, and why others were left out.

1. A bid is *excluded*, with clauses, when its machine does not fit the needs, its price is above the maximum or below its own tariff, or a
   constraint is not true.
2. Every other bid gets, per weighed term, ``weight x value`` (`market.terms`); its score is the sum. All of it in integers, so that replaying
   a decision gives the same order bit for bit.
3. The order is by score, then by price per unit of work, then by the fewest allocations of the requester at work there, then by the fewest that
   have ended there, then by the lower hash of (request, provider): equal nodes share the wins, and every node computes the same winner.
4. The best bids, those within `spread_percent` of the best score and at most `MAX_BAND`, are *as good as equal*, and ordered by these
   alone, except that one which *dominates* another (at least as good in every weighed term, in price per work and in what is at work
   there, better in one) goes before it. So wins spread over providers that are as good as equal, and yet no bid ever loses to one that is worse in
   every respect. Only the best score sets the band's lower edge; "within 3 % of each other" would not be transitive.

No rule looks at the order in which bids arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from dms_proto.ids import BidId, PeerId
from dms_proto.market.admission import Admission, RankValue
from dms_proto.market.candidates import Candidate
from dms_proto.market.ordering import MAX_BAND, Board, edge
from dms_proto.market.preferences import DEFAULT_RANK_WEIGHT, MAX_WEIGHT, RANK, Preferences
from dms_proto.market.terms import SCALE, TERMS, UNCOUNTED
from dms_proto.market.terms.price import value_of_work, work_price
from dms_proto.messages import BidRequest, Clause
from dms_proto.units import format_bytes, format_count

__all__ = ["Candidate", "Decision", "Excluded", "Ranked", "Ranking", "Term", "decide", "rank", "replay"]


class Term(msgspec.Struct, frozen=True):
    """A term that was weighed. `weight` is in thousandths."""

    name: str
    weight: int


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """A bid in the order.

    Attributes:
        bid_id: the bid.
        provider: who made it.
        score: the sum of `points`.
        points: per term of the ranking, weight x value.
        reasons: what is particular about it, for people.
    """

    bid_id: BidId
    provider: PeerId
    score: int
    points: tuple[int, ...]
    reasons: tuple[str, ...] = ()


class Excluded(msgspec.Struct, frozen=True):
    """A bid that was left out, and why."""

    bid_id: BidId
    provider: PeerId
    clauses: tuple[Clause, ...]


class Ranking(msgspec.Struct, frozen=True):
    """The outcome.

    Attributes:
        unit: the score of a bid that is perfect in every term; scores are shown as fractions of it.
        terms: what the summands are.
        ranked: best first.
        excluded: in the order of their bid ids.
    """

    unit: int
    terms: tuple[Term, ...]
    ranked: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...] = ()

    @property
    def order(self) -> tuple[BidId, ...]:
        """The bids, best first."""
        return tuple(entry.bid_id for entry in self.ranked)

    def equals(self, percent: int) -> int:
        """How many of the best are as good as equal, within `percent` of the best score; 1 where nobody is as good as the first."""
        if not percent or not self.ranked:
            return min(1, len(self.ranked))
        best = self.ranked[:MAX_BAND]
        least = edge(max(entry.score for entry in best), percent)
        return next((n for n, entry in enumerate(best) if entry.score < least), len(best))

    def story(self, entry: Ranked) -> str:
        """``score 0.820 = price 0.410 + speed 0.290 + reliability 0.120``."""
        summands = (
            f"{term.name} {point / self.unit:.3f}" for term, point in zip(self.terms, entry.points, strict=True)
        )
        return f"score {entry.score / self.unit:.3f} = {' + '.join(summands) or '0'}"


class Decision(msgspec.Struct, frozen=True):
    """A ranking with all that went into it: what is stored with an award.

    Attributes:
        request: what was needed.
        candidates: the bids.
        preferences: by which they were compared.
        ranking: the outcome.
        comparator: name and version of the plug-in that made it; empty for the comparator of dms.
        note: why the plug-in that the preferences name did not.
    """

    request: BidRequest
    candidates: tuple[Candidate, ...]
    preferences: Preferences
    ranking: Ranking
    comparator: str = ""
    note: str = ""


Ranker = Callable[[BidRequest, Iterable[Candidate], Preferences], Ranking]
"""`rank`, or a plug-in comparator's."""


def decide(
    request: BidRequest, candidates: Iterable[Candidate], preferences: Preferences, *, ranker: Ranker | None = None
) -> Decision:
    """Ranks, and keeps what it ranked by."""
    seen = tuple(candidates)
    return Decision(request, seen, preferences, (ranker or rank)(request, seen, preferences))


def replay(decision: Decision, *, ranker: Ranker | None = None) -> Ranking:
    """The ranking computed again from a decision's record; equal to the one in it, given the ranker that made it."""
    return (ranker or rank)(decision.request, decision.candidates, decision.preferences)


def rank(request: BidRequest, candidates: Iterable[Candidate], preferences: Preferences) -> Ranking:
    """Orders bids for a request by a requester's preferences. Never raises: what cannot be evaluated counts as not met, or as nothing.

    Args:
        request: what is needed.
        candidates: bids with different ids, in any order.
        preferences: constraints, weights and rank.
    """
    terms = _weighed(preferences, request)
    bids, ranks, out = Admission(request, preferences).sift(candidates)
    excluded = [Excluded(candidate.bid_id, candidate.provider, clauses) for candidate, clauses in out]
    excluded.sort(key=lambda entry: entry.bid_id)
    work_prices = list(map(work_price, bids))
    columns = [_column(term.name, request, bids, ranks, work_prices) for term in terms]
    board = Board(request, bids, work_prices, [term.weight for term in terms], columns)
    told = [(*reasons, *_of_work(bid)) for bid, (_, reasons) in zip(bids, ranks, strict=True)]
    if request.data:
        told = [(*reasons, _of_data(request, bid)) for bid, reasons in zip(bids, told, strict=True)]
    ranked = _ranked(board, bids, told, preferences.spread_percent)
    unit = sum(term.weight for term in terms if term.name not in UNCOUNTED) * SCALE
    return Ranking(max(unit, SCALE), terms, ranked, tuple(excluded))


def _weighed(preferences: Preferences, request: BidRequest) -> tuple[Term, ...]:
    """The terms with a weight, in the order of `TERMS`, the CEL rank last. Names that do not exist weigh nothing, nor does data that nobody reads."""
    weights = dict(preferences.weights)
    if not request.data:
        weights.pop("data", None)
    if preferences.rank:
        weights.setdefault(RANK, DEFAULT_RANK_WEIGHT)
    else:
        weights.pop(RANK, None)
    named = ((name, weights.get(name, 0)) for name in (*TERMS, RANK))
    # Out of range, as no checked document is, includes what is not a number.
    thousandths = ((name, round(weight * 1000) if 0 < weight <= MAX_WEIGHT else 0) for name, weight in named)
    return tuple(Term(name, weight) for name, weight in thousandths if weight)


def _column(
    name: str, request: BidRequest, bids: Sequence[Candidate], ranks: Sequence[RankValue], work_prices: Sequence[int]
) -> list[int]:
    """The value of every bid in one term."""
    if name == RANK:
        return [value for value, _ in ranks]
    if name == "price":  # the order needs the prices per work as well: they are worked out once
        return list(map(value_of_work(request), work_prices))
    return list(map(TERMS[name](request), bids))


def _of_work(bid: Candidate) -> tuple[str, ...]:
    """What the requester has at work there, if anything."""
    return (f"{format_count(bid.at_work, 'allocation')} of ours under way there",) if bid.at_work else ()


def _of_data(request: BidRequest, bid: Candidate) -> str:
    """What a bidder says to hold of what the work reads."""
    total = sum(mark.size for mark in request.data)
    return f"has {format_bytes(min(bid.held, total))} of the {format_bytes(total)} of data that the work reads"


def _ranked(
    board: Board, bids: Sequence[Candidate], told: Sequence[tuple[str, ...]], percent: int
) -> tuple[Ranked, ...]:
    order = board.by_score()
    size = board.band(order, percent)
    order[:size] = board.spread(order[:size])
    reasons = [told[at] for at in order]
    if size > 1:
        spread = (
            f"among {size} within {percent} % of the best score: "
            "by what we have under way there, then by what we had done there, then by hash, unless one is better in every respect"
        )
        reasons[:size] = [(*reason, spread) for reason in reasons[:size]]
    ordered = [bids[at] for at in order]
    return tuple(
        map(
            Ranked,
            [bid.bid_id for bid in ordered],
            [bid.provider for bid in ordered],
            [board.scores[at] for at in order],
            [board.points[at] for at in order],
            reasons,
        )
    )
