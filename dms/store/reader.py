"""Reading events: the statements, and how far one read may go. Runs on the reader connection's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from dms.store.chain import GENESIS, Link, Row
from dms.store.upcast import Upcaster
from dms_actors.ports import StoredEvent
from dms_proto.errors import UserError
from dms_proto.units import format_count

CHUNK_EVENTS: Final = 512
"""Rows read in one go when streaming: a few milliseconds of the reader's thread."""
CHUNK_BYTES: Final = 1024 * 1024
"""A chunk ends early when its bodies have this much."""
MAX_QUERY: Final = 100_000
"""Largest `limit` of a query; who needs more pages on with `after_seq`."""
MAX_KINDS: Final = 500
"""Most kinds in one query: SQLite limits the variables of a statement."""

_CHUNK: Final = "SELECT * FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
_STREAM: Final = "SELECT * FROM events WHERE stream = ? AND version > ? ORDER BY version"
_LAST_OF_KIND: Final = "SELECT version FROM events WHERE kind = ? AND +stream = ? ORDER BY seq DESC LIMIT 1"
"""The plus keeps SQLite from walking the whole stream: the index of kinds has the last one first."""


class Filter:
    """What a collector query asks for, as SQL.

    Args:
        kinds: any of these; empty for any kind.
        stream: empty for any.
        cause_id: empty for any.
        since: earliest time, Unix ms, inclusive; 0 for any.
        until: latest time, Unix ms, inclusive; 0 for any.
        after_seq: only later events.
        limit: events at most, 1 to `MAX_QUERY`.

    Raises:
        UserError: `bad_argument`: limit or number of kinds out of range.
    """

    def __init__(
        self, *, kinds: Sequence[str], stream: str, cause_id: str, since: int, until: int, after_seq: int, limit: int
    ) -> None:
        if not 1 <= limit <= MAX_QUERY:
            raise UserError("bad_argument", f"limit is {limit}; it must be 1 to {MAX_QUERY}")
        if len(kinds) > MAX_KINDS:
            raise UserError(
                "bad_argument",
                f"{format_count(len(kinds), 'kind was', 'kinds were')} given; at most {MAX_KINDS} can be asked for at once",
            )
        clauses = (
            (bool(kinds), f"kind IN ({','.join('?' * len(kinds))})", tuple(kinds)),
            (bool(stream), "stream = ?", (stream,)),
            (bool(cause_id), "cause_id = ?", (cause_id,)),
            (since > 0, "at >= ?", (since,)),
            (until > 0, "at <= ?", (until,)),
            (True, "seq > ?", (after_seq,)),
        )
        used = [(clause, values) for wanted, clause, values in clauses if wanted]
        self.sql = f"SELECT * FROM events WHERE {' AND '.join(clause for clause, _ in used)} ORDER BY seq LIMIT ?"  # noqa: S608 - built from the constants above
        self.values = (*(value for _, values in used for value in values), limit)


class Reader:
    """Turns rows into events. Holds no state but the upcaster."""

    def __init__(self, upcaster: Upcaster) -> None:
        self._upcaster = upcaster

    def chunk(self, connection: sqlite3.Connection, after_seq: int, until_seq: int) -> list[StoredEvent]:
        """The next events in (after_seq, until_seq], as many as one chunk holds; none when there are none."""
        events, size = [], 0
        for row in connection.execute(_CHUNK, (after_seq, until_seq, CHUNK_EVENTS)):
            events.append(self._event(row))
            size += len(events[-1].body)
            if size >= CHUNK_BYTES:
                break
        return events

    def stream(self, connection: sqlite3.Connection, stream: str, after_version: int, since: str) -> list[StoredEvent]:
        """The events of one stream after a version, and from the last of the kind `since` on, if there is one."""
        last = connection.execute(_LAST_OF_KIND, (since, stream)).fetchone() if since else None
        after_version = after_version if last is None else max(after_version, last[0] - 1)
        return [self._event(row) for row in connection.execute(_STREAM, (stream, after_version))]

    def links(self, connection: sqlite3.Connection, seqs: Sequence[int]) -> list[Link]:
        """Events as they are stored, each with the hash before it."""
        return [
            Link(self._hash(connection, seq - 1), Row(*row))
            for seq in seqs
            for row in connection.execute("SELECT * FROM events WHERE seq = ?", (seq,))
        ]

    def _hash(self, connection: sqlite3.Connection, seq: int) -> bytes:
        row = connection.execute("SELECT hash FROM events WHERE seq = ?", (seq,)).fetchone()
        return GENESIS if row is None else bytes(row[0])

    def query(self, connection: sqlite3.Connection, wanted: Filter) -> list[StoredEvent]:
        """The events a filter lets through, oldest first."""
        return [self._event(row) for row in connection.execute(wanted.sql, wanted.values)]

    def _event(self, fields: Sequence[object]) -> StoredEvent:
        row = Row(*fields)  # type: ignore[arg-type]
        body = self._upcaster.body(row.kind, row.form, row.body)
        return StoredEvent(row.seq, row.stream, row.version, row.kind, row.at, row.cause_id, body)
