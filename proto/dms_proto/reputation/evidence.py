"""The evidence on one provider: what kinds there are, what each weighs, and how it fades.

Amounts are thousandths of an observation. They halve in `HALF_LIFE_MS`, in straight lines between the halvings, so that folding the same log gives
the same integers on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.units import HOUR
from dms_proto.work import DETERMINISTIC, NODE_FAULTS, EndReason

WHOLE: Final = 1_000
"""One observation, not faded and not shared."""
HALF_LIFE_MS: Final = 30 * 24 * HOUR
"""After a month an observation counts half: a machine that was repaired, or sold, is judged by what it does now."""


class Kind(StrEnum):
    """What was seen of a provider."""

    KEPT = "kept"
    """An allocation of ours ended well there, or by the job's own doing."""
    LATE = "late"
    """A program of ours began to run there later than whoever holds capacity lets it."""
    FAULT = "fault"
    """One failed by the node's doing, or the node was lost."""
    OVERCLAIMED = "overclaimed"
    """It asked more for one than it is owed by its own tariff."""
    UNOPENED = "unopened"
    """It sealed a bid and did not open it, or opened another one."""
    RIGHT = "right"
    """A result was checked, and it was the accepted one."""
    WRONG = "wrong"
    """A result was checked, and another one was accepted."""
    UNFIT = "unfit"
    """A result was checked and could not be compared, though others could."""
    HONEST = "honest"
    """A spot check of its benchmark came out as it claims."""
    OVERSTATED = "overstated"
    """Its benchmark claims more than spot checks find."""


POINTS: Final[Mapping[Kind, int]] = {
    Kind.KEPT: 1,
    Kind.RIGHT: 2,
    Kind.HONEST: 1,
    Kind.FAULT: -1,
    Kind.LATE: -1,
    Kind.UNOPENED: -1,
    Kind.OVERCLAIMED: -5,
    Kind.UNFIT: -5,
    Kind.OVERSTATED: -20,
    Kind.WRONG: -50,
}
"""What one observation weighs. A wrong answer costs more than any number of cheap right ones buys within a half-life."""


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one requester has seen of one provider.

    Attributes:
        counts: how often, ever.
        amounts: the same in thousandths, faded up to `at`, and less for what was shared with others of the same source.
        streak: results checked and right since the last one that was wrong, or unfit.
        source: where the provider was when it was last seen; see `sources`.
        worked: thousandths of points that it has worked for there, faded, whether or not they counted whole.
        at: Unix ms of the last observation.
    """

    counts: Mapping[Kind, int] = {}
    amounts: Mapping[Kind, int] = {}
    streak: int = 0
    source: str = ""
    worked: int = 0
    at: int = 0

    def faded(self, now: int) -> dict[Kind, int]:
        """The amounts as they count at `now` (Unix ms)."""
        return {kind: fade(amount, now - self.at) for kind, amount in self.amounts.items()}


NOTHING_KNOWN: Final = Evidence()


def noted(
    evidence: Evidence, kind: Kind, at: int, *, amount: int = WHOLE, source: str = "", worked: int = 0
) -> Evidence:
    """The evidence after one more observation.

    Args:
        evidence: until now.
        kind: what was seen.
        at: Unix ms.
        amount: thousandths that it counts.
        source: where the provider is.
        worked: what it has worked for there, this included.
    """
    amounts = evidence.faded(at)
    amounts[kind] = amounts.get(kind, 0) + amount
    counts = {**evidence.counts, kind: evidence.counts.get(kind, 0) + 1}
    streak = {Kind.RIGHT: evidence.streak + 1, Kind.WRONG: 0, Kind.UNFIT: 0}.get(kind, evidence.streak)
    return Evidence(counts, amounts, streak, source, worked, max(at, evidence.at))


def merged(earlier: Evidence, later: Evidence) -> Evidence:
    """The evidence on one provider that was seen under two names. Of two streaks the shorter counts."""
    at = max(earlier.at, later.at)
    return Evidence(
        counts=_sums(earlier.counts, later.counts),
        amounts=_sums(earlier.faded(at), later.faded(at)),
        streak=min(earlier.streak, later.streak),
        source=later.source,
        worked=fade(later.worked, at - later.at),
        at=at,
    )


def _sums(left: Mapping[Kind, int], right: Mapping[Kind, int]) -> dict[Kind, int]:
    return {kind: left.get(kind, 0) + right.get(kind, 0) for kind in (*left, *right)}


def fade(amount: int, passed_ms: int) -> int:
    """What is left of an amount after a time; a clock that went back fades nothing."""
    halvings, rest = divmod(max(passed_ms, 0), HALF_LIFE_MS)
    left = amount >> halvings
    return left - left * rest // (2 * HALF_LIFE_MS)


def kinds_of(reason: EndReason, claimed: int = 0, late_ms: int = 0) -> tuple[Kind, ...]:
    """What the end of an attempt says of its provider: nothing where that is not its doing (cancelled, a budget spent, …).

    Args:
        reason: why it ended.
        claimed: micro-credits that the provider asked for it, where that is more than it is owed; else 0.
        late_ms: how much later than it should have its program began to run; 0 where it did not.
    """
    kept = reason is EndReason.COMPLETED or reason in DETERMINISTIC
    ended = (Kind.KEPT,) if kept else (Kind.FAULT,) if reason in NODE_FAULTS else ()
    return (*ended, *((Kind.OVERCLAIMED,) if claimed else ()), *((Kind.LATE,) if late_ms else ()))
