"""The in-memory twin of the event store: same answers, no disk. Passes `dms.testing.event_log_contract`."""

from __future__ import annotations

import concurrent.futures
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from dms_actors.ports import NewEvent, StoredEvent
from dms_proto.errors import DmsError, MachineError, UserError


class MemoryEventLog:
    """`EventLog` in a list.

    Args:
        clock: Unix time in ms; may step backwards, the recorded times do not. None: always 0, so only order is kept.
        events: a history to start from, as after a restart.

    Attributes:
        fault: when set, appends raise it and write nothing, until it is set to None again: a full disk, for one.
    """

    def __init__(self, clock: Callable[[], int] | None = None, events: Iterable[StoredEvent] = ()) -> None:
        self.fault: MachineError | None = None
        self._clock = clock or (lambda: 0)
        self._events = list(events)
        self._versions = Counter(event.stream for event in self._events)
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def events(self) -> tuple[StoredEvent, ...]:
        """The whole history: what a restart would find."""
        return tuple(self._events)

    async def append(self, events: Sequence[NewEvent]) -> Sequence[StoredEvent]:
        """Writes all or none, in order.

        Raises:
            MachineError: `fault`, or `store_failed` after `close`.
            UserError: `bad_argument`: a stream or kind is empty.
        """
        return self._append(events)

    def append_from_thread(self, events: Sequence[NewEvent]) -> concurrent.futures.Future[Sequence[StoredEvent]]:
        """See `EventLog.append_from_thread`."""
        answer: concurrent.futures.Future[Sequence[StoredEvent]] = concurrent.futures.Future()
        try:
            answer.set_result(self._append(events))
        except DmsError as error:
            answer.set_exception(error)
        return answer

    def _append(self, events: Sequence[NewEvent]) -> Sequence[StoredEvent]:
        events = tuple(events)
        for event in events:
            if not event.stream or not event.kind:
                raise UserError("bad_argument", f"an event needs a stream and a kind: {event.stream!r}, {event.kind!r}")
        self._check_open()
        if self.fault is not None:
            raise self.fault
        with self._lock:
            at = max(self._clock(), self._events[-1].at if self._events else 0)
            return tuple(self._number(event, at) for event in events)

    async def read_stream(self, stream: str, after_version: int = 0, *, since: str = "") -> Sequence[StoredEvent]:
        """The events of one stream in order, from the last of the kind `since` on."""
        self._check_open()
        ours = [event for event in self._events if event.stream == stream]
        first = max((event.version for event in ours if event.kind == since), default=0)
        return [event for event in ours if event.version > after_version and event.version >= first]

    def read_all(self, after_seq: int = 0) -> AsyncIterator[StoredEvent]:
        """Every event in order, as of the call."""
        self._check_open()
        return _each(self._events[after_seq:])

    async def query(
        self,
        *,
        kinds: Sequence[str] = (),
        stream: str = "",
        cause_id: str = "",
        since: int = 0,
        until: int = 0,
        after_seq: int = 0,
        limit: int = 1000,
    ) -> Sequence[StoredEvent]:
        """The collector: events that match all that is given, oldest first. `since` and `until` are inclusive.

        Raises:
            UserError: `bad_argument`: `limit` is below 1.
        """
        self._check_open()
        if limit < 1:
            raise UserError("bad_argument", f"limit is {limit}; it must be at least 1")
        found = [
            event
            for event in self._events[after_seq:]
            if (not kinds or event.kind in kinds)
            and (not stream or event.stream == stream)
            and (not cause_id or event.cause_id == cause_id)
            and event.at >= since
            and (not until or event.at <= until)
        ]
        return found[:limit]

    async def close(self) -> None:
        """Refuses everything from now on. Idempotent."""
        self._is_closed = True

    def _number(self, event: NewEvent, at: int) -> StoredEvent:
        self._versions[event.stream] += 1
        version = self._versions[event.stream]
        stored = StoredEvent(len(self._events) + 1, event.stream, version, event.kind, at, event.cause_id, event.body)
        self._events.append(stored)
        return stored

    def _check_open(self) -> None:
        if self._is_closed:
            raise MachineError("store_failed", "the event store is closed")


async def _each(events: Sequence[StoredEvent]) -> AsyncIterator[StoredEvent]:
    for event in events:
        yield event
