"""Renewal: who issued a grant has promised to make it anew, again and again, while its holder uses it.

::

    made ───────────────── two thirds of its span ────────── end
                                     │ GrantWanted ──▶ who issued it
                    kept in its place ◀── GrantGiven: the same bounds, until one span from now

A renewal names the grant it stands for, so whoever revokes that one has revoked this one as well. Only a grant that has not ended is made anew: one
that nobody uses runs out. What was made of it by appending is not: anybody can append, so nobody has promised anything.
"""

from __future__ import annotations

import msgspec

from dms_proto.units import MINUTE, SECOND


class Renewal(msgspec.Struct, frozen=True):
    """What was promised with a grant.

    Attributes:
        until: no renewal ends later; Unix ms, whole seconds.
        span_ms: how long each lasts; whole seconds, at least one.
    """

    until: int
    span_ms: int

    def end(self, now: int) -> int:
        """When a renewal made at `now` (Unix ms) ends: a whole second."""
        return min(now + self.span_ms, self.until) // SECOND * SECOND

    def is_due(self, end: int, now: int) -> bool:
        """Whether a grant that ends at `end` is in the last third of its span at `now` (Unix ms), and a renewal would end later."""
        return now >= end - self.span_ms // 3 and self.end(now) > end

    @property
    def pause_ms(self) -> int:
        """How long an answer is waited for before it is asked again."""
        return max(MINUTE, self.span_ms // 100)


def promised(until: int, end: int, now: int) -> Renewal | None:
    """The promise to renew a grant that ends at `end`, until `until` (all Unix ms). None: nothing could ever be renewed by it."""
    span_ms = (end - now) // SECOND * SECOND
    last = until // SECOND * SECOND
    return Renewal(last, span_ms) if end and span_ms > 0 and last > end else None
