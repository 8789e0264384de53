"""The node's memory: an append-only, hash-chained event store in one SQLite file.

::

    append ─┐                            ┌─ Writer, on its thread: number, chain, one transaction ── events.db
    append ─┼─ GroupCommit: a group ─────┤
    append ─┘                            └─ Tail: wake followers; then the callers are answered
    read_*, query, follow, verify ───────── Reader: a second, read-only connection and thread ─────── events.db

Callers are answered after the commit, so what they do next can rely on it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from dms.store.chain import Head, Link
from dms.store.connection import Connection, open_reader, open_writer
from dms.store.durability import DurabilityTable
from dms.store.errors import failed, store_error
from dms.store.group import GroupCommit, Stored
from dms.store.guard import check_end, check_file
from dms.store.lock import StoreLock
from dms.store.migrations import Checkpoint, migrate, nowhere
from dms.store.reader import Filter, Reader
from dms.store.rules import check_events
from dms.store.tail import Tail
from dms.store.upcast import Upcaster
from dms.store.verify import ChainWalk, Verdict, placed, read_rows
from dms.store.writer import Append, Writer
from dms_actors.answers import settle
from dms_actors.ports import NewEvent, StoredEvent
from dms_proto.errors import DmsError

T = TypeVar("T")

FROM_NOW: Final = -1
"""For `EventStore.follow`: only events committed after the call."""


def unix_ms() -> int:
    """The machine's clock, Unix ms."""
    return time.time_ns() // 1_000_000


