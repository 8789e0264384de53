"""A job's directory: given to the job, measured while it runs, taken back afterwards.

Everything in it was chosen by a stranger, so nothing here follows a link, opens a file, or trusts a mode: only directories are opened, by name
below an open parent, and never through a symbolic link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

BLOCK: Final = 512
"""Unit of st_blocks, whatever the file system."""
MAX_ENTRIES: Final = 200_000
"""A directory with more files than this counts as full: walking it would cost more than the files."""
MAX_DEPTH: Final = 100
"""Directories nested deeper count as full too."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def hand_over(directory: Path, uid: int) -> None:
    """Makes `uid` the owner of the directory and all in it.

    Raises:
        OSError: not root, or the directory is gone.
    """
    for parent, name, _ in _entries(directory):
        os.chown(name, uid, uid, dir_fd=parent, follow_symlinks=False)
    os.chown(directory, uid, uid)


def take_back(directory: Path) -> None:
    """Makes the node the owner again and everything readable to it. Set-uid bits are gone afterwards."""
    uid, gid = os.geteuid(), os.getegid()
    with suppress(OSError):  # gone, or too deep: the rest is the job's loss
        os.chown(directory, uid, gid)
        directory.chmod(0o700)
        for parent, name, status in _entries(directory):
            with suppress(OSError):  # removed meanwhile, or another owner's: it stays as it is
                if status.st_uid != uid:
                    os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
                _make_readable(parent, name, status)


def take_back_empty(directory: Path) -> None:
    """`take_back` of a directory that has nothing in it, for less."""
    with suppress(OSError):
        os.chown(directory, os.geteuid(), os.getegid())
        directory.chmod(0o700)


def remove(directory: Path) -> None:
    """Deletes the directory and all in it, however deep a job has nested it. What cannot be deleted stays.

    A subdirectory is moved up to the top before its turn comes: neither descriptors nor recursion grow with the depth, as those of
    `shutil.rmtree` do, and a job's nest cannot stay for ever.
    """
    with suppress(OSError):
        top = os.open(directory, _DIRECTORY)
        try:
            os.fchmod(top, 0o700)
            while any([_remove_entry(top, name) for name in os.listdir(top)]):  # noqa: C419, PTH208 - all of them; by descriptor
                pass
        finally:
            os.close(top)
        directory.rmdir()


def _remove_entry(top: int, name: str) -> bool:
    """Deletes an entry of the top, after moving the directories in it to the top. Says whether it is gone."""
    child = _open_directory(top, name)
    try:
        if child < 0:
            os.unlink(name, dir_fd=top)
        else:
            os.fchmod(child, 0o700)
            for below in os.listdir(child):  # noqa: PTH208 - by descriptor
                _lift(child, below, top)
            os.rmdir(name, dir_fd=top)
    except OSError:
        return False
    finally:
        if child >= 0:
            os.close(child)
    return True


def _lift(parent: int, name: str, top: int) -> None:
    child = _open_directory(parent, name)
    if child < 0:
        os.unlink(name, dir_fd=parent)
        return
    try:
        os.fchmod(child, 0o700)  # moving it writes to it: its ".." changes
    finally:
        os.close(child)
    os.rename(name, token_hex(16), src_dir_fd=parent, dst_dir_fd=top)


def is_empty(directory: Path) -> bool:
    """Whether nothing is in it (or it is gone)."""
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def used_bytes(directory: Path, pids: list[int], limit: int) -> int:
    """Disk used below `directory`, with files that are deleted but still open in one of `pids`. Stops counting beyond `limit`.

    A sparse file counts what it occupies; a file with several names counts once.
    """
    seen: set[int] = set()
    total = entries = 0
    try:
        device = directory.stat().st_dev
        for _, _, status in _entries(directory):
            entries += 1
            if status.st_ino not in seen:
                total += status.st_blocks * BLOCK
                if status.st_nlink > 1:
                    seen.add(status.st_ino)
            if total > limit or entries > MAX_ENTRIES:
                return max(total, limit + 1)
        return total + _deleted_bytes(pids, device)
    except OSError as error:
        return limit + 1 if error.errno == errno.ELOOP else total


def _deleted_bytes(pids: list[int], device: int) -> int:
    found: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - names only
                with suppress(OSError):
                    status = os.stat(f"/proc/{pid}/fd/{fd}")  # noqa: PTH116 - often
                    if status.st_nlink == 0 and status.st_dev == device and stat.S_ISREG(status.st_mode):
                        found[status.st_ino] = status.st_blocks * BLOCK
    return sum(found.values())


def _entries(directory: Path) -> Iterator[tuple[int, str, os.stat_result]]:
    """Every entry below `directory`, a directory before its contents, as (open parent, name, status).

    Raises:
        OSError: ELOOP: directories are nested more than `MAX_DEPTH` deep.
    """
    root = os.open(directory, _DIRECTORY)
    try:
        yield from _below(root, 1)
    finally:
        os.close(root)


def _below(parent: int, depth: int) -> Iterator[tuple[int, str, os.stat_result]]:
    """Depth first, so that no more descriptors are open than there are levels."""
    if depth > MAX_DEPTH:
        raise OSError(errno.ELOOP, f"directories nested more than {MAX_DEPTH} deep")
    directories = []
    with os.scandir(parent) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # removed while we look
                status = entry.stat(follow_symlinks=False)
                yield parent, entry.name, status
                if stat.S_ISDIR(status.st_mode):
                    directories.append(entry.name)
    for name in directories:
        child = _open_directory(parent, name)
        if child >= 0:
            try:
                yield from _below(child, depth + 1)
            finally:
                os.close(child)


def _open_directory(parent: int, name: str) -> int:
    """Opens a directory, after giving its owner (us) access where a job took it away; -1 when that cannot be."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        with suppress(OSError):
            _make_readable(parent, name, os.stat(name, dir_fd=parent, follow_symlinks=False))
            return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError:
        pass
    return -1


def _make_readable(parent: int, name: str, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    wanted = (mode & 0o777) | (0o700 if stat.S_ISDIR(status.st_mode) else 0o600)
    if mode == wanted or not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        return
    handle = os.open(name, _HANDLE, dir_fd=parent)
    try:
        opened = os.fstat(handle)
        if (opened.st_dev, opened.st_ino) == (status.st_dev, status.st_ino):
            os.chmod(f"/proc/self/fd/{handle}", wanted)  # noqa: PTH101 - by descriptor: the name may mean something else by now
    finally:
        os.close(handle)
