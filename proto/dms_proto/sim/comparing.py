"""Scripted comparators: what they say of two answers follows from how large their files are, so that a plan decides how far answers are apart."""

from __future__ import annotations

from typing import Final

from dms_proto.market.auction_effects import Compare
from dms_proto.market.auction_stimuli import Compared
from dms_proto.market.auction_terms import Given
from dms_proto.verification.comparing import Asking, Grouping, Pair, Said, grouping

NEAR: Final = "near"
"""Takes answers for the same whose sizes differ by `APART` at most, and fails on a `SPOILT` one."""
BROKEN: Final = "broken"
"""Fails on everything."""
APART: Final = 2
SPOILT: Final = 1_000_000
"""Bytes from which on an answer cannot be compared."""


def compared(wanted: Compare) -> Compared:
    """What a scripted comparator says."""
    asked = {given.index: given for given in (*wanted.founders, *wanted.fresh)}
    asking = grouping([given.index for given in wanted.founders], [given.index for given in wanted.fresh])
    found = _played(asking, wanted.comparator, asked)
    return Compared(wanted.piece, tuple(asked), found, f"{wanted.comparator} 1")


def _played(asking: Asking, comparator: str, asked: dict[int, Given]) -> Grouping:
    try:
        pair = next(asking)
        while True:
            pair = asking.send(_say(comparator, pair, asked))
    except StopIteration as end:
        found: Grouping = end.value
        return found


def _say(comparator: str, pair: Pair, asked: dict[int, Given]) -> Said:
    left, right = (sum(output.size for output in asked[index].outputs) for index in pair)
    if comparator == BROKEN:
        return "it is broken"
    if max(left, right) >= SPOILT:
        return "it is too large"
    return abs(left - right) <= APART
