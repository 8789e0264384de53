"""What is said on the way to a command beside a job, and back: frames of a kind and bytes. Pure.

`dms.executors.sandbox.exec_agent` says the same inside a sandbox, where nothing of this is. The kinds are described in `dms.rpc.api.execs`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from dms_proto.units import KIB, format_count

MAX_BODY: Final = 128 * KIB
_HEAD: Final = struct.Struct(">BI")
_SIZE: Final = struct.Struct(">HH")


class Kind(IntEnum):
    """What a frame is."""

    INPUT = 0
    INPUT_END = 1
    SIZE = 2
    SIGNAL = 3
    OUTPUT = 4
    ERRORS = 5
    EXIT = 6


def frame(kind: Kind, body: bytes = b"") -> bytes:
    """Its bytes; `body` has at most `MAX_BODY`."""
    return _HEAD.pack(kind, len(body)) + body


def size(rows: int, columns: int) -> bytes:
    """The frame that says how large the terminal is."""
    return frame(Kind.SIZE, _SIZE.pack(rows, columns))


class Frames:
    """Takes bytes as they come, and gives the frames in them."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The frames that are whole now. Kinds that are not known here are given too.

        Raises:
            ValueError: a frame is longer than any may be.
        """
        self._rest += data
        while len(self._rest) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._rest)
            if length > MAX_BODY:
                raise ValueError(f"a frame of {format_count(length, 'byte')}, {MAX_BODY} are the most")
            if len(self._rest) < _HEAD.size + length:
                return
            body, self._rest = self._rest[_HEAD.size : _HEAD.size + length], self._rest[_HEAD.size + length :]
            yield kind, body
