"""Silence: who bids and does not answer when a bid is taken. Pure.

Each such commit costs a job its acknowledgement timeout, so who does it again and again, at the lowest price, would slow down every job. It is
forgotten with one answer, however late: a provider that is merely slow keeps being asked.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dms_proto.ids import BidId, PeerId
from dms_proto.recent import Recent
from dms_proto.units import MINUTE, SECOND

STRIKES: Final = 3
"""Commits in a row without any answer, after which a provider's bids are not heard for a while."""
FIRST_PAUSE_MS: Final = 30 * SECOND
"""So long after the third; twice as long after each that follows,"""
LONGEST_PAUSE_MS: Final = 10 * MINUTE
"""up to this."""
MOST: Final = 4_096
"""Providers remembered; the one silent longest ago goes."""


class _Strikes(NamedTuple):
    bids: tuple[BidId, ...]
    strikes: int
    at: int


_NONE: Final = _Strikes((), 0, 0)


class Silence:
    """Of all providers, by one requester. Not shared between threads."""

    def __init__(self) -> None:
        self._strikes: Recent[PeerId, _Strikes] = Recent(MOST)

    def let_down(self, provider: PeerId, bid: BidId, now: int) -> None:
        """It did not answer a commit to `bid`, at `now` (Unix ms). What was long before does not count."""
        before = self._strikes.get(provider) or _NONE
        if not before.at <= now < before.at + LONGEST_PAUSE_MS:
            before = _NONE
        self._strikes.keep(provider, _Strikes((*before.bids, bid)[-STRIKES:], before.strikes + 1, now))

    def answered(self, provider: PeerId, bid: BidId) -> None:
        """It did answer; only what it let down counts, since anybody can make up a bid."""
        if bid in (self._strikes.get(provider) or _NONE).bids:
            self._strikes.take(provider)

    def is_ignored(self, provider: PeerId, now: int) -> bool:
        """Whether its bids are not worth waiting for at `now`. After a clock went back: no."""
        _, count, at = self._strikes.get(provider) or _NONE
        pause = min(FIRST_PAUSE_MS << min(max(0, count - STRIKES), 10), LONGEST_PAUSE_MS)
        return count >= STRIKES and at <= now < at + pause

    def __len__(self) -> int:
        return len(self._strikes)
