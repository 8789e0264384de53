"""Scores: what peers have done wrong lately, and who is muted for it. Pure: the time comes in.

::

    offence ──▶ POINTS ──▶ score of its peer ──at MUTE_AT──▶ muted for one half-life ──▶ heard again, with half of its points
                               └──────────── halves every half-life ────────────┘

The gate and the network process keep one each, over the same table. A muted peer is not listened to, so nothing it does adds to its score.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from dms_proto.ids import PeerId
from dms_proto.units import SECOND

MUTE_AT: Final = 1_000
"""Points at which a peer is muted."""
HALF_LIFE_MS: Final = 30 * SECOND
"""Time in which points halve; so long is a peer muted."""
FORGOTTEN_BELOW: Final = 1
"""A score that has sunk below it could be forgotten without giving anything away."""
MAX_SCORES: Final = 4_096
"""Peers with points; past it the one with the fewest is forgotten, so that invented peers cannot grow the table."""


class Offence(StrEnum):
    """What no peer does in good faith, or not often."""

    FORGED = "forged"
    """A signature that is not the author's, or a message of somebody else under the own name."""
    MALFORMED = "malformed"
    """Bytes that no version of the protocol gives."""
    OVERSIZED = "oversized"
    """More bytes at once than its way allows."""
    MISDIRECTED = "misdirected"
    """A message for another node, or by a way it may not take."""
    ABANDONED = "abandoned"
    """A bid taken, and the work never sent: capacity was held for nothing."""
    VANISHED = "vanished"
    """Bids neither taken nor released by their requester: capacity was held for nothing."""
    REPLAYED = "replayed"
    """A message that was accepted before, or whose time is over."""
    FLOODED = "flooded"
    """An item above the rate limit."""
    UNREAD = "unread"
    """It takes nothing of what it is sent, for longer than any slow link does."""
    OTHER_CONTENT = "other_content"
    """A content that is not what its digest says, sent from its first byte to its last."""
    UNHANDLED = "unhandled"
    """A message whose handling failed here. It may be our own defect that it meets."""
    CROWDED = "crowded"
    """An item above the rate limit of all from where its sender is, though not above its own."""


POINTS: Final[dict[Offence, int]] = {
    Offence.FORGED: 250,
    Offence.MALFORMED: 100,
    Offence.OVERSIZED: 100,
    Offence.MISDIRECTED: 50,
    Offence.ABANDONED: 250,
    Offence.VANISHED: 400,
    Offence.REPLAYED: 10,  # a node that slept sends what has expired, once
    Offence.FLOODED: 2,  # an honest sender paces itself, but a slow link bunches what it sent
    Offence.UNREAD: 600,  # twice within some twenty seconds mutes
    Offence.OTHER_CONTENT: 250,  # it may be a damaged disk
    Offence.UNHANDLED: 250,  # once costs little, and whoever has found how to do it is muted after a few
    Offence.CROWDED: 1,  # it may be the neighbour of an attacker: who sends little stays below what is forgiven meanwhile
}
"""What each offence adds to the score."""


class _Score:
    __slots__ = ("at", "muted_until", "points")

    def __init__(self, now: int) -> None:
        self.points = 0.0
        self.at = now
        self.muted_until = -1


class Scores:
    """The scores of all peers, in bounded memory. One per receiving machine; not shared between threads."""

    def __init__(self, half_life_ms: int = HALF_LIFE_MS, *, most: int = MAX_SCORES) -> None:
        """`half_life_ms`: time in which points halve, at least 1. `most`: peers remembered, at least 1."""
        self.half_life_ms = half_life_ms
        self._most = most
        self._scores: dict[PeerId, _Score] = {}

    def blame(self, peer: PeerId, offence: Offence, now: int) -> bool:
        """Adds an offence at `now` (Unix ms, or ms of any steady clock). True: it is muted from now on, and was not before."""
        if self.is_muted(peer, now):
            return False
        score = self._scores.get(peer)
        if score is None:
            self._make_room(now)
            score = self._scores[peer] = _Score(now)
        score.points = min(MUTE_AT, self._points(score, now) + POINTS[offence])
        score.at = now
        if score.points < MUTE_AT:
            return False
        score.muted_until = now + self.half_life_ms
        return True

    def inherit(self, old: PeerId, new: PeerId, now: int) -> None:
        """A peer has a new name: what it did under the old one counts against the new one, and a mute goes on."""
        past = self._scores.pop(old, None)
        if past is None:
            return
        score = self._scores.get(new) or _Score(now)
        score.points = min(MUTE_AT, self._points(score, now) + self._points(past, now))
        score.at = now
        score.muted_until = max(score.muted_until, past.muted_until)
        self._scores[new] = score

    def is_muted(self, peer: PeerId, now: int) -> bool:
        """Whether `peer` is not to be listened to at `now`. After a clock went back by more than a half-life: no."""
        score = self._scores.get(peer)
        return score is not None and score.muted_until - self.half_life_ms <= now < score.muted_until

    def points(self, peer: PeerId, now: int) -> int:
        """What `peer` has at `now`, rounded down."""
        score = self._scores.get(peer)
        return int(self._points(score, now)) if score is not None else 0

    def __len__(self) -> int:
        return len(self._scores)

    def _points(self, score: _Score, now: int) -> float:
        return float(score.points * 0.5 ** (max(0, now - score.at) / self.half_life_ms))

    def _make_room(self, now: int) -> None:
        if len(self._scores) < self._most:
            return
        self._scores = {p: s for p, s in self._scores.items() if self._points(s, now) >= FORGOTTEN_BELOW}
        if len(self._scores) >= self._most:
            del self._scores[min(self._scores, key=lambda peer: self._points(self._scores[peer], now))]
