"""The newest events, kept for those who follow along, and the waking of followers."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from dms_actors.ports import StoredEvent

KEPT_EVENTS: Final = 512
"""A follower at most this far behind is served from memory; one further behind reads the table."""
KEPT_BYTES: Final = 1024 * 1024
"""Bodies kept at most, so that a few large events do not grow an idle node."""


class Tail:
    """The last committed events. Published to from the writer's thread, followed on the event loop, which is woken only for those who wait.

    It never blocks the writer: who is slow falls back to the table, so nothing is lost.

    Args:
        seq: of the last event before the store was opened.
        call: has the loop call a function; from any thread.
    """

    def __init__(self, seq: int, call: Callable[[Callable[[], None]], object]) -> None:
        self._seq = seq
        self._call = call
        self._lock = threading.Lock()
        self._events: deque[StoredEvent] = deque()
        self._bytes = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.is_closed = False

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Adds events just committed and wakes the followers."""
        with self._lock:
            self._events.extend(events)
            self._bytes += sum(len(event.body) for event in events)
            self._seq = self._events[-1].seq
            while len(self._events) > KEPT_EVENTS or (self._bytes > KEPT_BYTES and self._events):
                self._bytes -= len(self._events.popleft().body)
            is_awaited = bool(self._waiters)
        if is_awaited:
            self._call(self._wake)

    def after(self, seq: int) -> Sequence[StoredEvent] | None:
        """The events after `seq`; none when there are none yet; None when they are no longer all here."""
        with self._lock:
            if seq >= self._seq:
                return ()
            if not self._events or seq < self._events[0].seq - 1:
                return None
            return tuple(islice(self._events, seq - self._events[0].seq + 1, None))

    async def wait(self, seq: int) -> bool:
        """Waits for an event after `seq`. False: the store was closed and there will be none."""
        while not self.is_closed:
            with self._lock:
                if self._seq > seq:
                    break
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
            await waiter
        return self._seq > seq

    def close(self) -> None:
        """Ends all following."""
        self.is_closed = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
