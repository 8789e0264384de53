"""What is checked before a file is opened for writing, by reading it only: a file that is refused stays as it is, byte for byte."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Final

from dms.store.connection import connect_reader
from dms.store.errors import corrupt, newer, store_error
from dms.store.head import read_head
from dms.store.migrations import APPLICATION_ID, LATEST

_HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\x00"


def check_file(path: Path) -> int:
    """Gives the schema version of the file at `path`; 0 when it is missing, empty, or has no tables yet.

    The header is read first, without SQLite; then the write-ahead log counts too, for a newer dms may have died before folding it in.

    Raises:
        MachineError: `store_newer`; `store_corrupt` when it is not a SQLite file, not an event store, or damaged; `store_failed`.
    """
    header = _read_header(path)
    if not header:
        return 0
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise corrupt(path, "it is not a SQLite file")
    version, application = struct.unpack_from(">I4xI", header, 60)
    if application == APPLICATION_ID and version > LATEST:
        raise newer(path, version, LATEST)
    try:
        version, application, tables = _read_versions(path)
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    if not tables:
        return 0
    if application != APPLICATION_ID:
        raise corrupt(path, "it is a SQLite file of another program")
    if version > LATEST:
        raise newer(path, version, LATEST)
    return version


def check_end(path: Path) -> None:
    """Checks the end of the history in a file that has one.

    Raises:
        MachineError: `store_corrupt`.
    """
    try:
        with closing(connect_reader(path)) as connection:
            read_head(connection, path)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # our own statement does not fit the tables that are there
            raise corrupt(path, str(error)) from error
        raise store_error(error, path) from error
    except sqlite3.Error as error:
        raise store_error(error, path) from error


def _read_header(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        header = b""
    except OSError as error:
        raise store_error(error, path) from error
    log = path.with_name(path.name + "-wal")
    if not header and log.exists() and log.stat().st_size > 0:
        # SQLite would delete the log, and with it what the events were.
        raise corrupt(path, f"it is empty or missing, but {log.name} beside it holds events")
    return header


def _read_versions(path: Path) -> tuple[int, int, int]:
    with closing(connect_reader(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return version, application, tables