class EventStore:
    """`EventLog` on SQLite. Lives on the event loop, except for `append_from_thread`; one per file. Made by `open`; ``async with`` closes it."""

    def __init__(
        self,
        path: Path,
        *,
        lock: StoreLock,
        writer: Writer,
        reader: Reader,
        connections: tuple[Connection, Connection],
        head: Head,
        clock: Callable[[], int],
        checkpoint: Checkpoint,
    ) -> None:
        self.path = path
        self.writing, self.reading = connections
        self._lock = lock
        self._writer = writer
        self._reader = reader
        self._head = head
        self._files = str(path), f"{path}-wal"
        self.size_bytes = _size(self._files)
        """How long the file is, with what waits beside it to be copied into it, as of the last write. Read from any thread."""
        self._tail = Tail(head.seq, self._tell_loop)
        self._loop = asyncio.get_running_loop()
        self._group = GroupCommit(
            self.writing.submit,
            self._write,
            clock,
            lambda why, retryable: failed(path, why, retryable=retryable),
            checkpoint,
        )
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], int] = unix_ms,
        relaxed: frozenset[str] = frozenset(),
        upcaster: Upcaster | None = None,
        checkpoint: Checkpoint = nowhere,
    ) -> EventStore:
        """Opens or creates the store at `path` (mode 0600, in a directory that exists), migrating an older one.

        Args:
            path: the SQLite file; ``-wal``, ``-shm`` and ``.lock`` are put beside it.
            clock: Unix time in ms; it may step backwards, the recorded times do not.
            relaxed: kinds that need not survive a power cut (durability.py).
            upcaster: how old bodies are brought up to date; by the table in upcast.py when None.
            checkpoint: called at each persistence point; for crash tests.

        Raises:
            MachineError: `home_in_use`, `store_newer`, `store_corrupt`, `store_failed`, `disk_full`; the events in the file are untouched.
        """
        upcaster = upcaster or Upcaster()
        writer = Writer(path, DurabilityTable(relaxed), upcaster, checkpoint)
        lock = StoreLock.acquire(path)
        opened: list[Connection] = []
        try:
            if check_file(path) > 0:
                check_end(path)
            _create(path)
            opened.append(await open_writer(path))
            await opened[0].run(lambda connection: migrate(connection, checkpoint=checkpoint))
            head = await opened[0].run(writer.load)
            opened.append(await open_reader(path))
        except BaseException:
            for connection in opened:
                await connection.close()
            lock.release()
            raise
        return cls(
            path,
            lock=lock,
            writer=writer,
            reader=Reader(upcaster),
            connections=(opened[0], opened[1]),
            head=head,
            clock=clock,
            checkpoint=checkpoint,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def head(self) -> Head:
        """Where the committed history ends. Written down elsewhere, it lets `verify` notice a history that was replaced."""
        return self._head

    async def append(self, events: Sequence[NewEvent]) -> Sequence[StoredEvent]:
        """Writes all or none, in order; returns when they are as durable as their kinds demand.

        A caller that is cancelled while it waits leaves its events accepted: they will be written.

        Raises:
            MachineError: `disk_full`, `store_failed`, `store_corrupt`: nothing was written.
            UserError: `bad_argument`: an event breaks a rule (rules.py).
        """
        events = tuple(events)
        if not events:
            return ()
        check_events(events)
        answer: asyncio.Future[Stored] = self._loop.create_future()
        self._group.append(events, lambda outcome: self._tell_loop(settle, answer, outcome))
        return await answer

    def append_from_thread(self, events: Sequence[NewEvent]) -> concurrent.futures.Future[Sequence[StoredEvent]]:
        """See `EventLog.append_from_thread`."""
        answer: concurrent.futures.Future[Sequence[StoredEvent]] = concurrent.futures.Future()
        if not events:
            settle(answer, ())
            return answer
        try:
            check_events(events)
            self._group.append(tuple(events), lambda outcome: settle(answer, outcome))
        except DmsError as error:
            settle(answer, error)
        return answer

    async def read_stream(self, stream: str, after_version: int = 0, *, since: str = "") -> Sequence[StoredEvent]:
        """The events of one stream after `after_version`, in order; with `since`, from the last of this kind on."""
        return await self.reading.run(lambda connection: self._reader.stream(connection, stream, after_version, since))

    def read_all(self, after_seq: int = 0) -> AsyncIterator[StoredEvent]:
        """Every event after `after_seq` in order, up to those committed at the time of the call, read in chunks."""
        return self._read(after_seq, self._head.seq)

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
        """The collector: events that match all that is given (0 and empty: any), oldest first. `since` and `until` are inclusive.

        Raises:
            UserError: `bad_argument`: `limit` is not 1 to 100 000, or there are too many kinds.
        """
        wanted = Filter(
            kinds=kinds, stream=stream, cause_id=cause_id, since=since, until=until, after_seq=after_seq, limit=limit
        )
        return await self.reading.run(lambda connection: self._reader.query(connection, wanted))

    def follow(self, after_seq: int = FROM_NOW) -> AsyncIterator[StoredEvent]:
        """Every event after `after_seq`, those yet to come as they are committed; ends when the store is closed.

        A slow consumer neither holds up the writer nor loses anything: it is served from the table until it has caught up.
        """
        return self._follow(self._head.seq if after_seq == FROM_NOW else after_seq)

    async def chunk(self, after_seq: int, until_seq: int) -> Sequence[StoredEvent]:
        """The next events in (after_seq, until_seq], as many as can be read in a few milliseconds; none when there are none."""
        if after_seq >= until_seq:
            return ()
        return await self.reading.run(lambda connection: self._reader.chunk(connection, after_seq, until_seq))

    async def links(self, seqs: Sequence[int]) -> Sequence[Link]:
        """Events by their `seq` as they are stored, not upcast, with what ties them into the chain; of those that are not there, none."""
        return await self.reading.run(lambda connection: self._reader.links(connection, seqs))

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on the writer's thread, between appends, in a transaction of its own that need not survive a power cut.

        For tables that can be made anew from the events. When `work` raises, nothing is written.

        Raises:
            MachineError: as `append`.
        """
        return await self.writing.run(lambda connection: self._writer.transact(connection, work))

    async def verify(self, expected: Head | None = None) -> Verdict:
        """Walks the chain up to the events committed now.

        Args:
            expected: a head written down earlier; the history must contain it.
        """
        walk, until = ChainWalk(), self._head.seq
        while walk.broken is None and walk.head.seq < until:
            before = walk.head.seq
            await self.reading.run(lambda connection: walk.feed(read_rows(connection, walk.head.seq, until)))
            if walk.head.seq == before:
                break
        verdict = walk.finish(until, expected)
        return await self.reading.run(lambda connection: placed(connection, verdict, expected))

    async def close(self) -> None:
        """Finishes what was accepted, ends all following, and closes. Idempotent; callers at the same time all wait for the end."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="event-store-close")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            self._group.close()
            while self._group.is_waiting():
                await self.writing.run(lambda _connection: None)  # a group has been taken before this
            await self.writing.run(lambda _connection: None)  # behind the last group
            self._tail.close()
            await self.reading.close()
            await self.writing.close()
        finally:
            self._lock.release()

    def _write(self, appends: Sequence[Append]) -> Sequence[Stored]:
        """On the writer's thread: one transaction. Who follows is told before anybody is answered, so what they do next can rely on it."""
        try:
            head, stored = self._writer.write(self.writing.raw, appends)
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        self._head = head
        self.size_bytes = _size(self._files)
        self._tail.publish(list(chain.from_iterable(stored)))
        return stored

    def _tell_loop(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended; nobody there waits any more
            self._loop.call_soon_threadsafe(call, *arguments)

    async def _read(self, after_seq: int, until_seq: int) -> AsyncIterator[StoredEvent]:
        while chunk := await self.chunk(after_seq, until_seq):
            for event in chunk:
                yield event
            after_seq = chunk[-1].seq

    async def _follow(self, position: int) -> AsyncIterator[StoredEvent]:
        while await self._tail.wait(position):
            chunk = self._tail.after(position)
            if chunk is None and self._tail.is_closed:
                return
            for event in await self.chunk(position, self._head.seq) if chunk is None else chunk:
                yield event
                position = event.seq


def _size(files: Sequence[str]) -> int:
    size = 0
    for file in files:
        with suppress(OSError):  # what was written is written, also where nobody can say how much
            size += os.stat(file).st_size  # noqa: PTH116 - after each transaction: a `Path` costs more than the call
    return size


def _create(path: Path) -> None:
    """Makes the file owner-only before SQLite does otherwise, and its name durable; SQLite gives the files beside it the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise store_error(error, path) from error
