"""How long each provider is given for an answer to a commit, by how long it took for earlier ones. Pure.

As RFC 6298 has it for retransmissions: what is usual, and four times as much as it varies; and after a time without an answer twice that time, until
there is one. An answer is known by the bid that it is for, so there is no doubt what it answers (Karn's algorithm is not needed).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dms_proto.ids import PeerId
from dms_proto.recent import Recent

MOST: Final = 4_096
"""Providers remembered; the oldest go."""


class _Times(NamedTuple):
    """In milliseconds. `usual`: 0 before the first answer; `missed`: how long it was waited for in vain since the last one."""

    usual: int = 0
    varies: int = 0
    missed: int = 0


class AnswerTimes:
    """Of one requester. Not shared between threads."""

    def __init__(self) -> None:
        self._times: Recent[PeerId, _Times] = Recent(MOST)

    def took(self, peer: PeerId, span_ms: int) -> None:
        """An answer came so long after the commit."""
        before = self._times.get(peer)
        if before is None or not before.usual:
            after = _Times(span_ms, span_ms // 2)
        else:
            off = abs(before.usual - span_ms)
            after = _Times((7 * before.usual + span_ms) // 8, (3 * before.varies + off) // 4)
        self._times.keep(peer, after)

    def missed(self, peer: PeerId, span_ms: int) -> None:
        """It was waited for so long in vain. Commits that were under way together have waited together, and count once."""
        before = self._times.get(peer) or _Times()
        self._times.keep(peer, before._replace(missed=max(before.missed, span_ms)))

    def ms(self, peer: PeerId) -> int:
        """How long to wait for its next answer; 0: nothing is known of it."""
        known = self._times.get(peer)
        return 0 if known is None else max(known.usual + 4 * known.varies, 2 * known.missed)
