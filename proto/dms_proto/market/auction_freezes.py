"""That an allocation stands still at its provider, as its requester is told: how long it is borne, and how it ends without blame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dms_proto.allocation.freezing import MOST_FROZEN_MS

if TYPE_CHECKING:
    from dms_proto.market.auction_events import ProviderFroze

change = msgspec.structs.replace
MOST_FREEZES: Final = 64
"""Freezes of one allocation that are noted, and other reasons for one; a provider that says more of them fills no log with it."""

BORNE_EVICTIONS: Final = 16
"""Evictions of one slot that cost nothing but time. Past them it is given up: who evicts whatever is brought to it would keep a job for ever."""


class Freezes(msgspec.Struct, frozen=True):
    """Whether an allocation stands still.

    Attributes:
        why: as its provider says; empty while it goes on.
        evict_after_ms: for how long, as its provider says, before it is evicted.
        since: Unix ms at which that was heard; 0 while it goes on.
        before_ms: for how long it stood still before that, in all.
        times: how often it was frozen, or stood still for another reason than before.
        evictions: how often an earlier attempt at its slot was evicted.
    """

    why: str = ""
    evict_after_ms: int = 0
    since: int = 0
    before_ms: int = 0
    times: int = 0
    evictions: int = 0

    @property
    def borne_ms(self) -> int:
        """How much later all of its limits are, since its time stands still as well. While it is frozen: as much as may be."""
        return MOST_FROZEN_MS if self.since else min(MOST_FROZEN_MS, self.before_ms)

    def begun(self, event: ProviderFroze) -> Freezes:
        """It stands still, or for another reason than before."""
        since, times = self.since or event.at, self.times + 1
        return change(self, why=event.why, evict_after_ms=event.evict_after_ms, since=since, times=times)

    def over(self, at: int) -> Freezes:
        """It goes on."""
        return change(self, why="", evict_after_ms=0, since=0, before_ms=self.before_ms + max(0, at - self.since))

    def attempt_over(self, *, is_evicted: bool) -> Freezes:
        """What is left of it for the next attempt."""
        return Freezes(evictions=self.evictions + is_evicted)

    def is_news(self, why: str) -> bool:
        """Whether what a status says of it is to be written down."""
        return why != self.why and (self.times < MOST_FREEZES or not why)


NEVER_FROZEN: Final = Freezes()
