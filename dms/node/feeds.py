"""Feeds: what happens to a job, event by event and byte by byte, for whoever watches, from wherever they left off.

::

    event store ──▶ Hub (follows once) ──▶ JobRecord of each job that is watched ──▶ followers
    log mirror  ─────────────────────────▶      │
                                                └ entries in order: updates, and runs of log bytes (only their place, not the bytes)

The id of an update is a position in the record: an event moves it on by one, a log by its bytes. So a follower can go on after any id it has
seen, in the middle of a log too, and a record costs memory per turn of speech, not per byte.

A record begins with the first watcher and stays until the job has ended and others push it out. One that is made again, after that or after
a restart of the node, counts from a later base: everything is then delivered again, under greater ids; logs say their offset.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final, NamedTuple

from dms.node.doings import BEFORE_RUNNING, Doings
from dms.node.logs import STREAMS, LogStore
from dms.node.story import AttemptStory, JobStory, Judged, Moved, News
from dms.rpc.api.jobs import AnyJobUpdate, JobEnded, JobLog, JobProgress, JobView, SlotProgress
from dms.store.events import EventStore
from dms_actors.ports import StoredEvent
from dms_proto.errors import DmsError
from dms_proto.ids import AllocationId, RequestId
from dms_proto.market.auction_events import ResultJudged

CHUNK: Final = 64 * 1024
"""Bytes of log in one update."""
KEPT: Final = 128
"""Records of ended jobs that are kept."""
MAX_ENTRIES: Final = 65_536
"""Of one record; the oldest go first, a program that writes by turns to both streams being the only way to get there."""
_EPOCH_S: Final = 1_735_689_600
"""2025-01-01: bases count from here, so that they stay below 2**53 for decades."""
_BASE_SHIFT: Final = 23
"""Ids per second of time between two bases of one job: more than 8 MiB/s of log for a whole life would be needed to overtake it."""


RETRY_S: Final = 1.0
"""Pause before following is taken up again after an error."""

ViewOf = Callable[[JobStory], JobView]
log = logging.getLogger(__name__)


class Hub:
    """Follows the event store while somebody listens, and calls who listens for a stream. Lives on the loop."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._listeners: dict[str, list[Callable[[StoredEvent], None]]] = {}
        self._following: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends following. Idempotent."""
        self._listeners.clear()
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following

    def listen(self, stream: str, heard: Callable[[StoredEvent], None]) -> Callable[[], None]:
        """Calls `heard` with each event of a stream from now on; the answer ends that."""
        self._listeners.setdefault(stream, []).append(heard)
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(
                self._run(self._store.head().seq), name="event hub"
            )

        def stop() -> None:
            listeners = self._listeners.get(stream, [])
            if heard in listeners:
                listeners.remove(heard)
            if not listeners:
                self._listeners.pop(stream, None)

        return stop

    async def _run(self, after: int) -> None:
        """Ends with the first event after the last listener has gone; the next listener begins anew. Goes on after an error in reading."""
        while self._listeners:
            try:
                async for row in self._store.follow(after):
                    after = row.seq
                    for heard in tuple(self._listeners.get(row.stream, ())):
                        heard(row)
                    if not self._listeners:
                        return
                return  # the store has been closed
            except DmsError as error:
                log.error("following the events stopped after event %d and is taken up again: %s", after, error)
                await asyncio.sleep(RETRY_S)


class _Said(NamedTuple):
    """An update, complete; it has one id."""

    update: AnyJobUpdate
    last: int


class _Written:
    """Log bytes one after the other in one stream of one attempt."""

    __slots__ = ("allocation", "at", "attempt", "first", "length", "offset", "slot", "stream")

    def __init__(  # noqa: PLR0917 - made in one place, below
        self, attempt: AttemptStory, stream: str, offset: int, length: int, first: int, at: int
    ) -> None:
        self.slot, self.attempt, self.allocation = attempt.slot, attempt.number, attempt.allocation_id
        self.stream, self.offset, self.length = stream, offset, length
        self.first, self.at = first, at

    @property
    def last(self) -> int:
        return self.first + self.length - 1


class JobRecord:
    """Everything that happened to one job, in order, and those who follow it."""

    def __init__(  # noqa: PLR0917 - made in one place, below
        self, story: JobStory, logs: LogStore, doings: Doings, clock: Callable[[], int], base: int, view: ViewOf
    ) -> None:
        self.story = story
        self._doings = doings
        self.last = base
        self.is_over = False
        self._logs = logs
        self._clock = clock
        self._view = view
        self._entries: list[_Said | _Written] = []
        self._changed = asyncio.Event()
        self._heard: set[AllocationId] = set()
        self._taken: set[AllocationId] = set()
        self._is_live = False

    # ------------------------------------------------------------------------------------------------------------ recording

    def hear(self, row: StoredEvent) -> None:
        """Goes on with an event of the job's stream; one that was heard before changes nothing."""
        if row.version <= self.story.version:
            return
        for news in self.story.apply(row):
            self._note(news, row.at)
        if row.kind == "AwardMade" and self._is_live and not self.story.is_verified:
            self._expect_logs()  # the acknowledgement is no promise and may be written down after the first output
        if self.story.ended is not None and not self.is_over:
            self._end(row.at)

    def open_logs(self) -> None:
        """After the replay: takes in the logs of attempts under way, and listens for more."""
        self._is_live = True
        if self.story.is_verified:
            return
        for attempt in self.story.by_allocation.values():
            if attempt.ending is None:
                self._listen(attempt)
        self._expect_logs()

    def close(self) -> None:
        """Lets go of the logs."""
        for allocation in self._heard:
            self._logs.unlisten(allocation)
            self._doings.unlisten(allocation)
        self._heard.clear()

    def _note(self, news: News, at: int) -> None:
        story = self.story
        if isinstance(news, Moved):
            self._say(
                JobProgress(
                    self.last + 1,
                    at,
                    story.phase,
                    news.text,
                    story.bids_now,
                    len(story.declined_now),
                    story.running,
                    story.done,
                )
            )
            return
        if isinstance(news, Judged):
            self._take_in_accepted(news.verdict)
            return
        attempt = story.slots[news.slot].attempts[news.attempt - 1]
        if not story.is_verified:  # there, what it printed is the job's own once its result is accepted
            self._hear(attempt)
        self._say(SlotProgress(self.last + 1, at, news.slot, news.attempt, news.provider, news.phase, news.ending))

    def _hear(self, attempt: AttemptStory) -> None:
        if attempt.ending is not None:
            self._take_in(attempt)
        elif self._is_live:
            self._listen(attempt)

    def _take_in_accepted(self, verdict: ResultJudged) -> None:
        if verdict.accepted is not None:
            self._take_in(self.story.slots[verdict.accepted].attempts[-1])

    def _expect_logs(self) -> None:
        for attempt in self.story.expected():
            self._listen(attempt)

    def _listen(self, attempt: AttemptStory) -> None:
        allocation = attempt.allocation_id
        if allocation not in self._heard:
            self._heard.add(allocation)
            self._take_in(attempt)
            self._logs.listen(allocation, lambda stream, offset, count: self._write(attempt, stream, offset, count))
            self._doings.listen(allocation, lambda line: self._tell_doing(attempt, line))
            self._tell_doing(attempt, self._doings.line(allocation))

    def _tell_doing(self, attempt: AttemptStory, line: str) -> None:
        attempt = self.story.by_allocation.get(attempt.allocation_id, attempt)  # since its commit was acknowledged
        if line and attempt.phase in BEFORE_RUNNING:
            self._say(
                SlotProgress(
                    self.last + 1,
                    self._clock(),
                    attempt.slot,
                    attempt.number,
                    attempt.provider,
                    attempt.phase,
                    doing=line,
                )
            )

    def _take_in(self, attempt: AttemptStory) -> None:
        """Adds what the log has, once; what follows is added as it comes."""
        if attempt.allocation_id in self._taken:
            return
        self._taken.add(attempt.allocation_id)
        for stream in STREAMS:
            length = self._logs.length(attempt.allocation_id, stream)
            if length:
                self._write(attempt, stream, 0, length)

    def _write(self, attempt: AttemptStory, stream: str, offset: int, count: int) -> None:
        entry = self._entries[-1] if self._entries else None
        if (
            isinstance(entry, _Written)
            and (entry.allocation, entry.stream) == (attempt.allocation_id, stream)
            and entry.offset + entry.length == offset
        ):
            entry.length += count
            entry.at = self._clock()
        else:
            self._entries.append(_Written(attempt, stream, offset, count, self.last + 1, self._clock()))
        self.last += count
        self._wake()

    def _say(self, update: AnyJobUpdate) -> None:
        self.last += 1
        self._entries.append(_Said(update, self.last))
        if len(self._entries) > MAX_ENTRIES:
            del self._entries[: MAX_ENTRIES // 8]
        self._wake()

    def _end(self, at: int) -> None:
        self.is_over = True
        self.close()
        self._say(JobEnded(self.last + 1, at, self._view(self.story)))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # ------------------------------------------------------------------------------------------------------------ following

    async def follow(self, since: int, *, logs: bool) -> AsyncIterator[AnyJobUpdate]:
        """Updates after `since`, those there are first, then as they come, until the job has ended."""
        position = since
        while True:
            changed = self._changed
            while (entry := self._after(position)) is not None:
                update, position = self._read(entry, position)
                if update is not None and (logs or not isinstance(update, JobLog)):
                    yield update
            if changed is self._changed:
                if self.is_over:
                    return
                await changed.wait()

    def _after(self, position: int) -> _Said | _Written | None:
        """The entry that holds the next position, or None at the end."""
        if position >= self.last:
            return None
        at = bisect_right(self._entries, position, key=lambda entry: entry.last)
        return self._entries[at] if at < len(self._entries) else None

    def _read(self, entry: _Said | _Written, position: int) -> tuple[AnyJobUpdate | None, int]:
        if isinstance(entry, _Said):
            return entry.update, entry.last
        passed = max(position + 1 - entry.first, 0)
        wanted = min(CHUNK, entry.length - passed)
        data = self._logs.read(entry.allocation, entry.stream, entry.offset + passed, wanted)
        if not data:
            return None, entry.last  # removed meanwhile
        position = entry.first + passed + len(data) - 1
        piece = self.story.slots[entry.slot].piece
        return (
            JobLog(position, entry.at, piece, entry.attempt, entry.stream, entry.offset + passed, data),
            position,
        )


class JobFeeds:
    """The records of the jobs that are watched."""

    def __init__(  # noqa: PLR0917 - made in one place, by the local API
        self, hub: Hub, store: EventStore, logs: LogStore, doings: Doings, clock: Callable[[], int], view: ViewOf
    ) -> None:
        self._hub = hub
        self._doings = doings
        self._store = store
        self._logs = logs
        self._clock = clock
        self._view = view
        self._records: OrderedDict[RequestId, JobRecord] = OrderedDict()
        self._making: dict[RequestId, asyncio.Task[JobRecord]] = {}
        self._stops: dict[RequestId, Callable[[], None]] = {}
        self._floor = 0

    async def follow(self, request_id: RequestId, since: int, *, logs: bool) -> AsyncIterator[AnyJobUpdate]:
        """Updates of one job after `since`, until it has ended."""
        record = await self._record(request_id)
        async for update in record.follow(since, logs=logs):
            yield update

    async def until_ended(self, request_id: RequestId, timeout: float) -> None:  # noqa: ASYNC109 - as `ask_from_loop`
        """Returns when the job has ended, or after `timeout` seconds."""
        ended = asyncio.Event()
        stop = self._hub.listen(request_id, lambda row: ended.set() if row.kind == "RequestEnded" else None)
        try:
            if not await self._store.query(stream=request_id, kinds=("RequestEnded",), limit=1):
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await ended.wait()
        finally:
            stop()

    def close(self) -> None:
        """Lets go of all records."""
        for stop in self._stops.values():
            stop()
        for record in self._records.values():
            record.close()

    async def _record(self, request_id: RequestId) -> JobRecord:
        record = self._records.get(request_id)
        if record is not None:
            self._records.move_to_end(request_id)
            return record
        making = self._making.get(request_id)
        if making is None:
            making = asyncio.get_running_loop().create_task(self._make(request_id), name=f"record {request_id}")
            self._making[request_id] = making
            making.add_done_callback(lambda _task: self._making.pop(request_id, None))
        return await asyncio.shield(making)

    async def _make(self, request_id: RequestId) -> JobRecord:
        """Listens first, then replays: an event that comes meanwhile is heard in its turn, or twice."""
        meanwhile: list[StoredEvent] = []
        stop = self._hub.listen(request_id, meanwhile.append)
        rows = await self._store.read_stream(request_id)
        base = max(((self._clock() // 1000) - _EPOCH_S) << _BASE_SHIFT, self._floor + 1)
        record = JobRecord(JobStory(request_id), self._logs, self._doings, self._clock, base, self._view)
        for row in (*rows, *meanwhile):
            record.hear(row)
        record.open_logs()
        stop()
        if not record.is_over:
            self._stops[request_id] = self._hub.listen(request_id, lambda row: self._heard(record, row))
        self._keep(request_id, record)
        return record

    def _heard(self, record: JobRecord, row: StoredEvent) -> None:
        record.hear(row)
        if record.is_over and (stop := self._stops.pop(record.story.request_id, None)) is not None:
            stop()

    def _keep(self, request_id: RequestId, record: JobRecord) -> None:
        self._records[request_id] = record
        while len(self._records) - len(self._stops) > KEPT:  # of those that are over
            oldest = next(key for key, kept in self._records.items() if kept.is_over and key != request_id)
            self._floor = max(self._floor, self._records.pop(oldest).last)
