"""Input files of a job: found, kept inside the job's directory, digested.

A job file may come from somebody else. So what it names must lie beside it or below it, links included: otherwise running a stranger's job would
send `~/.ssh` to a stranger's machine. Paths a person types on the command line are their own word and are roots of their own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from dms_proto.data.chunks import CHUNK_BYTES, Hashing
from dms_proto.data.places import flaw_of
from dms_proto.rules import RelativePath
from dms_proto.units import MAX_QUANTITY
from dms_proto.work import Input

MAX_INPUT_FILES: Final = 4096
"""Files of one job; as many as one invocation may name."""


class Found(msgspec.Struct, frozen=True):
    """An input of the task, and where its content lies here."""

    entry: Input
    source: Path


def collect(path: str, as_: str, base: Path, roots: Sequence[Path]) -> list[Found]:
    """The file at `path` (relative to `base`), or every file below it, digested; placed at `as_` or, without one, at `path`.

    Args:
        path: as written in the job.
        as_: where the job sees it; for a directory, its new name.
        base: the directory of the job file.
        roots: directories the content may come from, resolved.

    Raises:
        ValueError: missing, outside the roots, not a regular file, unreadable, or too many files; the message is for a person.
    """
    start = base / path
    place = as_ or _relative(path)
    found: list[Found] = []
    for file, below in files_at(start, path):
        real = inside(file, path, roots)
        found.append(
            Found(_digest(real, checked_place(str(PurePosixPath(place, below)) if below else place), path), real)
        )
        if len(found) > MAX_INPUT_FILES:
            raise ValueError(f"{path} holds more than {MAX_INPUT_FILES} files; pack them into one archive")
    return found


def look_at(path: str, base: Path, roots: Sequence[Path]) -> None:
    """Sees what `collect` would find at `path`, without reading it.

    Raises:
        ValueError: as `collect`.
    """
    for file, _ in files_at(base / path, path):
        with open_regular(inside(file, path, roots), path):
            pass


def _relative(path: str) -> str:
    """Where the job sees an input that says no place: the same path if it goes down, else its last part."""
    pure = PurePosixPath(path)
    return pure.name if pure.is_absolute() or ".." in pure.parts else str(pure)


def checked_place(place: str) -> str:
    """A place, if it is one below the job's directory.

    Raises:
        ValueError: it is none.
    """
    try:
        place = msgspec.convert(place, RelativePath)
    except msgspec.ValidationError:
        what = f"{place!r} is no place below the job's directory"
        raise ValueError(f"{what}: write a path such as data/in.csv, without a leading / and without ..") from None
    if flaw := flaw_of((place,)):
        raise ValueError(flaw)
    return place


def files_at(start: Path, shown: str) -> Iterator[tuple[Path, str]]:
    """The file at `start`, or every file below it, each with its path from there; empty for the file itself.

    Raises:
        ValueError: it is missing, unreadable, or has a link to a directory; the message names it as `shown`.
    """
    if not start.exists():
        raise ValueError(f"{shown} does not exist" if not start.is_symlink() else f"{shown} is a link to nothing")
    if not start.is_dir():
        yield start, ""
        return
    for directory, names, files in os.walk(start, onerror=_unreadable):  # does not follow links to directories
        names.sort()
        for name in sorted(files):
            file = Path(directory, name)
            yield file, file.relative_to(start).as_posix()
        for name in names:
            if Path(directory, name).is_symlink():
                raise ValueError(
                    f"{shown}: {Path(directory, name)} is a link to a directory; name that directory itself"
                )


def _unreadable(error: OSError) -> None:
    raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error


def inside(file: Path, shown: str, roots: Sequence[Path]) -> Path:
    """Where `file` really lies, which is below one of `roots`.

    Raises:
        ValueError: it is not; the message names it as `shown`.
    """
    real = file.resolve()
    if not any(real.is_relative_to(root) for root in roots):
        raise ValueError(
            f"{shown} leads outside the job's directory, to {real}; copy the file there if it is meant to be sent"
        )
    return real


@contextmanager
def open_regular(real: Path, shown: str) -> Iterator[FileIO]:
    """Opens a regular file for reading.

    Raises:
        ValueError: it is none or cannot be read, also later in the block; the message names it as `shown`.
    """
    try:
        # Not blocking: opening a pipe nobody writes to would wait for ever, before it could be seen to be one.
        with FileIO(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"{shown}: {real} is not a regular file")
            yield file
    except OSError as error:
        raise ValueError(f"{shown}: {real} cannot be read: {error.strerror}") from error


def _digest(real: Path, place: str, shown: str) -> Input:
    hashing = Hashing()
    with open_regular(real, shown) as file:
        status = os.fstat(file.fileno())
        while data := file.read(CHUNK_BYTES):
            hashing.update(data)
    content = hashing.content()
    if content.size > MAX_QUANTITY:
        raise ValueError(f"{shown} is too large")
    return Input(
        path=place,
        digest=content.digest,
        size=content.size,
        executable=bool(status.st_mode & 0o111),
        chunks=content.chunks,
    )
