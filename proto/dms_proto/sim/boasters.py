"""Providers whose benchmark is spot-checked: one that claims twice what it has, and an honest one whose machine is busy with others' work.

An honest node is busy for a share of the time, in spells of about `SPELL_MS`; a check then finds between 40 and 90 % of what it has. Every check is
off by some percent besides. Awards come about every `AWARD_MS`. What takes its cores without its seeing it (threads that share a core, a throttled
clock) is only found slow. Of other programs, and of time that the hypervisor keeps, it knows after `SEEN_AFTER_MS`: then it offers no whole core, and
none is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms_proto.reputation import Kind
from dms_proto.sim.chance import chance
from dms_proto.units import MINUTE, SECOND
from dms_proto.verification.spot_check import SpotChecks, found, is_due

CLAIM: Final = 1_000
AWARD_MS: Final = 10 * MINUTE
BUSY: Final = 0.2
SPELL_MS: Final = 15 * MINUTE
SEEN_AFTER_MS: Final = 20 * SECOND
_NOISE: Final = 0.05
Judge = Callable[[SpotChecks, int, int, int], tuple[SpotChecks, Kind | None]]
"""What follows from a check: `spot_check.found`, or a whole machine."""


def caught_after(
    truth: int, awards: int, seed: int, *, busy_share: float = BUSY, sees_it: bool = False, judge: Judge = found
) -> int | None:
    """At which award a provider that claims `CLAIM` and has `truth` is found to overstate; None: not within so many.

    Args:
        truth: the score that its machine has when it is not busy.
        awards: how many it gets.
        seed: of everything that happens by chance.
        busy_share: how much of the time its machine is busy with others' work, below 1.
        sees_it: whether the node can see what its machine is busy with.
        judge: what a check means.
    """
    rng, secret = chance("boaster", truth, seed), f"boaster {seed}".encode()
    checks, now, busy, since, until = SpotChecks(), 0, False, 0.0, 0.0
    for award in range(1, awards + 1):
        now += round(rng.expovariate(1 / AWARD_MS))
        while until <= now:
            busy, since = not busy, until
            until += rng.expovariate(1 / (SPELL_MS if busy else SPELL_MS * (1 - busy_share) / busy_share))
        if not is_due(checks, now, secret, award):
            continue
        if sees_it and busy and now - since > SEEN_AFTER_MS:
            continue  # it offers no whole core
        measured = truth * rng.gauss(1, _NOISE) * (rng.uniform(0.4, 0.9) if busy else 1)
        checks, kind = judge(checks, CLAIM, round(measured), now)
        if kind is Kind.OVERSTATED:
            return award
    return None
