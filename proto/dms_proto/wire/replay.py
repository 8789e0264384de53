"""The replay window: which envelopes were seen, for as long as they could be shown again, in bounded memory.

An id is remembered from `record` (after the signature was verified, so that nobody can burn another's ids) until its envelope has expired. When
a sender's share or the whole window is full, the ids that expire soonest are forgotten, and the sender's *floor* rises to the latest sending
time among them: envelopes of that sender sent at or before its floor and not remembered are refused as stale. So no envelope is ever accepted
twice within its lifetime, whatever the flood; what a flood costs is that its own sender's late arrivals count as stale.

The window starts empty with the process: within one lifetime after a restart, gossip may be seen again. Handlers are idempotent by the ids inside
the messages for that reason. The same holds for a clock set back by more than a lifetime.
"""

from __future__ import annotations

import heapq
from enum import Enum, auto
from typing import Final

from dms_proto.ids import MessageId, PeerId
from dms_proto.units import SECOND

_SWEEP_MS: Final = SECOND
"""Least time between two walks over all senders, so that a flood does not cause one per frame."""


class Seen(Enum):
    """What the window says about an envelope."""

    NEW = auto()
    DUPLICATE = auto()
    """Remembered: it was accepted before."""
    STALE = auto()
    """Sent before the sender's floor: it may have been accepted before."""
    NO_ROOM = auto()
    """Its sender is new and the window has no room for another sender."""


class _Sender:
    """What is remembered of one sender."""

    __slots__ = ("floor", "floor_until", "ids", "queue")

    def __init__(self) -> None:
        self.ids: set[MessageId] = set()
        self.queue: list[tuple[int, int, MessageId]] = []  # a heap of (until, sent, id), one entry per id
        self.floor = -1  # Unix ms; nothing was sent that early
        self.floor_until = -1

    def drop_expired(self, now: int) -> int:
        """Forgets ids whose envelope has expired; returns how many."""
        before = len(self.ids)
        while self.queue and self.queue[0][0] < now:
            self.ids.discard(heapq.heappop(self.queue)[2])
        return before - len(self.ids)

    def evict(self, count: int) -> int:
        """Forgets the `count` ids that expire soonest and raises the floor over them; returns how many there were."""
        count = min(count, len(self.queue))
        for _ in range(count):
            until, sent, id_ = heapq.heappop(self.queue)
            self.ids.discard(id_)
            self.floor = max(self.floor, sent)
            self.floor_until = max(self.floor_until, until)
        return count

    def is_idle(self, now: int) -> bool:
        """Nothing is remembered and nothing that was forgotten could still be shown."""
        return not self.ids and self.floor_until < now


class ReplayWindow:
    """Ids seen, per sender. One per receiving machine and way of arrival; not shared between threads.

    At the default bounds and full it takes about 20 MB; a quiet node's takes a few kB.
    """

    def __init__(self, *, per_sender: int = 8_192, total: int = 65_536, senders: int = 4_096) -> None:
        """Bounds on remembered ids per sender and in total, and on senders. All at least 1."""
        self._per_sender = per_sender
        self._total = total
        self._max_senders = senders
        self._senders: dict[PeerId, _Sender] = {}
        self._count = 0
        self._next_sweep = 0

    def knows(self, sender: PeerId) -> bool:
        """Whether anything is remembered of `sender`."""
        return sender in self._senders

    def check(self, sender: PeerId, id_: MessageId, sent: int, now: int) -> Seen:
        """Whether an envelope that has not expired at `now` is new. Remembers nothing."""
        known = self._senders.get(sender)
        if known is None:
            return Seen.NEW if self._has_room(now) else Seen.NO_ROOM
        if id_ in known.ids:
            return Seen.DUPLICATE
        return Seen.STALE if sent <= known.floor else Seen.NEW

    def record(self, sender: PeerId, id_: MessageId, sent: int, until: int, now: int) -> None:
        """Remembers an envelope that `check` found new and whose signature is verified, until `until` (Unix ms, skew included)."""
        known = self._senders.setdefault(sender, _Sender())
        if id_ in known.ids:
            return
        known.ids.add(id_)
        heapq.heappush(known.queue, (until, sent, id_))
        self._count += 1 - known.drop_expired(now)
        if len(known.ids) > self._per_sender:
            self._count -= known.evict(1)
        if self._count > self._total:
            self._make_room(now)

    def __len__(self) -> int:
        return self._count

    @property
    def sender_count(self) -> int:
        """Senders of whom something is remembered."""
        return len(self._senders)

    def _make_room(self, now: int) -> None:
        self._sweep(now)
        if self._count > self._total:
            # The busiest sender pays, an eighth of its ids at once so that finding it is rare.
            busiest = max(self._senders.values(), key=lambda sender: len(sender.ids))
            self._count -= busiest.evict(len(busiest.ids) // 8 + 1)

    def _has_room(self, now: int) -> bool:
        if len(self._senders) >= self._max_senders:
            self._sweep(now)
        return len(self._senders) < self._max_senders

    def _sweep(self, now: int) -> None:
        if self._next_sweep - _SWEEP_MS <= now < self._next_sweep:
            return
        self._next_sweep = now + _SWEEP_MS
        for sender in self._senders.values():
            self._count -= sender.drop_expired(now)
        self._senders = {peer: sender for peer, sender in self._senders.items() if not sender.is_idle(now)}
