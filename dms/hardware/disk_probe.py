"""How fast the disk under the node's home takes data: sequential durable writing, and the time of one small durable write.

Direct I/O where the file system allows it, so that the page cache is not what is measured; synced in any case.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

_CHUNK: Final = 1 << 20
_MAX_BYTES: Final = 64 << 20
_MIN_FREE: Final = 512 << 20
"""Bytes that must be free: a probe must not be what fills a disk."""
_SMALL: Final = 4096
_MAX_SYNCS: Final = 50


def measure_disk(directory: Path, seconds: float) -> tuple[float, int]:
    """(MB/s of synced sequential writing, microseconds of a 4 KiB durable write); (0, 0) where that cannot be measured.

    Args:
        directory: an existing directory on the file system in question; nothing is left there.
        seconds: for each of the two parts.
    """
    try:
        space = os.statvfs(directory)
        if space.f_bavail * space.f_frsize < _MIN_FREE:
            return 0.0, 0
        with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=directory) as scratch:
            return _sequential(Path(scratch) / "large", seconds), _small_sync_us(Path(scratch) / "small", seconds)
    except OSError:  # read-only, quota, gone: the machine has other merits
        return 0.0, 0


def _sequential(file: Path, seconds: float) -> float:
    chunk = mmap.mmap(-1, _CHUNK)  # page-aligned, as direct I/O demands
    chunk.write(os.urandom(_CHUNK))  # a file system that compresses must not win by it
    descriptor = _open_direct(file)
    try:
        start = time.perf_counter()
        written = 0
        while written < _MAX_BYTES and time.perf_counter() - start < seconds:
            written += os.write(descriptor, chunk)
        os.fsync(descriptor)
        return round(written / (time.perf_counter() - start) / 1e6, 1)
    finally:
        os.close(descriptor)
        chunk.close()


def _small_sync_us(file: Path, seconds: float) -> int:
    block = os.urandom(_SMALL)
    times: list[float] = []
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.perf_counter() + seconds
        while len(times) < _MAX_SYNCS and (not times or time.perf_counter() < end):
            start = time.perf_counter()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
    return round(statistics.median(times) * 1e6)


def _open_direct(file: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    with contextlib.suppress(OSError):  # tmpfs and some others refuse direct I/O
        return os.open(file, flags | os.O_DIRECT, 0o600)
    return os.open(file, flags, 0o600)
