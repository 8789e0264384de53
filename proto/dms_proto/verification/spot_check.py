"""A claimed benchmark against what a spot check measures at award: when one is due, and when a provider has overstated.

A check can come out too slow for many reasons, and too fast for none: a neighbour, a throttled clock. So one that comes out as claimed settles the
matter, and a provider is blamed only after `SHORT_IN_A_ROW` short ones in a row, `APART_MS` apart: longer than a busy spell usually lasts.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.reputation.evidence import Kind
from dms_proto.units import MINUTE
from dms_proto.verification.chance import is_drawn

TOLERANCE_PERMILLE: Final = 250
"""How far below its claim a check may come out: the benchmark itself repeats within 50, the rest is for a machine at work."""
SHORT_IN_A_ROW: Final = 6
ENOUGH: Final = 10
"""Checks in a row that came out as claimed, after which there is not one beside every award."""
RAREST: Final = 20
"""Then there is one beside ever fewer awards, but beside one in so many at the least."""
APART_MS: Final = 20 * MINUTE
"""Two checks of one provider are at least so far apart."""


class SpotChecks(msgspec.Struct, frozen=True, omit_defaults=True):
    """What spot checks have found of one provider.

    Attributes:
        good: checks in a row that came out as claimed.
        short: checks in a row, the last ones, that did not.
        at: Unix ms of the last one; 0: none yet.
    """

    good: int = 0
    short: int = 0
    at: int = 0


def is_due(checks: SpotChecks, now: int, seed: bytes, *names: object) -> bool:
    """Whether an award at `now` (Unix ms) comes with a spot check: always at first and while one is in doubt, then ever more rarely."""
    if checks.at and now - checks.at < APART_MS:
        return False
    if checks.short or checks.good < ENOUGH:
        return True
    return is_drawn(seed, min(checks.good, RAREST), "spot check", *names)


def found(checks: SpotChecks, claimed: int, measured: int, now: int) -> tuple[SpotChecks, Kind | None]:
    """What a check means.

    Args:
        checks: what was found before.
        claimed: the score in the provider's bid, thousandths of the reference core.
        measured: the score that the check found.
        now: Unix ms.

    Returns:
        What is found now, and the evidence that follows: none while it is in doubt.
    """
    if 1000 * measured >= (1000 - TOLERANCE_PERMILLE) * claimed:
        return SpotChecks(checks.good + 1, at=now), Kind.HONEST
    short = checks.short + 1
    if short >= SHORT_IN_A_ROW:
        return SpotChecks(at=now), Kind.OVERSTATED
    return SpotChecks(short=short, at=now), None
