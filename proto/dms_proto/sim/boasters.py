"""Providers whose benchmark is spot-checked: one that claims twice what it has, and an honest one whose neighbours are noisy.

An honest node is busy with others' work for `BUSY` of the time, in spells of about `SPELL_MS`; a check then finds between 40 and 90 % of what it
has. Every check is off by some percent besides. Awards come about every `AWARD_MS`.
"""

from __future__ import annotations

from typing import Final

from dms_proto.reputation import Kind
from dms_proto.sim.chance import chance
from dms_proto.units import MINUTE
from dms_proto.verification.spot_check import SpotChecks, found, is_due

CLAIM: Final = 1_000
AWARD_MS: Final = 10 * MINUTE
BUSY: Final = 0.2
SPELL_MS: Final = 15 * MINUTE
_NOISE: Final = 0.05


def caught_after(truth: int, awards: int, seed: int) -> int | None:
    """At which award a provider that claims `CLAIM` and has `truth` is found to overstate; None: not within so many."""
    rng, secret = chance("boaster", truth, seed), f"boaster {seed}".encode()
    checks, now, busy, until = SpotChecks(), 0, False, 0.0
    for award in range(1, awards + 1):
        now += round(rng.expovariate(1 / AWARD_MS))
        while until <= now:
            busy = not busy
            until += rng.expovariate(1 / (SPELL_MS if busy else SPELL_MS * (1 - BUSY) / BUSY))
        if not is_due(checks, now, secret, award):
            continue
        measured = truth * rng.gauss(1, _NOISE) * (rng.uniform(0.4, 0.9) if busy else 1)
        checks, kind = found(checks, CLAIM, round(measured), now)
        if kind is Kind.OVERSTATED:
            return award
    return None
