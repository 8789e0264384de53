"""When the bytes of a log came, for who wants only what is new. To the second: one costs 24 bytes, whatever was written in it."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Final

RESOLUTION_MS: Final = 1000
_MARK: Final = struct.Struct(">QQQ")
"""When (Unix ms), and the lengths of stdout and stderr just before."""


class LogTimes:
    """Of all allocations below one directory."""

    def __init__(self, root: Path, clock: Callable[[], int]) -> None:
        self._root = root
        self._clock = clock
        self._last: dict[str, int] = {}

    def note(self, allocation_id: str, lengths: tuple[int, int]) -> None:
        """Bytes are about to be added to streams of these lengths."""
        now = self._clock()
        if 0 <= now - self._last.get(allocation_id, -RESOLUTION_MS) < RESOLUTION_MS:
            return
        self._last[allocation_id] = now
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path(allocation_id).open("ab", buffering=0) as file:
            file.write(_MARK.pack(now, *lengths))

    def lengths_at(self, allocation_id: str, since: int) -> tuple[int, int] | None:
        """The lengths from which on everything came at `since` or later, at most a second earlier; None: nothing came so late."""
        try:
            data = self._path(allocation_id).read_bytes()
        except FileNotFoundError:
            return None
        marks = list(_MARK.iter_unpack(data[: len(data) // _MARK.size * _MARK.size]))
        at = bisect_right(marks, since - RESOLUTION_MS, key=lambda mark: mark[0])
        return (marks[at][1], marks[at][2]) if at < len(marks) else None

    def remove(self, allocation_id: str) -> None:
        """Forgets an allocation."""
        self._last.pop(allocation_id, None)
        self._path(allocation_id).unlink(missing_ok=True)

    def _path(self, allocation_id: str) -> Path:
        return self._root / f"{allocation_id}.times"
