"""What went through a proxy, and what it refused, in a file that outlives proxy and node: a figure at its beginning, then a line for each refusal.

The figure is written in place, in memory that the file shares, and never after the bytes that it counts have gone on: who reads it when a run is over
has all of it.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final

import msgspec

from dms_proto.egress import MAX_BARRED, Barred

HEAD: Final = struct.Struct("<Q56x")
_MAX_FILE: Final = HEAD.size + MAX_BARRED * 8 * 1024


class Meter:
    """Counts for one run. The proxy's."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: of the file, appending; taken over."""
        self._file = descriptor
        os.ftruncate(descriptor, HEAD.size)
        self._map = mmap.mmap(descriptor, HEAD.size)
        self._barred: set[tuple[str, str]] = set()
        self.total = 0

    def count(self, size: int) -> None:
        """Counts bytes that are about to go on, either way."""
        self.total += size
        HEAD.pack_into(self._map, 0, self.total)

    def bar(self, barred: Barred) -> bool:
        """Writes a refusal down. False: it is there already, or there are too many."""
        key = (barred.destination, barred.why)
        if key in self._barred or len(self._barred) >= MAX_BARRED:
            return False
        self._barred.add(key)
        os.write(self._file, msgspec.json.encode(barred) + b"\n")
        return True


def read_total(descriptor: int) -> int:
    """Bytes that went through by now; 0 of an empty file."""
    head = os.pread(descriptor, HEAD.size, 0)
    return int(HEAD.unpack(head)[0]) if len(head) == HEAD.size else 0


def read_barred(descriptor: int) -> tuple[Barred, ...]:
    """The refusals by now."""
    lines = os.pread(descriptor, _MAX_FILE, HEAD.size)
    complete = lines[: lines.rfind(b"\n") + 1]
    return tuple(msgspec.json.decode(line, type=Barred) for line in complete.splitlines())
