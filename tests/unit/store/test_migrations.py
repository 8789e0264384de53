import re
import sqlite3

import pytest

from dms.store.connection import connect_writer
from dms.store.migrations import LATEST, MIGRATIONS, Migration, migrate, schema_statements


@pytest.fixture
def connection(tmp_path):
    path = tmp_path / "events.db"
    path.touch()
    connection = connect_writer(path)
    yield connection
    connection.close()


def schema_of(connection):
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'sqlite_sequence'"
    )
    return {name: re.sub(r"\s+", " ", sql) for name, sql in found}


def state_of(connection):
    return (
        schema_of(connection),
        connection.execute("PRAGMA user_version").fetchone()[0],
        connection.execute("SELECT number, name FROM migrations").fetchall(),
    )


def test_the_complete_schema_equals_the_result_of_all_migrations(connection, tmp_path):
    migrate(connection)
    other = connect_writer_at(tmp_path / "stepwise.db")
    for migration in MIGRATIONS:
        migrate_by_one(other, migration)
    assert state_of(other) == state_of(connection)
    other.close()


def connect_writer_at(path):
    path.touch()
    return connect_writer(path)


def migrate_by_one(connection, migration):
    """As an older dms, whose newest step this was, would have left the file."""
    steps = MIGRATIONS[: migration.number]
    migrate(connection, steps, schema=migration.statements)


def test_migrating_the_newest_changes_nothing(connection):
    migrate(connection)
    before = state_of(connection)
    migrate(connection)
    assert state_of(connection) == before
    assert before[1] == LATEST


def test_migrations_are_numbered_from_one_without_gaps():
    assert [migration.number for migration in MIGRATIONS] == list(range(1, LATEST + 1))
    assert len(schema_statements()) >= len(MIGRATIONS)


NEXT = (
    *MIGRATIONS,
    Migration(
        LATEST + 1, "notes", ("CREATE TABLE notes (seq INTEGER, text TEXT)", "CREATE INDEX notes_seq ON notes (seq)")
    ),
    Migration(LATEST + 2, "authors", ("ALTER TABLE notes ADD COLUMN author TEXT",)),
)


def test_an_older_file_runs_only_the_steps_it_lacks_and_keeps_its_events(connection):
    migrate(connection)
    connection.execute("INSERT INTO events VALUES (1, 's', 1, 'k', 0, '', 1, x'00', x'00')")
    migrate(connection, NEXT)
    schema, version, steps = state_of(connection)
    assert version == LATEST + 2
    assert [number for number, _ in steps] == list(range(1, LATEST + 3))
    assert "author" in schema["notes"]
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_a_step_that_fails_is_undone_and_those_before_it_stay(connection):
    migrate(connection)
    broken = (*NEXT[:-1], Migration(LATEST + 2, "broken", ("CREATE TABLE half (x)", "CREATE TABLE notes (y)")))
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection, broken)
    schema, version, _ = state_of(connection)
    assert version == LATEST + 1
    assert "notes" in schema
    assert "half" not in schema
