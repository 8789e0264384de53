"""A bounded mailbox with one armed deadline: what pykka's unbounded inbox lacks.

`get` gives everything that waits as one `Batch`, so that its reader can write one transaction for all of it. When nothing waits and the
armed deadline comes, it gives an empty batch: the deadline lives here and not in a timer thread, and arming it costs an assignment.
A message that finds the mailbox full is refused, and counted; the sender is told by the return value of `offer`.

pykka's own control messages (stop) are never refused for want of room and never share a batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Final, NamedTuple

from pykka import ActorDeadError
from pykka.messages import _ActorStop

CAPACITY: Final = 10_000
"""Messages that may wait. More means that the actor is slower than its senders for longer than a burst; refusing shows it."""
BATCH: Final = 256
"""Messages handled in one go: bounds the size of a transaction and the delay of the first message in it."""


class Batch(NamedTuple):
    """Messages in order of arrival, as pykka envelopes (`message`, `reply_to`). Empty: the deadline came."""

    envelopes: tuple[Any, ...]


class _Delivery(NamedTuple):
    """What pykka expects from an inbox."""

    message: object
    reply_to: Any = None


class Mailbox:
    """The inbox of one actor. Many threads put, the actor's thread gets."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._waiting: deque[Any] = deque()
        self._arrived = threading.Condition(threading.Lock())
        self._wake_at: float | None = None
        self._reader_sleeps = False
        self._is_closed = False
        self.refused = 0

    def put(self, envelope: Any) -> None:
        """As `offer`, for pykka; a refused message that awaits an answer gets `MailboxFull` or `ActorDeadError` as its answer."""
        if self.offer(envelope) or envelope.reply_to is None:
            return
        if self._is_closed:
            why: Exception = ActorDeadError("it has ended")
        else:
            why = MailboxFull(f"{self.capacity} messages are waiting already")
        envelope.reply_to.set_exception((type(why), why, None))

    def offer(self, envelope: Any) -> bool:
        """Puts a message. False when it was refused: the mailbox is full, or its actor has ended."""
        with self._arrived:
            if self._is_closed:
                return False
            if len(self._waiting) >= self.capacity and not isinstance(envelope.message, _ActorStop):
                self.refused += 1
                return False
            self._waiting.append(envelope)
            if self._reader_sleeps:
                self._arrived.notify()
            return True

    def arm(self, within_ms: int | None) -> None:
        """Sets after how long `get` returns even without a message; None: never. Only the reader arms."""
        self._wake_at = None if within_ms is None else time.monotonic() + within_ms / 1000

    def get(self) -> Any:
        """Waits for messages or the deadline."""
        with self._arrived:
            while not self._waiting:
                remaining = None if self._wake_at is None else self._wake_at - time.monotonic()
                if remaining is not None and remaining <= 0:
                    self._wake_at = None
                    return _Delivery(Batch(()))
                self._reader_sleeps = True
                self._arrived.wait(remaining)
                self._reader_sleeps = False
            if isinstance(self._waiting[0].message, _ActorStop):
                return self._waiting.popleft()
            taken: list[Any] = []
            while self._waiting and len(taken) < BATCH and not isinstance(self._waiting[0].message, _ActorStop):
                taken.append(self._waiting.popleft())
            return _Delivery(Batch(tuple(taken)))

    def close(self) -> tuple[Any, ...]:
        """The actor has ended: nothing more is let in, and what still waits is given back, since whoever asked must be told."""
        with self._arrived:
            self._is_closed = True
            waiting = tuple(self._waiting)
            self._waiting.clear()
            return waiting

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def __len__(self) -> int:
        return len(self._waiting)


class MailboxFull(Exception):  # noqa: N818 - a condition, named as such
    """The answer to a question that found no room in the mailbox."""
