"""SQLite connections as the store uses them: aiosqlite's thread, one hop for a whole unit of work, modest memory.

aiosqlite queues one call per statement, and each pays a hop to its thread and back (three for the smallest transaction). `Connection.run`
sends a function instead, which does all its statements on that thread: one hop per transaction, and no other work can come in between.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import aiosqlite

from dms.store.errors import failed, store_error

T = TypeVar("T")

WRITER_CACHE_KIB: Final = 2048
"""Pages of the five B-trees an append touches stay hot in this; larger buys nothing measurable and every node pays for it."""
READER_CACHE_KIB: Final = 512
WAL_PAGES: Final = 1000
"""Checkpoint when the log has 4 MiB: a restart after kill -9 then reads at most that much back."""
WAL_BYTES: Final = 8 * 1024 * 1024
"""What the log is cut back to after a burst grew it (the figure Syncthing 2 chose)."""
BUSY_MS: Final = 2000
"""How long to wait for a foreign program that writes to the file, such as a person with a database browser."""


class Connection(aiosqlite.Connection):
    """One SQLite connection on a thread of its own. Create with `open_writer` or `open_reader`."""

    def __init__(self, path: Path, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._path = path
        # A process that ends by an error without closing would otherwise wait for this thread for ever. To the file it is a kill -9.
        self._thread.daemon = True

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on the connection's thread, after everything queued before it, and gives what it returns.

        Cancelling the caller does not stop work that was queued.

        Raises:
            MachineError: what `work` met as `sqlite3.Error`, translated; `store_failed` when the connection is closed.
        """
        try:
            result: T = await self._execute(lambda: work(self._conn))  # type: ignore[no-untyped-call]
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
        except ValueError as error:
            if self._running and self._connection is not None:
                raise
            raise failed(self._path, "it is closed") from error
        return result

    def submit(self, work: Callable[[], None]) -> None:
        """Queues `work`, which answers for its own errors, after everything queued before it. From any thread, and without the loop.

        It uses aiosqlite's queue as `_execute` does, but with nobody waiting (tests/component/store/test_event_store.py would notice a change).

        Raises:
            MachineError: `store_failed`: the connection is closed.
        """
        if not self._running or self._connection is None:
            raise failed(self._path, "it is closed")
        self._tx.put_nowait((None, work))

    @property
    def raw(self) -> sqlite3.Connection:
        """The SQLite connection, for work on its thread."""
        return self._conn


async def open_writer(path: Path) -> Connection:
    """Opens the one connection that writes; transactions are begun and ended by hand.

    Raises:
        MachineError: `store_corrupt`, `store_failed`, `disk_full`.
    """
    return await _open(path, lambda: connect_writer(path))


async def open_reader(path: Path) -> Connection:
    """Opens a connection that cannot write. The file must be a store already.

    Raises:
        MachineError: `store_corrupt`, `store_failed`.
    """
    return await _open(path, lambda: connect_reader(path))


def connect_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection for the calling thread; it never changes the file, not even to fold the write-ahead log into it."""
    return _connect(f"{path.absolute().as_uri()}?mode=ro", READER_PRAGMAS)


def connect_writer(path: Path) -> sqlite3.Connection:
    """A read-write connection for the calling thread to a file that exists, as the store sets it up."""
    return _connect(f"{path.absolute().as_uri()}?mode=rw", WRITER_PRAGMAS)


def _connect(uri: str, pragmas: Sequence[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


READER_PRAGMAS: Final = (f"busy_timeout={BUSY_MS}", f"cache_size=-{READER_CACHE_KIB}", "mmap_size=0", "query_only=1")
WRITER_PRAGMAS: Final = (
    f"busy_timeout={BUSY_MS}",
    "journal_mode=WAL",
    "synchronous=FULL",
    f"cache_size=-{WRITER_CACHE_KIB}",
    "mmap_size=0",
    f"wal_autocheckpoint={WAL_PAGES}",
    f"journal_size_limit={WAL_BYTES}",
    "foreign_keys=ON",
)


async def _open(path: Path, connector: Callable[[], sqlite3.Connection]) -> Connection:
    connection = Connection(path, connector)
    try:
        await connection
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    return connection
