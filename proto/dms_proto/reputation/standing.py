"""From evidence to a score: the share of good points, after a start that makes every newcomer earn it.

    score = (1 + points for) / (4 + points for + points against)

A newcomer stands at a quarter. That is below everybody who keeps at least one promise in three, so that throwing a bad name away for a new one
gains nothing worth having; and above zero, so that it gets its chance where it is cheaper, faster or alone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.reputation.evidence import POINTS, WHOLE, Evidence, Kind

FULL: Final = 1_000_000
"""The score of a perfect provider: scores are millionths."""
_START_FOR: Final = 1 * WHOLE
_START: Final = 4 * WHOLE
NEWCOMER: Final = FULL * _START_FOR // _START
"""The score of a provider of which nothing is known."""


class Summand(msgspec.Struct, frozen=True):
    """One kind of evidence in a score.

    Attributes:
        kind: of the evidence.
        count: how often it was seen, ever.
        points: thousandths of a point for (above 0) or against (below 0), after fading.
    """

    kind: Kind
    count: int
    points: int


class Standing(msgspec.Struct, frozen=True):
    """How a provider stands with a requester.

    Attributes:
        score: millionths.
        streak: results checked and right in a row.
        summands: what the score is made of; a newcomer has none.
    """

    score: int
    streak: int = 0
    summands: tuple[Summand, ...] = ()

    @property
    def doubt(self) -> int:
        """How much higher the score may prove to be once more is known, in millionths: three quarters for a newcomer, less with each observation."""
        known = sum(abs(part.points) for part in self.summands)
        return FULL * (_START - _START_FOR) // (_START + known)

    def __str__(self) -> str:
        """``0.83: kept 12 +11.4, fault 1 -0.9``."""
        story = ", ".join(f"{part.kind} {part.count} {part.points / WHOLE:+.1f}" for part in self.summands)
        return f"{self.score / FULL:.2f}: {story or 'nothing is known of it'}"


def standing(evidence: Evidence, now: int) -> Standing:
    """The score at `now` (Unix ms), with its summands in the order of `POINTS`."""
    amounts = evidence.faded(now)
    summands = tuple(
        Summand(kind, evidence.counts[kind], amounts[kind] * weight)
        for kind, weight in POINTS.items()
        if kind in amounts
    )
    good = sum(part.points for part in summands if part.points > 0)
    bad = -sum(part.points for part in summands if part.points < 0)
    return Standing(FULL * (_START_FOR + good) // (_START + good + bad), evidence.streak, summands)
