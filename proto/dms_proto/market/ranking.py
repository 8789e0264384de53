"""Ranking bids: a total order with, for each bid, its score, the summands, and why others were left out.

1. A bid is *excluded*, with clauses, when its machine does not fit the needs, its price is above the maximum or below its own tariff, or a
   constraint is not true.
2. Every other bid gets, per weighed term, ``weight x value`` (`market.terms`); its score is the sum. All of it in integers, so that replaying
   a decision gives the same order bit for bit.
3. The order is by score, then by price per unit of work, then by the lower hash of (request, provider): equal nodes share the wins, and every
   node computes the same winner.
4. The best bids, those within `spread_percent` of the best score and at most `MAX_BAND`, are ordered by that hash alone, except that one which
   *dominates* another (at least as good in every weighed term and in price per work, better in one) goes before it. So wins spread over
   providers that are as good as equal, and yet no bid ever loses to one that is worse in every respect. Only the best score sets the band's lower
   edge; "within 3 % of each other" would not be transitive.

No rule looks at the order in which bids arrived.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import cel
import msgspec

from dms_proto.ids import BidId, PeerId
from dms_proto.market.candidates import Candidate
from dms_proto.market.comparison import compare, fit_test
from dms_proto.market.expressions import Expression, Unknown
from dms_proto.market.preferences import DEFAULT_RANK_WEIGHT, RANK, Preferences, compiled
from dms_proto.market.terms import PENALTIES, SCALE, TERMS, Value
from dms_proto.market.terms.price import work_price
from dms_proto.market.variables import BID_SCHEMA, BID_VARIABLES, merged_uses, reader
from dms_proto.market.verdicts import MAX_CLAUSES, bad
from dms_proto.messages import BidRequest, Clause
from dms_proto.units import format_credits

__all__ = ["Candidate", "Decision", "Excluded", "Ranked", "Ranking", "Term", "decide", "rank", "replay"]

MAX_BAND: Final = 64
"""Bids among which wins are spread at most. Telling who dominates whom takes the square of it."""


class Term(msgspec.Struct, frozen=True):
    """A term that was weighed. `weight` is in thousandths."""

    name: str
    weight: int


class Ranked(msgspec.Struct, frozen=True):
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

    def story(self, entry: Ranked) -> str:
        """``score 0.82 = price 0.41 + speed 0.29 + reliability 0.12``."""
        summands = (
            f"{term.name} {points / self.unit:.3f}" for term, points in zip(self.terms, entry.points, strict=True)
        )
        return f"score {entry.score / self.unit:.3f} = {' + '.join(summands) or '0'}"


class Decision(msgspec.Struct, frozen=True):
    """A ranking with all that went into it: what is stored with an award."""

    request: BidRequest
    candidates: tuple[Candidate, ...]
    preferences: Preferences
    ranking: Ranking


class _Scored(NamedTuple):
    """A bid on its way into the order; `key` sorts best first."""

    key: tuple[int, int, int, str]
    candidate: Candidate
    values: tuple[int, ...]
    points: tuple[int, ...]
    score: int
    reasons: tuple[str, ...]


Ranker = Callable[[BidRequest, Iterable[Candidate], Preferences], Ranking]


def decide(
    request: BidRequest, candidates: Iterable[Candidate], preferences: Preferences, *, ranker: Ranker | None = None
) -> Decision:
    """Ranks, by `rank` or a plug-in comparator's, and keeps what it ranked by."""
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
    terms = _weighed(preferences)
    admit = _Admission(request, preferences)
    included: list[Candidate] = []
    excluded: list[Excluded] = []
    extra: dict[BidId, tuple[int, tuple[str, ...]]] = {}
    for candidate in candidates:
        clauses, extra_value = admit(candidate)
        if clauses:
            excluded.append(Excluded(candidate.bid_id, candidate.provider, clauses[:MAX_CLAUSES]))
            continue
        included.append(candidate)
        if extra_value is not None:
            extra[candidate.bid_id] = extra_value
    scored = _score(request, included, terms, extra)
    ordered = _spread(scored, preferences.spread_percent)
    unit = sum(term.weight for term in terms if term.name not in PENALTIES) * SCALE
    return Ranking(
        max(unit, SCALE),
        terms,
        tuple(Ranked(s.candidate.bid_id, s.candidate.provider, s.score, s.points, s.reasons) for s in ordered),
        tuple(sorted(excluded, key=lambda entry: entry.bid_id)),
    )


# --------------------------------------------------------------------------------------------------------------- admission


class _Admission:
    """Who takes part: the needs, the price and the constraints, prepared once for all candidates; and the value of the CEL rank."""

    def __init__(self, request: BidRequest, preferences: Preferences) -> None:
        self.request = request
        self.fits = fit_test(request.needs)
        self.constraints = [(source, compiled(source, BID_SCHEMA)) for source in preferences.constraints]
        self.rank = compiled(preferences.rank, BID_SCHEMA) if preferences.rank else None
        self.read: Callable[[Candidate], dict[str, object]] | None = None
        expressions = [e for _, e in self.constraints] + [self.rank]
        uses = merged_uses(*(e.uses for e in expressions if isinstance(e, Expression)))
        if self.constraints or self.rank is not None:
            self.read = reader({name: v for name, v in BID_VARIABLES.items() if name != "request"}, uses)
            self.context = cel.Context(variables=reader({"request": BID_VARIABLES["request"]}, uses)(request))

    def __call__(self, candidate: Candidate) -> tuple[tuple[Clause, ...], tuple[int, tuple[str, ...]] | None]:
        """The clauses that keep it out; and the value and reasons of the rank."""
        price = candidate.price
        tariff_price = candidate.tariff.cost(self.request.needs.resources, self.request.needs.max_wall_ms)
        if price > self.request.max_price or tariff_price > price or not self.fits(candidate.offer):
            return self._misfits(candidate, tariff_price), None
        if self.read is None:
            return (), None
        self.context.update(self.read(candidate))
        clauses = tuple(
            clause for source, constraint in self.constraints for clause in _unmet(source, constraint, self.context)
        )
        return clauses, None if self.rank is None or clauses else _rank_value(self.rank, self.context)

    def _misfits(self, candidate: Candidate, tariff_price: int) -> tuple[Clause, ...]:
        clauses = compare(self.request.needs, candidate.offer).clauses
        stated = format_credits(candidate.price)
        if candidate.price > self.request.max_price:
            clauses += _clause("price", f"at most {format_credits(self.request.max_price)}", stated)
        if tariff_price > candidate.price:
            clauses += _clause("price", f"{format_credits(tariff_price)}, as the bid's tariff gives", stated)
        return clauses


