"""Which bytes of a log are there: all up to a length, and, where something is missing then, a piece beyond it.

Written down only where something is missing, before the bytes themselves; otherwise, and of the piece's end, the size of a stream's file says it all.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec


class Reach(msgspec.Struct, frozen=True, array_like=True):
    """Of one stream, in bytes.

    Attributes:
        length: there from the first on.
        tail_start: first byte of the piece that came before its turn.
        tail_end: the byte after it; 0: there is none.
        said: as far as the program has written, so far as that was told.
    """

    length: int = 0
    tail_start: int = 0
    tail_end: int = 0
    said: int = 0

    @property
    def end(self) -> int:
        """The byte after the last that is there."""
        return max(self.length, self.tail_end)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.tail_end and self.said <= self.length

    @property
    def noted(self) -> tuple[bool, int, int]:
        """What of it is written down when it changes. A length that is behind costs no more than asking again."""
        return self.is_whole, self.tail_start, self.said if self.said > self.end else 0

    def grown(self, count: int) -> Reach:
        """With so many bytes more from the first on; a tail that is reached belongs to them."""
        length = self.length + count
        if not self.tail_end or length < self.tail_start:
            return msgspec.structs.replace(self, length=length)
        return Reach(max(length, self.tail_end), said=self.said)

    def beyond(self, offset: int, count: int) -> Reach:
        """With bytes that came before their turn. They lengthen the tail, or take its place: the last words are worth most."""
        end = offset + count
        said = max(self.said, end)
        if (
            not count or end <= self.tail_end or offset < self.tail_start
        ):  # the last: asked for, it comes once more in its turn
            return msgspec.structs.replace(self, said=said)
        start = self.tail_start if offset <= self.tail_end else offset
        return Reach(self.length, start, end, said)


class _Both(msgspec.Struct, frozen=True):
    stdout: Reach = Reach()
    stderr: Reach = Reach()


class ReachFile:
    """What is there of the streams of all allocations below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, _Both] = {}

    def get(self, allocation_id: str, stream: str) -> Reach:
        """Of one stream."""
        both = self._known.get(allocation_id)
        if both is None:
            both = self._known[allocation_id] = self._read(allocation_id)
        reach: Reach = getattr(both, stream)
        return reach

    def set(self, allocation_id: str, stream: str, reach: Reach) -> None:
        """What is there now, or will be in a moment."""
        before: Reach = self.get(allocation_id, stream)
        both = self._known[allocation_id] = msgspec.structs.replace(self._known[allocation_id], **{stream: reach})
        if reach.noted != before.noted:
            self._write(allocation_id, both)

    def _write(self, allocation_id: str, both: _Both) -> None:
        path = self._path(allocation_id)
        if both.stdout.is_whole and both.stderr.is_whole:
            path.unlink(missing_ok=True)
            return
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_suffix(".reach~")
        fresh.write_bytes(msgspec.msgpack.encode(both))
        fresh.replace(path)

    def remove(self, allocation_id: str) -> None:
        """Forgets an allocation."""
        self._known.pop(allocation_id, None)
        self._path(allocation_id).unlink(missing_ok=True)

    def _read(self, allocation_id: str) -> _Both:
        sizes = [self._size(allocation_id, stream) for stream in ("stdout", "stderr")]
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            both = msgspec.msgpack.decode(self._path(allocation_id).read_bytes(), type=_Both)
            return _Both(_within(both.stdout, sizes[0]), _within(both.stderr, sizes[1]))
        return _Both(Reach(sizes[0]), Reach(sizes[1]))

    def _size(self, allocation_id: str, stream: str) -> int:
        try:
            return (self._root / f"{allocation_id}.{stream}").stat().st_size
        except FileNotFoundError:
            return 0

    def _path(self, allocation_id: str) -> Path:
        return self._root / f"{allocation_id}.reach"


def _within(reach: Reach, size: int) -> Reach:
    """What a file of that size can hold of it: the process may have died between saying and writing."""
    if reach.is_whole:
        return Reach(size)
    tail = (reach.tail_start, size) if reach.tail_start and size > reach.tail_start else (0, 0)
    return Reach(min(reach.length, size), *tail, max(reach.said, size))
