"""How long the way to each peer is, by how soon it answers requests. Pure.

A probe is sent rarely, and one that meets a busy machine, here or there, says little of the way. Answers are many, and the quickest of them met
nobody busy: a way is as long as the quickest one took lately.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dms_proto.ids import PeerId
from dms_proto.recent import Recent
from dms_proto.units import HOUR

MOST: Final = 4_096
"""Peers remembered; the oldest go."""
LATELY_MS: Final = HOUR
"""After so long a quick answer says nothing any more: the peer may be elsewhere."""
UNDER_A_MS: Final = 500
"""Microseconds of what took no whole millisecond."""


class _Answer(NamedTuple):
    us: int
    at: int


class Ways:
    """Of one requester. Not shared between threads."""

    def __init__(self) -> None:
        self._quickest: Recent[PeerId, _Answer] = Recent(MOST)

    def took(self, peer: PeerId, span_ms: int, now: int) -> None:
        """An answer of a peer came so long after the question, at `now` (Unix ms)."""
        known, us = self._quickest.get(peer), micros(span_ms)
        if known is None or us <= known.us or now - known.at > LATELY_MS:
            self._quickest.keep(peer, _Answer(us, now))

    def us(self, peer: PeerId) -> int:
        """The way there and back, in microseconds; 0: it has answered nothing."""
        known = self._quickest.get(peer)
        return 0 if known is None else known.us


def micros(span_ms: int) -> int:
    """A measured span in microseconds; never 0, which would say that nothing was measured."""
    return span_ms * 1000 or UNDER_A_MS
