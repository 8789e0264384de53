"""Which bids take part in a ranking: those whose machine fits, whose price holds, and for which every constraint is true."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import gcd
from typing import Final

import cel
import msgspec

from dms_proto.capability import Price, Resources
from dms_proto.market.candidates import Candidate
from dms_proto.market.comparison import compare, fit_test
from dms_proto.market.expressions import Expression, Unknown
from dms_proto.market.preferences import Preferences, compiled
from dms_proto.market.terms import SCALE
from dms_proto.market.variables import BID_SCHEMA, BID_VARIABLES, merged_uses, reader
from dms_proto.market.verdicts import CONSTRAINT, MAX_CLAUSES, bad
from dms_proto.messages import BidRequest, Clause
from dms_proto.units import CORE, GIB, HOUR, format_credits

RankValue = tuple[int, tuple[str, ...]]
"""What the CEL rank gives, in millionths, and what is to be said about it."""

_NO_RANK: Final[RankValue] = (0, ())
_OF_A_BID: Final = {name: fields for name, fields in BID_VARIABLES.items() if name != "request"}


def cost_under(resources: Resources, millis: int) -> Callable[[Price], int]:
    """``price.cost(resources, millis)`` for many prices: all but the tariff's own numbers is worked out once.

    The factors are cut down by what they have in common: small integers multiply and divide several times faster.
    """
    cpu = resources.cpu_millicores * GIB * millis
    memory, disk = resources.memory_bytes * CORE * millis, resources.disk_bytes * CORE * millis
    gpu = sum(gpu.milli for gpu in resources.gpus) * GIB * millis
    hour = CORE * GIB * HOUR
    common = gcd(cpu, memory, disk, gpu, hour)
    cpu, memory, disk, gpu, hour = cpu // common, memory // common, disk // common, gpu // common, hour // common

    def cost(price: Price) -> int:
        used = (
            price.cpu_core_hour * cpu
            + price.memory_gib_hour * memory
            + price.disk_gib_hour * disk
            + price.gpu_hour * gpu
        )
        return price.start - -used // hour

    return cost


class Admission:
    """The test for one request and one preference document, prepared once for all candidates.

    Expressions are compiled, values that do not change are converted, dimensions that are not asked for are left out.
    """

    def __init__(self, request: BidRequest, preferences: Preferences) -> None:
        self._needs = request.needs
        self._max_price = request.max_price
        self._fits = fit_test(request.needs)
        self._cost = cost_under(request.needs.resources, request.needs.max_wall_ms)
        self._constraints = [(source, compiled(source, BID_SCHEMA)) for source in preferences.constraints]
        self._rank = compiled(preferences.rank, BID_SCHEMA) if preferences.rank else None
        self._read: Callable[[Candidate], dict[str, object]] | None = None
        if self._constraints or self._rank is not None:
            expressions = (*(expression for _, expression in self._constraints), self._rank)
            uses = merged_uses(*(e.uses for e in expressions if isinstance(e, Expression)))
            self._read = reader(_OF_A_BID, uses)
            self._context = cel.Context(variables=reader({"request": BID_VARIABLES["request"]}, uses)(request))

    def sift(
        self, candidates: Iterable[Candidate]
    ) -> tuple[list[Candidate], list[RankValue], list[tuple[Candidate, tuple[Clause, ...]]]]:
        """Those that take part, the rank of each of them, and the others with the clauses that keep them out; each in the order given."""
        cost, fits, most = self._cost, self._fits, self._max_price
        judge = None if self._read is None else self._evaluate
        bids: list[Candidate] = []
        ranks: list[RankValue] = []
        out: list[tuple[Candidate, tuple[Clause, ...]]] = []
        for candidate in candidates:  # in one loop without calls of our own: there may be ten thousand
            price = candidate.price
            if price > most or cost(candidate.tariff) > price or not fits(candidate.offer):
                out.append((candidate, self._misfits(candidate)[:MAX_CLAUSES]))
                continue
            if judge is not None:
                clauses, rank = judge(candidate)
                if clauses:
                    out.append((candidate, clauses))
                    continue
                ranks.append(rank)
            bids.append(candidate)
        return bids, ranks if judge is not None else [_NO_RANK] * len(bids), out

    def _evaluate(self, candidate: Candidate) -> tuple[tuple[Clause, ...], RankValue]:
        """The constraints that are not true, and if there are none, the rank."""
        assert self._read is not None
        self._context.update(self._read(candidate))
        clauses = tuple(
            clause for source, constraint in self._constraints for clause in self._unmet(source, constraint)
        )
        return clauses, _NO_RANK if self._rank is None or clauses else _rank_value(self._rank, self._context)

    def _misfits(self, candidate: Candidate) -> tuple[Clause, ...]:
        honest_price = self._cost(candidate.tariff)
        clauses = compare(self._needs, candidate.offer).clauses
        stated = format_credits(candidate.price)
        if candidate.price > self._max_price:
            clauses += _clause("price", f"at most {format_credits(self._max_price)}", stated)
        if honest_price > candidate.price:
            clauses += _clause("price", f"{format_credits(honest_price)}, as the bid's tariff gives", stated)
        return clauses

    def _unmet(self, source: str, constraint: Expression | Unknown) -> tuple[Clause, ...]:
        met = constraint if isinstance(constraint, Unknown) else constraint.is_true(self._context)
        if met is True:
            return ()
        return _clause(CONSTRAINT, source, f"unknown: {met.reason}" if isinstance(met, Unknown) else "false")


def ruled_out_whatever_it_bids(
    request: BidRequest, constraints: Iterable[str], summary: Candidate
) -> tuple[Clause, ...]:
    """The constraints that a node could not meet with any bid: so no change to the rest of the request would gain it.

    Args:
        request: what is needed.
        constraints: of the requester.
        summary: what is known of the node, with all it has as its offer. What a bid alone would tell (its price, the way to it) is not looked at.
    """
    least = msgspec.structs.replace(summary.offer, resources=request.needs.resources)
    both = (summary, msgspec.structs.replace(summary, offer=least))
    found: list[Clause] = []
    for source in constraints:
        expression = compiled(source, BID_SCHEMA)
        if isinstance(expression, Unknown) or not _is_about_the_node(expression):
            continue
        read = reader(_OF_A_BID, expression.uses)
        values = ({**read(candidate), **_request_values(expression, request)} for candidate in both)
        if all(expression.is_true(context) is False for context in values):
            found += _clause(CONSTRAINT, source, "false")
    return tuple(found)


def _is_about_the_node(expression: Expression) -> bool:
    known = {"request", "offer", "provider"}
    return expression.uses.keys() <= known and "slots" not in expression.uses.get("offer", ())


def _request_values(expression: Expression, request: BidRequest) -> dict[str, object]:
    return reader({"request": BID_VARIABLES["request"]}, expression.uses)(request)


def _clause(dimension: str, wanted: str, observed: str) -> tuple[Clause, ...]:
    clause = bad(dimension, wanted, observed).clause
    return () if clause is None else (clause,)


def _rank_value(expression: Expression | Unknown, context: cel.Context) -> RankValue:
    number = expression if isinstance(expression, Unknown) else expression.number(context)
    if isinstance(number, Unknown):
        return 0, (f"rank is unknown and counts nothing: {number.reason}",)
    if 0 <= number <= 1:
        return round(number * SCALE), ()
    bound = 0 if number < 0 else 1
    return bound * SCALE, (f"rank {number:g} is not between 0 and 1 and counts as {bound}",)
