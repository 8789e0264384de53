"""The event store as actors use it: from their thread, in order, one transaction for everything that waits.

::

    append ────── waits ──┐
    append_soon ──────────┴─▶ waiting ──▶ one group under way ──▶ event store ── its thread: settled or refused; the next group ──▶ …

Appends are written one group after the other, never two at once: a group that could not be written is then never followed by one that could,
and the log has no holes. Of a failed group the promises are refused, and their makers take them back; what no promise rests on has become
part of its makers' state already, so it stays first in the queue, and until it is written no more of it is let in.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from dms_actors.ports import EventLog, NewEvent, StoredEvent
from dms_proto.errors import DmsError, InternalError, MachineError

log = logging.getLogger(__name__)

APPEND_TIMEOUT: Final = 30.0
"""Seconds the event store may take. Longer means that the disk has failed without an error."""
SOON_S: Final = 0.05
"""Seconds for which events are gathered on which no promise rests. Shorter shows progress sooner than anybody can read it, and costs a
transaction for what the next promise would have taken along."""
RETRY_S: Final = 1.0
"""Seconds after which what could not be written is tried again, if nothing else is written before."""
GROUP_EVENTS: Final = 512
"""Events written at once; bounds how long the first of them waits for the last."""

Written = concurrent.futures.Future[None]


class _Entry(NamedTuple):
    events: tuple[NewEvent, ...]
    written: Written | None
    """Whom to tell; None: nobody waits, no promise rests on it."""


class CrewJournal:
    """Implements `draft.Journal`. Called from the actors' thread; the log's own thread does the work, the loop only keeps time.

    What no promise rests on is gathered for SOON_S, or until the next promise, and written with it: a transaction costs far more than a row.
    """

    def __init__(
        self,
        event_log: EventLog,
        loop: asyncio.AbstractEventLoop,
        *,
        timeout: float = APPEND_TIMEOUT,
        retry_s: float = RETRY_S,
    ) -> None:
        self._timeout = timeout
        self._retry_s = retry_s
        self._log = event_log
        self._loop = loop
        self._lock = threading.Lock()
        self._waiting: deque[_Entry] = deque()
        self._under_way: tuple[_Entry, ...] = ()
        self._is_timed = False
        self._failure: DmsError | None = None

    # --------------------------------------------------------------------------------------------- from the actors' thread

    def append(self, events: Sequence[NewEvent]) -> None:
        """Waits until the events are as durable as their kinds demand, and all that were queued before them are written.

        Raises:
            MachineError: `disk_full`, `store_failed`: nothing was written.
            InternalError: nobody knows whether it was written; only what the log says is true.
        """
        entry = _Entry(tuple(events), Written())
        with self._lock:
            self._waiting.append(entry)
            group = self._take() if not self._under_way else ()
        self._write(group)
        self._result(entry)

    def append_soon(self, events: Sequence[NewEvent]) -> None:
        """Queues events that no promise rests on; they are written in order with the others.

        Raises:
            MachineError: earlier ones could not be written yet; these were not queued.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure.again()
            self._waiting.append(_Entry(tuple(events), None))
            is_first = not (self._under_way or self._is_timed)
            self._is_timed = self._is_timed or is_first
        if is_first and not self._call_later(SOON_S):
            log.warning("the loop has ended; %d events no promise rests on are not written", len(events))

    def read_stream(self, stream: str, *, since: str = "") -> Sequence[StoredEvent]:
        """The events of one stream, those queued included; with `since`, from the last event of this kind on.

        Raises:
            MachineError: `store_failed`; or what is queued of it cannot be written.
        """
        with self._lock:
            is_queued = any(
                event.stream == stream for entry in (*self._under_way, *self._waiting) for event in entry.events
            )
        if is_queued:
            self.flush()
        future = asyncio.run_coroutine_threadsafe(self._log.read_stream(stream, since=since), self._loop)
        try:
            return future.result(self._timeout)
        except TimeoutError:
            future.cancel()
            raise self._silent() from None

    def flush(self) -> None:
        """Returns when everything queued is written.

        Raises:
            MachineError: it could not be.
        """
        with self._lock:
            is_idle = not self._under_way and not self._waiting
        if not is_idle:
            self.append(())

    def close(self) -> None:
        """Writes what is queued, as far as it can be written."""
        try:
            self.flush()
        except DmsError as error:
            log.error("events no promise rests on are lost: %s", error)

    def _result(self, entry: _Entry) -> None:
        assert entry.written is not None
        try:
            entry.written.result(self._timeout)
        except (TimeoutError, concurrent.futures.CancelledError):
            with self._lock:
                if entry in self._waiting:
                    self._waiting.remove(entry)
                    raise self._silent() from None
            raise InternalError("internal", "the event store took events and did not say what became of them") from None

    def _call_later(self, seconds: float) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, self._on_time)
        except RuntimeError:  # the loop has been closed: the node has ended
            return False
        return True

    def _silent(self) -> MachineError:
        return MachineError("store_failed", f"the event store did not answer within {self._timeout} s")

    # ------------------------------------------------------------------------------- on the thread that asks, or that has written

    def _take(self) -> tuple[_Entry, ...]:
        """Under the lock: what waits becomes the group under way."""
        group: list[_Entry] = []
        events = 0
        while self._waiting and (not group or events + len(self._waiting[0].events) <= GROUP_EVENTS):
            group.append(self._waiting.popleft())
            events += len(group[-1].events)
        self._under_way = tuple(group)
        return self._under_way

    def _write(self, group: tuple[_Entry, ...]) -> None:
        """Hands a group to the log; an empty one has been written."""
        rows = [event for entry in group for event in entry.events]
        if rows:
            self._log.append_from_thread(rows).add_done_callback(lambda done: self._end(group, done.exception()))
        elif group:
            self._end(group, None)

    def _end(self, group: tuple[_Entry, ...], error: BaseException | None) -> None:
        """A group is written, or was refused; goes on with the next if somebody waits, otherwise a timer sees to the rest."""
        kept = () if error is None else [entry for entry in group if entry.written is None]
        with self._lock:
            self._failure = error if kept and isinstance(error, DmsError) else None
            self._waiting.extendleft(reversed(kept))
            following = self._take() if any(entry.written is not None for entry in self._waiting) else ()
            if not following:
                self._under_way = ()
            is_timed_now = bool(self._waiting) and not self._is_timed and not following
            self._is_timed = self._is_timed or is_timed_now
            seconds = SOON_S if self._failure is None else self._retry_s
        if error is None:
            _settle(group)
        else:
            _refuse(group, error)
        if is_timed_now:
            self._call_later(seconds)
        self._write(following)

    def _on_time(self) -> None:
        """On the loop: what was gathered is written, unless a group is under way, whose end sees to it."""
        with self._lock:
            self._is_timed = False
            group = self._take() if self._waiting and not self._under_way else ()
        self._write(group)


def _refuse(group: tuple[_Entry, ...], error: BaseException) -> None:
    asking = [entry.written for entry in group if entry.written is not None]
    for written in asking:
        written.set_exception(error.again() if isinstance(error, DmsError) else error)
    log.error("%d appends were refused, %d wait to be tried again: %s", len(asking), len(group) - len(asking), error)


def _settle(group: Iterable[_Entry]) -> None:
    for entry in group:
        if entry.written is not None and not entry.written.done():
            entry.written.set_result(None)
