"""Brings home what a job left behind: regular files that match its patterns, copied while their digests, and those of their chunks, are computed.

A job chooses every name and every file type in its directory. Each step of a path is opened below the step before with O_NOFOLLOW, a file is
looked at after it was opened, and it is copied, never linked or moved: neither a symbolic link, a FIFO, a device, a hard link, nor a file that
grows while it is read leads anywhere or costs more than the limits say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from dms_proto.data.chunks import Hashing
from dms_proto.errors import UserError
from dms_proto.globs import is_match
from dms_proto.ids import Digest
from dms_proto.rules import MAX_PATH
from dms_proto.units import GIB, format_bytes, format_count
from dms_proto.work import Output

_CHUNK: Final = 1024 * 1024
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a FIFO put in the place of a file would make the open wait for ever.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MAX_DEPTH: Final = 64


class OutputLimits(msgspec.Struct, frozen=True):
    """Most that is brought home.

    Attributes:
        files: how many.
        file_bytes: size of one, as read (a sparse file counts its holes).
        total_bytes: of all together.
        entries: directory entries looked at.
    """

    files: int = 1000
    file_bytes: int = 4 * GIB
    total_bytes: int = 16 * GIB
    entries: int = 100_000


DEFAULT_LIMITS: Final = OutputLimits()


def collect(directory: Path, patterns: Sequence[str], limits: OutputLimits = DEFAULT_LIMITS) -> list[tuple[str, int]]:
    """Regular files below `directory` that match a pattern, as (path, size), in order of path.

    A pattern is a glob relative to the directory, as `dms_proto.globs` reads it. Anything but a regular file is passed over.

    Raises:
        UserError: `bad_job`: more files or bytes than the limits allow.
    """
    if not patterns:
        return []
    found: list[tuple[str, int]] = []
    for path, size in _regular_files(directory, limits):
        if any(is_match(path, pattern) for pattern in patterns):
            found.append((path, size))
            _check(len(path) <= MAX_PATH, f"the path of output {path[:100]!r}… has more than {MAX_PATH} characters")
            _check(len(found) <= limits.files, f"more than {limits.files} output files")
            _check(
                size <= limits.file_bytes,
                f"output {path!r} has {format_count(size, 'byte')}, the limit is {limits.file_bytes}",
            )
    total = sum(size for _, size in found)
    _check(
        total <= limits.total_bytes,
        f"outputs have {format_count(total, 'byte')} together, the limit is {limits.total_bytes}",
    )
    return sorted(found)


def why_too_much(outputs: Sequence[Output], limits: OutputLimits = DEFAULT_LIMITS) -> str:
    """Why no node that keeps to the limits brings these home, in words; empty where one may. For whoever is to fetch them from there."""
    total = sum(output.size for output in outputs)
    largest = max((output.size for output in outputs), default=0)
    if len(outputs) <= limits.files and largest <= limits.file_bytes and total <= limits.total_bytes:
        return ""
    what = f"{format_count(len(outputs), 'output')} of {format_bytes(total)}, the largest of {format_bytes(largest)}"
    most = f"{limits.files}, of {format_bytes(limits.total_bytes)} and {format_bytes(limits.file_bytes)}"
    return f"it says that it has {what}; {most}, are the most that are brought home"


def copy(directory: Path, path: str, into: Path, limits: OutputLimits = DEFAULT_LIMITS) -> Output:
    """Copies one collected file to `into`/HEX-OF-DIGEST, puts the list of its chunks beside it if it is large, and says what it is.

    Raises:
        UserError: `bad_job`: it is no regular file any more, or larger than the limits.
        OSError: `into` cannot be written.
    """
    source = _open_file(directory, path)
    partial = into / f".{os.getpid()}-{source}.part"
    try:
        _check(stat.S_ISREG(os.fstat(source).st_mode), f"output {path!r} is not a regular file")
        hashing = _copy_bytes(source, partial, path, limits)
        content = hashing.content()
        partial.replace(copied(into, content.digest))
        if content.chunks:
            copied(into, content.chunks).write_bytes(hashing.chunk_list())
        return Output(path, content.digest, content.size, content.chunks)
    finally:
        os.close(source)
        partial.unlink(missing_ok=True)


def copied(into: Path, digest: Digest) -> Path:
    """Where `copy` puts a content, or the list of its chunks."""
    return into / digest.removeprefix("sha256:")


def collect_into(
    directory: Path, patterns: Sequence[str], into: Path, limits: OutputLimits = DEFAULT_LIMITS
) -> list[Output]:
    """`collect`, then `copy` of each file. Blocking: call it in a thread.

    Raises:
        UserError: `bad_job`: the limits were exceeded.
        OSError: `into` cannot be written.
    """
    into.mkdir(parents=True, exist_ok=True)
    return [copy(directory, path, into, limits) for path, _ in collect(directory, patterns, limits)]


def _copy_bytes(source: int, target: Path, path: str, limits: OutputLimits) -> Hashing:
    hashing, size = Hashing(), 0
    with target.open("xb") as file:
        while chunk := os.read(source, _CHUNK):
            size += len(chunk)
            _check(
                size <= limits.file_bytes, f"output {path!r} has more than {format_count(limits.file_bytes, 'byte')}"
            )
            hashing.update(chunk)
            file.write(chunk)
    return hashing


def _regular_files(directory: Path, limits: OutputLimits) -> Iterator[tuple[str, int]]:
    pending, entries = [""], 0
    while pending:
        prefix = pending.pop()
        try:
            fd = _walk_to(directory, PurePosixPath(prefix).parts)
        except OSError:
            continue
        try:
            with os.scandir(fd) as listing:
                for entry in listing:
                    entries += 1
                    _check(entries <= limits.entries, f"more than {limits.entries} entries in the job's directory")
                    status = entry.stat(follow_symlinks=False)
                    path = f"{prefix}/{entry.name}" if prefix else entry.name
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(path)
                    elif stat.S_ISREG(status.st_mode) and _is_text(path):
                        yield path, status.st_size
        finally:
            os.close(fd)


def _open_file(directory: Path, path: str) -> int:
    parts = PurePosixPath(path).parts
    try:
        parent = _walk_to(directory, parts[:-1])
        try:
            return os.open(parts[-1], _FILE, dir_fd=parent)
        finally:
            os.close(parent)
    except OSError as error:
        raise UserError("bad_job", f"output {path!r} cannot be read: {error.strerror}") from error


def _walk_to(directory: Path, parts: Sequence[str]) -> int:
    """Opens the directory `parts` below `directory`, no step of which may be a link.

    Raises:
        OSError: a step is missing, a link or no directory; or there are too many.
    """
    if len(parts) > _MAX_DEPTH or ".." in parts:
        raise OSError(f"too deep: {format_count(len(parts), 'level')}")
    fd = os.open(directory, _DIRECTORY)
    for part in parts:
        try:
            below = os.open(part, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _is_text(path: str) -> bool:
    """File names are bytes; one that is not UTF-8 cannot be named in a message, and is passed over."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError("bad_job", message)
