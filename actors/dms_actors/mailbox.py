"""Bounded mailboxes, and the inbox in which a crew of actors finds all of theirs: what pykka's unbounded inbox lacks.

::

    any thread ── offer ──▶ Mailbox of an actor ─┐
    any thread ── offer ──▶ Mailbox of another ──┼─▶ Inbox ── get ──▶ a Shift: everything that waits, for one transaction
    its crew   ── arm ────▶ its deadline ────────┘

A message that finds its mailbox full is refused, and counted; the sender is told by the return value of `offer`. When nothing waits and an
armed deadline comes, the shift holds that mailbox with no letters: deadlines live here and not in a timer thread.

pykka's own control messages (stop) come when nothing else waits.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

CAPACITY: Final = 10_000
"""Messages that may wait. More means that the actor is slower than its senders for longer than a burst; refusing shows it."""
BATCH: Final = 256
"""Letters in one shift: bounds the size of a transaction and the delay of the first message in it."""
STALE: Final = 64
"""Deadlines armed anew that are kept, beyond as many as there are live ones, before they are cleared away."""

LONGEST_WAIT_S: Final = 3600.0
"""Then the deadlines are looked at again. "For ever" is a deadline so far ahead that the system takes no wait of that length."""


class Letter(NamedTuple):
    """A message, and who is told its answer: a result, or an `Exception` to raise at the asker."""

    message: object
    answer: Callable[[object], object] | None = None


class Stop:
    """In a mailbox: its actor ends here."""


class Work(NamedTuple):
    """What one actor finds. No letters: its deadline came. `is_last`: it ends after these."""

    mailbox: Mailbox
    letters: tuple[Letter, ...]
    is_last: bool = False


class Shift(NamedTuple):
    """What a crew finds and does in one go: in order of arrival per mailbox, at least one piece of work, at most BATCH letters."""

    work: tuple[Work, ...]


class _Delivery(NamedTuple):
    """What pykka expects from an inbox."""

    message: object
    reply_to: Any = None


class Mailbox:
    """The mailbox of one actor. Many threads offer; its crew's thread gets, through the inbox.

    Attributes:
        owner: whose it is.
        refused: messages that found it full.
    """

    def __init__(self, inbox: Inbox, owner: object, capacity: int) -> None:
        self.owner = owner
        self.capacity = capacity
        self.refused = 0
        self.waiting: deque[Letter | Stop] = deque()
        self.is_closed = False
        self.is_ready = False
        self.wake_at: float | None = None
        self._inbox = inbox

    def offer(self, letter: Letter | Stop) -> bool:
        """Puts a letter. False when it was refused: the mailbox is full, or its actor has ended."""
        return self._inbox.offer(self, letter)

    def arm(self, within_ms: int | None) -> None:
        """Sets after how long the actor is woken even without a message; None: never. Only its crew arms."""
        self._inbox.arm(self, within_ms)

    def close(self) -> tuple[Letter, ...]:
        """The actor has ended: nothing more is let in, and what still waits is given back, since whoever asked must be told."""
        return self._inbox.close(self)

    def __len__(self) -> int:
        return len(self.waiting)


class Inbox:
    """The mailboxes of one crew; to pykka, the inbox of one actor."""

    def __init__(self) -> None:
        self._arrived = threading.Condition(threading.Lock())
        self._ready: deque[Mailbox] = deque()
        self._control: deque[Any] = deque()
        self._deadlines: list[tuple[float, int, Mailbox]] = []
        self._crowded = STALE
        self._numbers = itertools.count()
        self._reader_sleeps = False

    # ------------------------------------------------------------------------------------------------------- from any thread

    def open(self, owner: object, capacity: int = CAPACITY) -> Mailbox:
        """A new mailbox."""
        return Mailbox(self, owner, capacity)

    def offer(self, mailbox: Mailbox, letter: Letter | Stop) -> bool:
        """See `Mailbox.offer`."""
        with self._arrived:
            if mailbox.is_closed:
                return False
            if len(mailbox.waiting) >= mailbox.capacity and isinstance(letter, Letter):
                mailbox.refused += 1
                return False
            mailbox.waiting.append(letter)
            self._make_ready(mailbox)
            return True

    def put(self, envelope: Any) -> None:
        """For pykka: a control message."""
        with self._arrived:
            self._control.append(envelope)
            self._wake()

    def wake(self, mailbox: Mailbox) -> None:
        """Has the crew look at a mailbox although nothing waits in it: a new actor begins."""
        with self._arrived:
            self._make_ready(mailbox)

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._ready and not self._control

    # ----------------------------------------------------------------------------------------------------- on the crew's thread

    def arm(self, mailbox: Mailbox, within_ms: int | None) -> None:
        """See `Mailbox.arm`."""
        with self._arrived:
            if within_ms is None:
                mailbox.wake_at = None
                return
            at = time.monotonic() + within_ms / 1000
            mailbox.wake_at = at
            heapq.heappush(self._deadlines, (at, next(self._numbers), mailbox))
            if len(self._deadlines) > self._crowded:
                self._clear_stale()

    def close(self, mailbox: Mailbox) -> tuple[Letter, ...]:
        """See `Mailbox.close`."""
        with self._arrived:
            mailbox.is_closed, mailbox.wake_at = True, None
            mailbox.owner = None  # a deadline of it may be kept for hours yet; it is not to keep the actor
            waiting = tuple(letter for letter in mailbox.waiting if isinstance(letter, Letter))
            mailbox.waiting.clear()
            return waiting

    def get(self) -> Any:
        """Waits for messages or a deadline; gives a `Shift`, or pykka's control message when no letter waits."""
        with self._arrived:
            while True:
                self._wake_due()
                if self._ready:
                    return _Delivery(Shift(self._take()))
                if self._control:
                    return self._control.popleft()
                remaining = self._deadlines[0][0] - time.monotonic() if self._deadlines else LONGEST_WAIT_S
                self._reader_sleeps = True
                self._arrived.wait(min(remaining, LONGEST_WAIT_S))
                self._reader_sleeps = False

    # ------------------------------------------------------------------------------------------------------------ under the lock

    def _make_ready(self, mailbox: Mailbox) -> None:
        if not mailbox.is_ready:
            mailbox.is_ready = True
            self._ready.append(mailbox)
        self._wake()

    def _wake(self) -> None:
        if self._reader_sleeps:
            self._arrived.notify()

    def _wake_due(self) -> None:
        """Makes those ready whose deadline has come; forgets deadlines that were armed anew since."""
        while self._deadlines:
            at, _, mailbox = self._deadlines[0]
            if mailbox.wake_at == at:
                if at > time.monotonic():
                    return
                mailbox.wake_at = None
                self._make_ready(mailbox)
            heapq.heappop(self._deadlines)

    def _clear_stale(self) -> None:
        """Forgets deadlines that were armed anew since, far ahead as they may be."""
        self._deadlines = [armed for armed in self._deadlines if armed[2].wake_at == armed[0]]
        heapq.heapify(self._deadlines)
        self._crowded = 2 * len(self._deadlines) + STALE

    def _take(self) -> tuple[Work, ...]:
        """One mailbox after the other, those with more than fits again at the end of the line."""
        work: list[Work] = []
        room = BATCH
        while self._ready and room > 0:
            mailbox = self._ready.popleft()
            mailbox.is_ready = False
            if mailbox.is_closed:
                continue
            taken: list[Letter] = []
            while mailbox.waiting and len(taken) < room and isinstance(letter := mailbox.waiting[0], Letter):
                taken.append(letter)
                mailbox.waiting.popleft()
            is_last = bool(mailbox.waiting) and isinstance(mailbox.waiting[0], Stop)
            if mailbox.waiting and not is_last:
                self._make_ready(mailbox)
            work.append(Work(mailbox, tuple(taken), is_last))
            room -= len(taken)
        return tuple(work)
