"""Where the history in a file ends, and whether its end is whole."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path
from typing import Final

from dms.store.chain import GENESIS, Head, Row, follows
from dms.store.errors import corrupt

CHECKED: Final = 64
"""Events at the end of the chain that are checked whenever the end is read: where damage by a crash would be. Reading them takes 0.3 ms."""


def highest_seq(connection: sqlite3.Connection) -> int:
    """The highest seq SQLite remembers to have given, whether or not the row is still there."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return int(row[0]) if row else 0


def read_head(connection: sqlite3.Connection, path: Path) -> Head:
    """The head of the history, with its last events checked.

    Raises:
        MachineError: `store_corrupt`: the chain is broken there, or shorter than SQLite remembers.
        sqlite3.Error: as SQLite reports it.
    """
    rows = [Row(*row) for row in connection.execute("SELECT * FROM events ORDER BY seq DESC LIMIT ?", (CHECKED,))]
    head = Head(rows[0].seq, rows[0].hash, rows[0].at) if rows else Head()
    highest = highest_seq(connection)
    if highest != head.seq:
        raise corrupt(path, f"its events end at {head.seq}, but {highest} were written")
    for row, before in itertools.pairwise(rows):
        if row.seq != before.seq + 1 or not follows(before.hash, row):
            raise corrupt(path, f"event {row.seq} does not follow from the one before it")
    if rows and rows[-1].seq <= 1 and not follows(GENESIS, rows[-1]):
        raise corrupt(path, "the first event is not what was written")
    return head
