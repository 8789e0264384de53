"""From any older schema to the newest, one numbered step at a time, each in one transaction with the record of it.

A fresh file gets schema.sql at once; an older one runs the steps it lacks. The version is ``PRAGMA user_version``, which SQLite keeps in the
file and changes with the transaction, so a crash leaves the schema before a step or after it. A migration is never edited once released.
Events are not rewritten by migrations: an old body is upcast when read (upcast.py), or the hash chain would break.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import Final, NamedTuple

APPLICATION_ID: Final = 0x646D7331
"""``dms1``: says in the file header, to ``file`` and to us, that this SQLite file is an event store."""

Checkpoint = Callable[[str], None]
"""Called with the name of each point between two steps that a crash can fall between. Production passes `nowhere`, crash tests die in it."""


def nowhere(_point: str) -> None:
    """The checkpoint that does nothing."""


class Migration(NamedTuple):
    """A step to schema version `number`. `statements` run in order in one transaction."""

    number: int
    name: str
    statements: tuple[str, ...]


MIGRATIONS: Final = (
    Migration(
        1,
        "events",
        (
            "CREATE TABLE migrations (\n    number INTEGER PRIMARY KEY,\n    name TEXT NOT NULL\n)",
            "CREATE TABLE events (\n    seq INTEGER PRIMARY KEY AUTOINCREMENT,\n    stream TEXT NOT NULL,\n"
            "    version INTEGER NOT NULL,\n    kind TEXT NOT NULL,\n    at INTEGER NOT NULL,\n    cause_id TEXT NOT NULL,\n"
            "    form INTEGER NOT NULL,\n    body BLOB NOT NULL,\n    hash BLOB NOT NULL\n)",
            "CREATE UNIQUE INDEX events_stream ON events (stream, version)",
            "CREATE INDEX events_kind ON events (kind)",
            "CREATE INDEX events_cause ON events (cause_id)",
            "CREATE INDEX events_at ON events (at)",
        ),
    ),
    Migration(
        2,
        "projections",
        (
            "CREATE TABLE projections (\n    name TEXT PRIMARY KEY,\n    fingerprint TEXT NOT NULL,\n    tables TEXT NOT NULL,\n"
            "    seq INTEGER NOT NULL\n)",
        ),
    ),
)
LATEST: Final = MIGRATIONS[-1].number


def migrate(
    connection: sqlite3.Connection,
    migrations: Sequence[Migration] = MIGRATIONS,
    schema: Sequence[str] | None = None,
    checkpoint: Checkpoint = nowhere,
) -> None:
    """Brings the file to the newest schema. On the writer's thread.

    Args:
        connection: in autocommit, with no transaction open.
        migrations: all steps, numbered from 1 without gaps.
        schema: the complete newest schema for a fresh file; schema.sql when None.
        checkpoint: called at each persistence point.

    Raises:
        sqlite3.Error: a step failed; the steps before it are done, it is undone.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        statements = schema_statements() if schema is None else schema
        _apply(connection, statements, migrations, checkpoint)
        return
    for migration in migrations[version:]:
        _apply(connection, migration.statements, (migration,), checkpoint)


def schema_statements() -> tuple[str, ...]:
    """The statements of schema.sql."""
    return tuple(_statements(resources.files(__package__).joinpath("schema.sql").read_text()))


def _apply(
    connection: sqlite3.Connection, statements: Sequence[str], steps: Sequence[Migration], checkpoint: Checkpoint
) -> None:
    checkpoint("migrate_before_begin")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            connection.execute(statement)
            checkpoint("migrate_after_statement")
        connection.executemany("INSERT INTO migrations VALUES (?, ?)", [(step.number, step.name) for step in steps])
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={steps[-1].number}")
        checkpoint("migrate_before_commit")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    checkpoint("migrate_after_commit")


def _statements(script: str) -> Iterator[str]:
    """Cuts a script into statements; ``executescript`` would commit the transaction it is meant to run in."""
    statement = ""
    for line in script.splitlines():
        if not statement and (not line.strip() or line.startswith("--")):
            continue
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement.strip().rstrip(";")
            statement = ""