def _clause(dimension: str, wanted: str, observed: str) -> tuple[Clause, ...]:
    clause = bad(dimension, wanted, observed).clause
    return () if clause is None else (clause,)


def _unmet(source: str, constraint: Expression | Unknown, context: cel.Context) -> tuple[Clause, ...]:
    met = constraint if isinstance(constraint, Unknown) else constraint.is_true(context)
    if met is True:
        return ()
    return _clause("constraint", source, f"unknown: {met.reason}" if isinstance(met, Unknown) else "false")


def _rank_value(expression: Expression | Unknown, context: cel.Context) -> tuple[int, tuple[str, ...]]:
    number = expression if isinstance(expression, Unknown) else expression.number(context)
    if isinstance(number, Unknown):
        return 0, (f"rank is unknown and counts nothing: {number.reason}",)
    if 0 <= number <= 1:
        return round(number * SCALE), ()
    bound = 0 if number < 0 else 1
    return bound * SCALE, (f"rank {number:g} is not between 0 and 1 and counts as {bound}",)


# ----------------------------------------------------------------------------------------------------------------- scoring


def _weighed(preferences: Preferences) -> tuple[Term, ...]:
    """The terms with a weight, in the order of `TERMS`, the CEL rank last. Names that do not exist weigh nothing."""
    weights = dict(preferences.weights)
    if preferences.rank:
        weights.setdefault(RANK, DEFAULT_RANK_WEIGHT)
    else:
        weights.pop(RANK, None)
    named = ((name, round(weights.get(name, 0) * 1000)) for name in (*TERMS, RANK))
    return tuple(Term(name, weight) for name, weight in named if weight > 0)


def _score(
    request: BidRequest,
    included: Sequence[Candidate],
    terms: Sequence[Term],
    extra: dict[BidId, tuple[int, tuple[str, ...]]],
) -> list[_Scored]:
    """The bids with their points, sorted by score, price per work and hash."""
    columns = [_column(request, included, term.name, extra) for term in terms]
    weights = [term.weight for term in terms]
    rows = list(zip(*columns, strict=True)) if columns else [()] * len(included)
    start = hashlib.sha256(f"{request.request_id}\0".encode())
    scored = []
    for candidate, values in zip(included, rows, strict=True):
        points = tuple([weight * value for weight, value in zip(weights, values, strict=True)])
        score = sum(points)
        hashed = start.copy()
        hashed.update(candidate.provider.encode())
        tie = int.from_bytes(hashed.digest()[:8], "big")
        reasons = extra[candidate.bid_id][1] if extra else ()
        key = (-score, work_price(candidate), tie, candidate.bid_id)
        scored.append(_Scored(key, candidate, values, points, score, reasons))
    scored.sort(key=lambda entry: entry.key)
    return scored


def _column(
    request: BidRequest, included: Sequence[Candidate], name: str, extra: dict[BidId, tuple[int, tuple[str, ...]]]
) -> list[int]:
    if name == RANK:
        return [extra[candidate.bid_id][0] for candidate in included]
    value: Value = TERMS[name](request)
    return [value(candidate) for candidate in included]


# --------------------------------------------------------------------------------------------------------------- the band


def _spread(scored: list[_Scored], percent: int) -> list[_Scored]:
    """Orders the band of the best by hash, dominating bids before those they dominate; the others keep their places."""
    if not scored:
        return scored
    best = scored[0].score
    edge = best - abs(best) * percent // 100
    size = next((i for i, entry in enumerate(scored[:MAX_BAND]) if entry.score < edge), min(MAX_BAND, len(scored)))
    if size == 1:
        return scored
    reason = (
        f"among {size} within {percent} % of the best score: ordered by hash, unless one is better in every respect"
    )
    band = [entry._replace(reasons=(*entry.reasons, reason)) for entry in scored[:size]]
    return _by_hash_and_dominance(band) + scored[size:]


def _by_hash_and_dominance(band: list[_Scored]) -> list[_Scored]:
    """Again and again takes, of those that nothing left dominates, the one with the lowest hash."""
    left = sorted(band, key=lambda entry: entry.key[2:])
    ahead = [sum(_dominates(other, entry) for other in left) for entry in left]
    order = []
    while left:
        at = ahead.index(0)  # there is one: dominance is a strict partial order
        taken = left.pop(at)
        ahead.pop(at)
        order.append(taken)
        for i, entry in enumerate(left):
            ahead[i] -= _dominates(taken, entry)
    return order


def _dominates(one: _Scored, other: _Scored) -> bool:
    """At least as good in every weighed term and in price per work, and better in one of them."""
    if one.key[1] > other.key[1]:
        return False
    better = one.key[1] < other.key[1]
    for mine, theirs in zip(one.values, other.values, strict=True):
        if mine < theirs:
            return False
        better = better or mine > theirs
    return better
