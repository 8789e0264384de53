"""What SQLite and the operating system report, said as `MachineError` with a stable code.

==========================================  ===============  ==========
reported                                    code             retryable
==========================================  ===============  ==========
FULL, ENOSPC, EDQUOT, I/O error on no room  `disk_full`      yes
CORRUPT, NOTADB                             `store_corrupt`  no
BUSY, LOCKED (a foreign program writes)     `store_failed`   yes
anything else                               `store_failed`   no
==========================================  ===============  ==========
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from dms_proto.errors import MachineError

NO_ROOM_BYTES: Final = 256 * 1024
"""An I/O error with less free space than this is a full disk: extending the shared memory file reports it as a plain I/O error."""

_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NO_ROOM_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def store_error(error: sqlite3.Error | OSError, path: Path) -> MachineError:
    """The error to raise for what happened to the store file, or blob directory, at `path`."""
    if isinstance(error, OSError):
        return disk_full(path) if error.errno in _NO_ROOM_ERRNOS else failed(path, str(error))
    primary = (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & 0xFF
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _has_no_room(path)):
        return disk_full(path)
    if primary in _CORRUPT:
        return corrupt(path, str(error))
    return failed(path, str(error), retryable=primary in _BUSY)


def disk_full(path: Path) -> MachineError:
    """There was no room for a write at `path`; nothing of it remains."""
    return MachineError(
        "disk_full",
        f"no room on the disk that holds {path}; nothing was written",
        hint=f"free some space on the file system of {path.parent}; the node then goes on by itself",
        retryable=True,
    )


def corrupt(path: Path, what: str) -> MachineError:
    """The file at `path` is not a sound store, for the reason `what`."""
    return MachineError(
        "store_corrupt",
        f"the event store {path} is damaged: {what}; the file was kept as it is",
        hint=f"`python -m dms.store.verify {path}` names the first bad event; restore a copy, or move the file away to start anew",
    )


def failed(path: Path, what: str, *, retryable: bool = False) -> MachineError:
    """The store at `path` could not be read or written, for the reason `what`."""
    return MachineError("store_failed", f"the store {path} failed: {what}", retryable=retryable)


def newer(path: Path, found: int, known: int) -> MachineError:
    """The store at `path` has schema version `found`, this dms knows up to `known`."""
    return MachineError(
        "store_newer",
        f"the event store {path} has schema version {found}, this dms knows up to {known}; it was not touched",
        hint="use the newer dms that wrote it, or another home",
    )


def _has_no_room(path: Path) -> bool:
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < NO_ROOM_BYTES
