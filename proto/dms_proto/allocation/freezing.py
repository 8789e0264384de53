"""How an allocation gives way: it is frozen for a reason, and thawed when the reason is gone, or evicted when that takes too long.

::

    whoever decides        the allocation's machine             the run                the requester
    FreezeWished ────────▶ AllocationFrozen ── FreezeRun ─────▶ frozen where it stands
                                     └──── AllocationStatus(frozen=why, evict_after_ms) ─▶ told; nothing runs, nothing is billed
    ThawWished ──────────▶ AllocationThawed ── ThawRun ───────▶ goes on
                                     └──── AllocationStatus(frozen="") ──────────────────▶ told
    its time is over ────▶ StopBegun(EVICTED) ── StopRun ─────▶ thawed, SIGTERM, the grace, SIGKILL
                                     └──── AllocationStatus(ending=EVICTED, why) ────────▶ tried elsewhere; nobody is blamed, nothing is owed

* It gives way to somebody (`Prior`). Each has its own decider, who takes back only its own: what gives way to two goes on when both have let go.
* A wish that stands already changes nothing, so a decider may repeat it, as after a restart.
* The time while frozen is no time of the run: its `Usage.wall_ms` and its wall time stand still. All of it together is at most `MOST_FROZEN_MS`,
  on which the requester's patience rests.
* What is not started yet is frozen as soon as it is; what cannot be frozen is evicted at once.
* Memory, disk and the reservation stay: only an eviction gives capacity back.

Deciders: whether the owner is at the machine (`dms_proto.owner_first`), through the offer book; and the offer book itself, where work that can wait
gives way to work that cannot. They say so by the effect `offer_state.TellAllocation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.machine import Effect, Event, Stimulus
from dms_proto.units import HOUR

MOST_FROZEN_MS: Final = HOUR
"""An allocation is frozen for at most so long, all its freezes together; then it is evicted."""


class Prior(StrEnum):
    """Who comes before an allocation."""

    OWNER = "owner"
    """The owner of the machine."""
    ONLINE = "online"
    """Work that somebody waits for."""


class FreezeWished(Stimulus, frozen=True):
    """It is to give way.

    Attributes:
        to: to whom.
        because: for people.
        evict_after_ms: evicted unless it is thawed within this time; 0: at once, without being frozen.
        grace_ms: the most that it then has left to end by itself.
    """

    to: Prior
    because: str
    evict_after_ms: int
    grace_ms: int


class ThawWished(Stimulus, frozen=True):
    """It need not give way any more; if it did not, nothing changes."""

    to: Prior


class FreezeFailed(Stimulus, frozen=True):
    """Its run cannot be frozen here: it is evicted."""

    why: str


class AllocationFrozen(Event, frozen=True):
    """It gives way, and is evicted at `evict_at` (Unix ms) unless it is thawed before; it then has `grace_ms` left at most."""

    to: Prior
    because: str
    evict_at: int
    grace_ms: int
    at: int


class AllocationThawed(Event, frozen=True):
    """It need not give way to this one any more; without another it goes on."""

    to: Prior
    at: int


class FreezeRun(Effect, frozen=True):
    """Freeze the run where it stands, or as soon as it has started; if this node dies, it is over at `until` (Unix ms). Repeats are harmless."""

    until: int


class ThawRun(Effect, frozen=True):
    """Let the run go on."""


class Freeze(msgspec.Struct, frozen=True):
    """That it gives way to somebody: as in `AllocationFrozen`."""

    because: str
    evict_at: int
    grace_ms: int


class Frozen(msgspec.Struct, frozen=True):
    """Whether an allocation stands still.

    Attributes:
        priors: whom it gives way to; nobody: it goes on.
        since: Unix ms since which it has stood still; 0 while it goes on.
        before_ms: for how long it has stood still before that, in all.
        times: how often it was frozen.
    """

    priors: Mapping[Prior, Freeze] = {}
    since: int = 0
    before_ms: int = 0
    times: int = 0

    @property
    def because(self) -> str:
        """Why, for people; empty while it goes on."""
        return "; ".join(freeze.because for freeze in self.priors.values())

    @property
    def evict_after_ms(self) -> int:
        """After how long of standing still it is evicted; 0 while it goes on."""
        return max(0, (self.evict_at or self.since) - self.since)

    @property
    def grace_ms(self) -> int:
        """The most that is left to it to end by itself once it is evicted."""
        return min((freeze.grace_ms for freeze in self.priors.values()), default=0)

    @property
    def evict_at(self) -> int | None:
        """When it is evicted; None while it goes on."""
        return min((freeze.evict_at for freeze in self.priors.values()), default=None)

    def total_ms(self, now: int) -> int:
        """For how long it has stood still in all."""
        return self.before_ms + (max(0, now - self.since) if self.priors else 0)

    def giving_way(self, event: AllocationFrozen) -> Frozen:
        """It gives way to one more."""
        priors = {**self.priors, event.to: Freeze(event.because, event.evict_at, event.grace_ms)}
        if self.priors:
            return msgspec.structs.replace(self, priors=priors)
        return Frozen(priors, event.at, self.before_ms, self.times + 1)

    def let_go(self, event: AllocationThawed) -> Frozen:
        """It gives way to one less; without any it goes on."""
        priors = {prior: freeze for prior, freeze in self.priors.items() if prior is not event.to}
        if priors:
            return msgspec.structs.replace(self, priors=priors)
        return Frozen({}, 0, self.total_ms(event.at), self.times)


def frozen_by(frozen: Frozen, wish: FreezeWished, now: int) -> AllocationFrozen:
    """What follows from a wish: evicted after what it says, or when all that is bearable is used up."""
    bearable = max(0, MOST_FROZEN_MS - frozen.total_ms(now))
    evict_at = now + min(wish.evict_after_ms, bearable)
    return AllocationFrozen(wish.to, wish.because, evict_at, wish.grace_ms, now)
