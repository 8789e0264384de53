"""Transactions of events: numbers them, chains them, writes them in as few SQLite calls as can be.

All of this runs on the writer connection's thread; others only hand batches over. Each SQLite call gives the interpreter lock up and
has to win it back, which on a busy loop can take the switch interval (5 ms) each time: rows therefore go in by statements of many rows
(`ROWS_PER_STATEMENT`), so 63 rows take 6 calls rather than 63 (measured beside a busy thread: 17 ms a commit instead of 300). ``OR ROLLBACK``
spares SQLite a journal per statement, which made such inserts twice as dear as single ones; now they are the cheaper ones.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from dms.store.chain import Head, Row, link
from dms.store.durability import Durability, DurabilityTable
from dms.store.head import read_head
from dms.store.migrations import Checkpoint
from dms.store.upcast import Upcaster
from dms_actors.ports import NewEvent, StoredEvent

T = TypeVar("T")

POINTS: Final = (
    "append_before_begin",
    "append_after_begin",
    "append_after_insert",
    "append_before_commit",
    "append_after_commit",
    "append_before_ack",
    "append_after_ack",
)
"""Every place in an append that a crash can fall between, in order. All are on the writer's thread."""

ROWS_PER_STATEMENT: Final = (64, 32, 16, 8, 4, 2, 1)
"""Sizes of the insert statements; larger than 64 gained nothing and takes long to prepare."""
KNOWN_STREAMS: Final = 4096
"""Streams whose last version is remembered; for others it is looked up. About 0.5 MB when full."""
_ROW: Final = f"({','.join('?' * len(Row._fields))})"
_INSERT: Final = {
    size: f"INSERT OR ROLLBACK INTO events VALUES {','.join([_ROW] * size)}"  # noqa: S608 - built from the constants above
    for size in ROWS_PER_STATEMENT
}


class Append(NamedTuple):
    """The events of one append, with the time they were accepted at, Unix ms."""

    events: Sequence[NewEvent]
    at: int


class Writer:
    """Owns the end of the chain. Used on the writer connection's thread alone.

    Args:
        path: of the store, for messages.
        durability: levels by kind.
        upcaster: says the form in which each kind is written.
        checkpoint: called at each of `POINTS` up to the commit.
    """

    def __init__(self, path: Path, durability: DurabilityTable, upcaster: Upcaster, checkpoint: Checkpoint) -> None:
        self._path = path
        self._durability = durability
        self._upcaster = upcaster
        self._checkpoint = checkpoint
        self._head: Head | None = None
        self._versions: dict[str, int] = {}
        self._synchronous = 0

    def load(self, connection: sqlite3.Connection) -> Head:
        """Reads where the history ends, and forgets what was remembered of it.

        Raises:
            MachineError: `store_corrupt`, as `read_head`.
        """
        self._head = read_head(connection, self._path)
        self._versions.clear()
        return self._head

    def write(self, connection: sqlite3.Connection, appends: Sequence[Append]) -> tuple[Head, list[list[StoredEvent]]]:
        """Writes all appends (there may be none) in one transaction and gives the new head, and each append's events as stored.

        Whatever goes wrong, nothing is written and the next call starts from what the file says.

        Raises:
            sqlite3.Error: as SQLite reports it.
            MachineError: `store_corrupt` when, after an earlier failure, the file turns out damaged.
        """
        head = self._head or self.load(connection)
        if not appends:
            return head, []
        level = self._durability.of({event.kind for append in appends for event in append.events})
        self._head = None  # until the commit; whatever goes wrong before, the next call asks the file
        head, stored, values = self._number(connection, head, appends)
        self._transact(connection, values, level)
        self._head = head
        self._forget()
        return head, stored

    def _number(
        self, connection: sqlite3.Connection, head: Head, appends: Sequence[Append]
    ) -> tuple[Head, list[list[StoredEvent]], list[object]]:
        """Gives each event its seq, version, time and hash. The clock may go backwards, the history does not.

        One loop rather than a readable few: it is what the store spends its own time in (2 µs an event, SQLite 16 µs).
        """
        seq, previous, at = head
        versions, form_of = self._versions, self._upcaster.forms.get
        stored: list[list[StoredEvent]] = []
        values: list[object] = []
        for append in appends:
            at = max(at, append.at)
            mine = []
            for event in append.events:
                seq += 1
                stream, kind, cause_id, body = event.stream, event.kind, event.cause_id, event.body
                version = 1 + (versions.get(stream) or self._last_version(connection, stream))
                versions[stream] = version
                content = (seq, stream, version, kind, at, cause_id, form_of(kind, 1), body)
                previous = link(previous, content)
                values += content
                values.append(previous)
                mine.append(StoredEvent(seq, stream, version, kind, at, cause_id, body))
            stored.append(mine)
        return Head(seq, previous, at), stored, values

    def _transact(self, connection: sqlite3.Connection, values: Sequence[object], level: Durability) -> None:
        self._checkpoint("append_before_begin")
        if connection.in_transaction:  # a rollback that itself failed
            connection.execute("ROLLBACK")
        self.set_synchronous(connection, level)
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._checkpoint("append_after_begin")
            for size, part in _statements(values):
                connection.execute(_INSERT[size], part)
                self._checkpoint("append_after_insert")
            self._checkpoint("append_before_commit")
            connection.execute("COMMIT")
        except BaseException:
            # SQLite rolls some failures back by itself (disk full among them) and leaves others to us.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._checkpoint("append_after_commit")

    def transact(self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a transaction that holds no events. Whatever it raises, nothing is written."""
        self.set_synchronous(connection, Durability.NORMAL)
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return result

    def set_synchronous(self, connection: sqlite3.Connection, level: Durability) -> None:
        """Sets how the next transactions commit. Between transactions only; inside one SQLite ignores it."""
        if level != self._synchronous:
            connection.execute(f"PRAGMA synchronous={level.value}")
            self._synchronous = level

    def _last_version(self, connection: sqlite3.Connection, stream: str) -> int:
        (version,) = connection.execute("SELECT max(version) FROM events WHERE stream = ?", (stream,)).fetchone()
        return version or 0

    def _forget(self) -> None:
        """Keeps the table of versions small by dropping the half that was new longest ago; looking one up again costs 10 µs."""
        if len(self._versions) > KNOWN_STREAMS:
            for stream in list(itertools.islice(self._versions, KNOWN_STREAMS // 2)):
                del self._versions[stream]


def _statements(values: Sequence[object]) -> Iterator[tuple[int, Sequence[object]]]:
    """Cuts the values of all rows into those of statements: (number of rows, their values)."""
    width, start = len(Row._fields), 0
    for size in ROWS_PER_STATEMENT:
        while len(values) - start >= size * width:
            yield size, values[start : start + size * width]
            start += size * width
