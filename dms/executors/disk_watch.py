"""Notices that a job uses more disk than it may, without walking its directory all the time.

A walk is the truth but costs time in proportion to the files. Between walks the free space of the file system bounds what the job can have
written: as long as less has gone than the job has left, nobody needs to look.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from dms.executors import job_directory

PERIOD_S: Final = 2.0
"""A walk is made at least this often: somebody else may have freed what the job took."""
WALK_SHARE: Final = 20
"""Walking takes at most one part in this many of the time, unless the free space says that it is urgent."""


class DiskWatch:
    """One job's directory. `is_due` is cheap and called often; `measure` may be called in a thread."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._used = 0
        self._free = self._free_now()
        self._walked_at = time.monotonic()
        self._pause_s = PERIOD_S

    def is_due(self) -> bool:
        """Whether the job could be over its limit, or has not been looked at for long."""
        gone = self._free - self._free_now()
        return self._used + gone > self._limit or time.monotonic() - self._walked_at > self._pause_s

    def measure(self, pids: list[int]) -> int:
        """Bytes used now, with files that are deleted but open in `pids`; beyond the limit it stops counting."""
        free, before = self._free_now(), time.monotonic()
        self._used = job_directory.used_bytes(self._directory, pids, self._limit)
        self._free, self._walked_at = free, time.monotonic()
        self._pause_s = max(PERIOD_S, (self._walked_at - before) * WALK_SHARE)
        return self._used

    def _free_now(self) -> int:
        try:
            status = os.statvfs(self._directory)
        except OSError:
            return 0
        return status.f_bfree * status.f_frsize
