"""Walking the hash chain: is the history whole, and if not, where does it first break and how.

Also a program, ``python -m dms.store.verify events.db``, for a file whose node does not start; it only reads.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from dms.store.chain import Head, Row, follows, link
from dms.store.connection import connect_reader
from dms.store.errors import failed, store_error
from dms.store.guard import check_file
from dms.store.head import highest_seq
from dms_proto.errors import DmsError
from dms_proto.units import format_count

CHUNK: Final = 1000
"""Rows checked in one go: about 5 ms, so that a walk over a large history does not keep other readers waiting."""


class Break(msgspec.Struct, frozen=True):
    """The first place where the chain does not hold.

    Attributes:
        seq: of the event that is missing, changed or out of place.
        what: "missing", "changed", "moved", "truncated" or "replaced".
        detail: one line for a person.
    """

    seq: int
    what: str
    detail: str


class Verdict(msgspec.Struct, frozen=True):
    """What a walk found. `checked` events are sound; `head_hash` (hexadecimal) is that of the last of them."""

    checked: int
    head_hash: str
    broken: Break | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is broken."""
        return self.broken is None


class ChainWalk:
    """Checks rows in order of seq, from the first. Stops at the first break."""

    def __init__(self) -> None:
        self.head = Head()
        self.broken: Break | None = None

    def feed(self, rows: Iterable[Row]) -> None:
        """Goes on with the next rows."""
        for row in rows:
            if self.broken is not None:
                return
            self.broken = self._check(row)
            if self.broken is None:
                self.head = Head(row.seq, row.hash, row.at)

    def finish(self, highest: int, expected: Head | None = None) -> Verdict:
        """The verdict once all rows were fed.

        Args:
            highest: the last seq SQLite remembers to have given.
            expected: a head written down earlier, elsewhere.
        """
        seq = self.head.seq
        broken = self.broken
        if broken is None and seq < highest:
            broken = Break(seq + 1, "truncated", f"the events end at {seq}, but {highest} were written")
        if broken is None and expected is not None and seq < expected.seq:
            broken = Break(seq + 1, "truncated", f"the events end at {seq}, but the head given is {expected.seq}")
        return Verdict(checked=seq, head_hash=self.head.hash.hex(), broken=broken)

    def _check(self, row: Row) -> Break | None:
        wanted = self.head.seq + 1
        if row.seq != wanted:
            gap = f"event {wanted} is" if row.seq == wanted + 1 else f"events {wanted} to {row.seq - 1} are"
            return Break(wanted, "missing", f"{gap} missing")
        if not follows(self.head.hash, row):
            detail = f"event {row.seq} ({row.kind} of {row.stream}) is not what was written"
            return Break(row.seq, "changed", detail)
        return None


def read_rows(connection: sqlite3.Connection, after_seq: int, until_seq: int) -> list[Row]:
    """The next `CHUNK` rows as they are stored, not upcast."""
    found = connection.execute(
        "SELECT * FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (after_seq, until_seq, CHUNK)
    )
    return [Row(*row) for row in found]


def placed(connection: sqlite3.Connection, verdict: Verdict, expected: Head | None) -> Verdict:
    """A verdict refined by what needs the whole table: whether a changed event is one from another place, or the history another one."""
    if verdict.broken is not None and verdict.broken.what == "changed":
        origin = _origin(connection, verdict.broken.seq)
        if origin:
            detail = f"event {verdict.broken.seq} is in the wrong place: it was written as event {origin}"
            return msgspec.structs.replace(verdict, broken=Break(verdict.broken.seq, "moved", detail))
    if verdict.broken is None and expected is not None and expected.seq:
        row = connection.execute("SELECT hash FROM events WHERE seq = ?", (expected.seq,)).fetchone()
        if row is not None and row[0] != expected.hash:
            detail = f"event {expected.seq} has not the hash that was written down: this is another history"
            return msgspec.structs.replace(verdict, broken=Break(expected.seq, "replaced", detail))
    return verdict


def verify_file(path: Path, expected: Head | None = None) -> Verdict:
    """Walks a store file that no node has open, or one that has: it only reads.

    Raises:
        MachineError: `store_newer`, `store_corrupt`, `store_failed`: there is no chain to walk.
    """
    if not check_file(path):
        raise failed(path, "it holds no events")
    try:
        connection = connect_reader(path)
        try:
            return _verify(connection, expected)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise store_error(error, path) from error


def _verify(connection: sqlite3.Connection, expected: Head | None) -> Verdict:
    walk, highest = ChainWalk(), highest_seq(connection)
    while walk.broken is None and (rows := read_rows(connection, walk.head.seq, sys.maxsize)):
        walk.feed(rows)
    return placed(connection, walk.finish(highest, expected), expected)


def _origin(connection: sqlite3.Connection, seq: int) -> int:
    """The seq under which the event now at `seq` was written, or 0: its hash tells, given the hash that was before it."""
    (row,) = (Row(*found) for found in connection.execute("SELECT * FROM events WHERE seq = ?", (seq,)))
    for before, previous in connection.execute("SELECT seq, hash FROM events"):
        # seq + 1: its neighbour's hash went along when two events next to each other changed places.
        for candidate in (before + 1, seq + 1):
            if candidate != seq and link(previous, (candidate, *row[1:8])) == row.hash:
                return int(candidate)
    return 0


def main(arguments: list[str]) -> int:
    """Prints the verdict on one file. Exit status 0: sound, 1: broken or unreadable, 2: usage."""
    if len(arguments) != 1:
        print("usage: python -m dms.store.verify EVENTS.DB", file=sys.stderr)
        return 2
    try:
        verdict = verify_file(Path(arguments[0]))
    except DmsError as error:
        print(error, file=sys.stderr)
        return 1
    if verdict.broken is not None:
        print(
            f"{verdict.broken.what}: {verdict.broken.detail}; the {format_count(verdict.checked, 'event before it is', 'events before it are')} sound"
        )
        return 1
    print(f"{format_count(verdict.checked, 'event')}, all sound; head {verdict.head_hash}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
