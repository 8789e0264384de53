"""What runners keep on a machine: one directory of this user's, with what the machine has proven, and one for each runner that is there.

A runner holds a lock on its own for as long as it lives. Whose lock nobody holds has died, and what it left is the next one's to remove.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dms.executors.cluster.own import own_directory

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def scratch_directory(where: Path, uid: int) -> Path:
    """This user's own directory on this machine. Others can write beside it, and nothing of theirs is taken for ours.

    Raises:
        OSError: it cannot be made, or is not ours alone.
    """
    return own_directory(where / f"dms-{uid}", uid)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Makes a runner's directory, and holds it. Where nothing can be held, as on some file systems, nothing is taken for left behind either.

    Raises:
        OSError: it cannot be made.
    """
    handle = _taken(directory)
    try:
        yield
    finally:
        os.close(handle)


def left_behind(runners: Path) -> Iterator[Path]:
    """Directories of runners that are not there any more, each held while it is looked at."""
    for directory in [entry for entry in runners.iterdir() if entry.is_dir() and not entry.is_symlink()]:
        with suppress(OSError):  # it is held, or gone
            handle = os.open(directory, _FLAGS)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield directory
            finally:
                os.close(handle)


def _taken(directory: Path) -> int:
    """One that somebody is just removing, as left by an earlier runner, is made again."""
    while True:
        directory.mkdir(mode=0o700, exist_ok=True)
        try:
            handle = os.open(directory, _FLAGS)
        except FileNotFoundError:
            continue
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if directory.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)
