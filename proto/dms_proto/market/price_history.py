"""What a provider's own history says about its prices: what was asked of it, what would have been paid, what was lost.

Prices are compared as thousandths of the present tariff, since requests differ in size: a request for which its requester would have paid half
of what the present tariff asks counts as 500, whatever it wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

PRESENT: Final = 1_000
"""The present tariff, in thousandths of itself."""
FEWEST: Final = 8
"""Requests below which nothing is suggested: quartiles of fewer are chance."""
MOST: Final = 10 * PRESENT
"""Counted as at most so much: who sets no real limit does not say what the work is worth."""


class Fate(StrEnum):
    """What became of a request that this node could have done."""

    WON = "won"
    LOST = "lost"
    """Bid on, and somebody else was chosen, or nobody."""
    TOO_DEAR = "too_dear"
    """Declined, and the price was the only reason."""


class Asked(msgspec.Struct, frozen=True):
    """A request that this node could have done.

    Attributes:
        cost: micro-credits for one allocation run to its wall limit, by the present tariff.
        most: micro-credits that its requester would have paid for it.
        fate: what became of it.
    """

    cost: int
    most: int
    fate: Fate

    @property
    def paid(self) -> int:
        """What its requester would have paid, in thousandths of the present tariff, from 0 to `MOST`."""
        return min(self.most * PRESENT // self.cost, MOST) if self.cost else MOST


class PriceAdvice(msgspec.Struct, frozen=True):
    """What the history says.

    Attributes:
        won, lost, too_dear: how many requests ended so.
        quartiles: what a quarter, half and three quarters of the requesters would have paid at most, in thousandths of the present tariff; zeros
            where there were no requests.
        forgone: micro-credits that the requests declined for their price alone would have paid.
        factor: the suggested tariff, in thousandths of the present one.
        why: the reason, for a person.
    """

    won: int
    lost: int
    too_dear: int
    quartiles: tuple[int, int, int]
    forgone: int
    factor: int
    why: str


def suggest(history: Sequence[Asked]) -> PriceAdvice:
    """What the requests of some time suggest for the tariff: a price that three of four requesters would pay.

    It is raised above the present one only while most bids are won: with others chosen more often than not, a higher price loses more.
    """
    counts = {fate: sum(asked.fate is fate for asked in history) for fate in Fate}
    won, lost, too_dear = counts[Fate.WON], counts[Fate.LOST], counts[Fate.TOO_DEAR]
    paid = sorted(asked.paid for asked in history)
    quartiles = (_quantile(paid, 1), _quantile(paid, 2), _quantile(paid, 3))
    forgone = sum(asked.most for asked in history if asked.fate is Fate.TOO_DEAR)
    factor, why = _advice(len(history), won, lost, quartiles[0])
    return PriceAdvice(won, lost, too_dear, quartiles, forgone, factor, why)


def _advice(asked: int, won: int, lost: int, lower: int) -> tuple[int, str]:
    if asked < FEWEST:
        return PRESENT, f"stay: {asked} of the {FEWEST} requests that are needed to say anything"
    if lower < PRESENT:
        return max(lower, 1), "lower: more than a quarter of the requesters would not have paid the present price"
    if won < lost:
        return PRESENT, "stay: it would be paid, but more bids are lost than won"
    if lower == PRESENT:
        return PRESENT, "stay: three of four requesters would pay just this"
    return lower, "raise: three of four requesters would have paid more, and most bids are won"


def _quantile(ordered: Sequence[int], quarter: int) -> int:
    """The largest value that at least (4 - quarter) quarters of the values reach; 0 of none."""
    return ordered[min(len(ordered) * quarter // 4, len(ordered) - 1)] if ordered else 0
