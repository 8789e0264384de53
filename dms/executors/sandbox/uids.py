"""The users that jobs run as when the node is root: one user id per run, derived from the run's name, so that nothing has to be remembered or locked.

A job that is host root inside its user namespace owns the host's /proc/sys; and two jobs under one user could signal and trace each other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from dms.executors.settings import ExecutorSettings

VAST: Final = (0x7000_0000, 0x0FFF_0000)
"""Between the ids systemd gives to containers and 2^31: documented as unused (systemd, "Users, Groups, UIDs and GIDs on systemd systems")."""
SMALL: Final = (61_184, 4_336)
"""systemd's range for dynamic users, which exists inside containers that map 65,536 ids only."""


class UidRange(msgspec.Struct, frozen=True):
    """User ids from `first`, `count` of them, of which no one else uses any."""

    first: int
    count: int

    def of(self, name: str, home: Path) -> int:
        """The user of one run of the node with that home. Two runs at once share one with a probability of one in `count`."""
        digest = hashlib.sha256(f"{home}\0{name}".encode()).digest()
        return self.first + int.from_bytes(digest[:8]) % self.count


def choose(settings: ExecutorSettings, uid_map: str) -> UidRange:
    """The configured range, or the first known one that exists here.

    Args:
        settings: may name a range.
        uid_map: content of /proc/self/uid_map: lines of (first inside, first outside, count).
    """
    if settings.first_uid and settings.uid_count:
        return UidRange(settings.first_uid, settings.uid_count)
    mapped = [(int(first), int(count)) for first, _, count in (line.split() for line in uid_map.splitlines())]
    for first, count in (VAST, SMALL):
        if any(start <= first and first + count <= start + length for start, length in mapped):
            return UidRange(first, count)
    return UidRange(65_534, 1)
