"""What a comparison says: one verdict per dimension, and one over all.

========================  ====================================================================================
verdict of a dimension    meaning
========================  ====================================================================================
BETTER                    offers what is asked, and more
EQUAL                     offers exactly what is asked
WORSE                     offers less; a smaller request, or waiting, could help
INCOMPARABLE              offers something else, which no amount turns into what is asked (another architecture)
========================  ====================================================================================

Over all: WORSE if any dimension is; else INCOMPARABLE if any is; else BETTER if any is; else EQUAL. A machine *fits* when no dimension is WORSE or
INCOMPARABLE. Every verdict that does not fit carries a clause: what was wanted, what is there, the nearest change.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from dms_proto.messages import Clause

MAX_CLAUSES: Final = 32
"""As many as a `Decline` may carry."""
CONSTRAINT: Final = "constraint"
"""Dimension in which a bid is ruled out by a constraint of its own requester."""
_MAX_TEXT: Final = 500


class Verdict(StrEnum):
    """How an offered amount or kind stands to what is required."""

    BETTER = "better"
    EQUAL = "equal"
    WORSE = "worse"
    INCOMPARABLE = "incomparable"


FITTING: Final = frozenset({Verdict.BETTER, Verdict.EQUAL})


class DimensionVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict on one dimension. `clause` is present exactly when it does not fit."""

    dimension: str
    verdict: Verdict
    clause: Clause | None = None


class Comparison(msgspec.Struct, frozen=True):
    """What one machine is to one request: the verdict over all, and each dimension's."""

    verdict: Verdict
    dimensions: tuple[DimensionVerdict, ...]

    @property
    def fits(self) -> bool:
        """Whether the machine can do it."""
        return self.verdict in FITTING

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Why not, dimension by dimension; at most `MAX_CLAUSES`, empty when it fits."""
        return tuple(d.clause for d in self.dimensions if d.clause is not None)[:MAX_CLAUSES]

    def of(self, dimension: str) -> DimensionVerdict | None:
        """The verdict on one dimension, or None if it was not judged."""
        return next((d for d in self.dimensions if d.dimension == dimension), None)


def over_all(dimensions: Iterable[DimensionVerdict]) -> Comparison:
    """The comparison that consists of these verdicts."""
    judged = tuple(dimensions)
    verdicts = {d.verdict for d in judged}
    for verdict in (Verdict.WORSE, Verdict.INCOMPARABLE, Verdict.BETTER):
        if verdict in verdicts:
            return Comparison(verdict, judged)
    return Comparison(Verdict.EQUAL, judged)


@lru_cache(maxsize=256)
def good(dimension: str, *, equal: bool) -> DimensionVerdict:
    """A dimension that fits, exactly or with more than is asked. Most comparisons consist of these, so they are kept."""
    return DimensionVerdict(dimension, Verdict.EQUAL if equal else Verdict.BETTER)


def bad(
    dimension: str,
    wanted: str,
    observed: str,
    nearest: str = "",
    *,
    passing: bool = False,
    verdict: Verdict = Verdict.WORSE,
) -> DimensionVerdict:
    """A dimension that does not fit, with its clause. Texts are cut to what a message may carry."""
    clause = Clause(
        _cut(dimension), _cut(wanted), _cut(observed), nearest if len(nearest) <= _MAX_TEXT else "", passing
    )
    return DimensionVerdict(clause.dimension, verdict, clause)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
