"""Directories of this user's alone, in places where others can write beside them: in a temporary directory, or in one that machines share."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o700
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def own_directory(directory: Path, uid: int) -> Path:
    """Makes it, if it is not there. One that others could only look into is closed to them; what they could write to may hold something of theirs.

    Raises:
        OSError: it cannot be made, or is not this user's alone.
    """
    with suppress(FileExistsError):
        directory.mkdir(mode=PRIVATE)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
        raise PermissionError(f"{directory} is not a directory of this user alone")
    if found.st_mode & _OTHERS_WRITE:
        way_out = "once nothing of theirs is in it, chmod 700"
        raise PermissionError(f"{directory} is not a directory of this user alone: others can write to it; {way_out}")
    if stat.S_IMODE(found.st_mode) != PRIVATE:
        directory.chmod(PRIVATE)  # of an earlier version, or with a bit that its parent hands down
    return directory


def check_place(directory: Path) -> None:
    """Refuses a directory in which others could put one of theirs in the place of one of ours.

    Raises:
        OSError: they can, or there is none.
    """
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is not a directory of this machine")
    mode = directory.stat().st_mode
    if mode & _OTHERS_WRITE and not mode & stat.S_ISVTX:
        raise PermissionError(f"others can rename what is in {directory}: its mode is {stat.S_IMODE(mode):04o}")
