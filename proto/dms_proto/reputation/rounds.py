"""Rounds of asking that a provider was asked in by name, and left unanswered. Pure.

::

    asked by name ──no answer within the window──▶ a round ──BORNE in a row──▶ still asked, not waited for
                        └──an answer in time──▶ all forgotten

Whoever is asked and never answers makes each job wait for the end of its window. One that answers too late does the same, and is heard all the
same where that still helps. Rounds that were under way together are one, so that a moment in which a machine was busy, here or there, is one as
well; and where nobody else bids, everybody is waited for: being wrong costs time and never a job (`market.auction_search`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from dms_proto.ids import PeerId, RequestId
from dms_proto.recent import Recent

BORNE: Final = 3
"""Rounds in a row; who leaves so many unanswered is not waited for."""
MOST: Final = 4_096
"""Rounds, and providers, remembered; the oldest go."""


class _Left(NamedTuple):
    rounds: int
    until: int
    """When the window of the last of them is over."""


class _Window(NamedTuple):
    since: int
    until: int


class Rounds:
    """Of one requester. Times are Unix ms. Not shared between threads."""

    def __init__(self) -> None:
        self._windows: Recent[tuple[RequestId, int], _Window] = Recent(MOST)
        self._left: Recent[PeerId, _Left] = Recent(MOST)

    def asked(self, request_id: RequestId, round_: int, peers: Iterable[PeerId], now: int, window_ms: int) -> None:
        """`peers` are asked by name, and have `window_ms` to answer."""
        until = now + window_ms
        self._windows.keep((request_id, round_), _Window(now, until))
        for peer in peers:
            before = self._left.get(peer)
            if before is None or now >= before.until:
                self._left.keep(peer, _Left(1 if before is None else before.rounds + 1, until))

    def answered(self, peer: PeerId, request_id: RequestId, round_: int, now: int) -> int | None:
        """It bids or declines: how long after it was asked, in milliseconds. What comes after the window is no answer: None."""
        window = self._windows.get((request_id, round_))
        if window is None or now > window.until:
            return None
        self._left.take(peer)
        return max(0, now - window.since)

    def unanswered(self, peers: Iterable[PeerId], now: int) -> Mapping[PeerId, int]:
        """Those of `peers` that are not waited for, and how many rounds in a row they have left unanswered."""
        rounds = {peer: self._over(peer, now) for peer in peers}
        return {peer: number for peer, number in rounds.items() if number >= BORNE}

    def __len__(self) -> int:
        return len(self._left)

    def _over(self, peer: PeerId, now: int) -> int:
        left = self._left.get(peer)
        if left is None:
            return 0
        return left.rounds if now >= left.until else left.rounds - 1
