"""Logs of allocations, byte-exact and in order, one file per stream, on both sides of an allocation.

The provider appends what the program writes and sends it on at once; the requester mirrors it. Bytes travel once, unacknowledged; a gap at
the requester (a cut, a full queue, a restart) shows as an offset beyond the end of its mirror, and is asked for again by offset. What comes after a
gap is kept meanwhile, at its place in the file, so that the last words of a job are there even if its provider dies before the gap is filled.

::

    ID.stdout, ID.stderr   the bytes        ID.reach   which of them are there: `log_reach`        ID.times   when they came: `log_times`

Each stream is hashed as it grows. Of a file that was there before this process, and of the beginning of one, the digest is read from the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from dms.node.log_reach import Reach, ReachFile
from dms.node.log_times import LogTimes
from dms_proto.ids import AllocationId, Digest
from dms_proto.work import Logs

STREAMS: Final = ("stdout", "stderr")
OPEN_FILES: Final = 64
"""Files kept open; the least recently written is closed first."""
PIECE: Final = 1024 * 1024
"""Bytes read at once for a digest."""
_EMPTY: Final = Digest("")


class _Hash(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> None:
        """Takes more bytes in."""

    def hexdigest(self) -> str:
        """Of all bytes so far."""


class Piece(NamedTuple):
    """Bytes of a log that follow one another.

    Attributes:
        data: they.
        offset: of the first.
        missing: bytes just before, or at the end, that were written and did not arrive here.
    """

    data: bytes
    offset: int
    missing: int = 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class LogStore:
    """Log files below one directory. Lives on the loop."""

    def __init__(self, root: Path, clock: Callable[[], int] = _now_ms) -> None:
        self._root = root
        self._open: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._reaches = ReachFile(root)
        self._times = LogTimes(root, clock)
        self._hashes: dict[tuple[str, str], _Hash] = {}
        """Of the streams that this process has seen from their first byte on."""
        self._grown: dict[str, asyncio.Event] = {}
        self._listeners: dict[str, Callable[[str, int, int], None]] = {}

    def append(self, allocation_id: AllocationId, stream: str, offset: int, data: bytes) -> bool:
        """Adds bytes at `offset`. What is there already is passed over; False: there is a gap before `offset`, and what follows it is kept.

        Without data it says that the stream has got as far as `offset`.
        """
        reach = self._reaches.get(allocation_id, stream)
        if offset > reach.length:
            reach = reach.beyond(offset, len(data))
            self._reaches.set(allocation_id, stream, reach)
            if data and offset >= reach.tail_start:
                os.pwrite(self._file(allocation_id, stream), data, offset)
            return False
        fresh = data[reach.length - offset :]
        if fresh:
            self._times.note(allocation_id, self.lengths(allocation_id))
            fresh = fresh[
                : os.pwrite(self._file(allocation_id, stream), fresh, reach.length)
            ]  # a full disk takes a part
            self._grow(allocation_id, stream, reach, fresh)
        return True

    def _grow(self, allocation_id: AllocationId, stream: str, reach: Reach, fresh: bytes) -> None:
        key, length = (allocation_id, stream), reach.length
        if not length:
            self._hashes[key] = hashlib.sha256()
        grown = reach.grown(len(fresh))
        if grown.length > length + len(fresh):
            self._hashes.pop(key, None)  # what came before its turn was not hashed
        elif key in self._hashes:
            self._hashes[key].update(fresh)
        self._reaches.set(allocation_id, stream, grown)
        listener = self._listeners.get(allocation_id)
        if listener is not None:
            listener(stream, length, grown.length - length)
        event = self._grown.pop(allocation_id, None)
        if event is not None:
            event.set()

    def length(self, allocation_id: AllocationId, stream: str) -> int:
        """Bytes there are, without a gap from the first on."""
        return self._reaches.get(allocation_id, stream).length

    def end(self, allocation_id: AllocationId, stream: str) -> int:
        """The byte after the last that is there, also beyond a gap."""
        return self._reaches.get(allocation_id, stream).end

    def written(self, allocation_id: AllocationId, stream: str) -> int:
        """Bytes that were written, as far as that is known here."""
        reach = self._reaches.get(allocation_id, stream)
        return max(reach.end, reach.said)

    def lengths(self, allocation_id: AllocationId) -> tuple[int, int]:
        """Bytes of stdout and of stderr."""
        return self.length(allocation_id, "stdout"), self.length(allocation_id, "stderr")

    def known(self, allocation_id: AllocationId, lengths: tuple[int, int]) -> tuple[Digest, Digest] | None:
        """The digests of the first so many bytes of both streams, if they are known without reading them."""
        known = [self._known(allocation_id, stream, length) for stream, length in zip(STREAMS, lengths, strict=True)]
        return (known[0], known[1]) if known[0] is not None and known[1] is not None else None

    async def digests(self, allocation_id: AllocationId, lengths: tuple[int, int]) -> tuple[Digest, Digest]:
        """The digests of the first so many bytes of both streams, or of all there are if these are fewer."""
        known = self.known(allocation_id, lengths)
        return known if known is not None else await asyncio.to_thread(self._read_all, allocation_id, lengths)

    async def logs(self, allocation_id: AllocationId) -> Logs:
        """All that there is now."""
        lengths = self.lengths(allocation_id)
        return Logs(lengths, await self.digests(allocation_id, lengths))

    def read(self, allocation_id: AllocationId, stream: str, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset`, and none beyond a gap."""
        return self._read(allocation_id, stream, offset, min(limit, self.length(allocation_id, stream) - offset))

    def piece(self, allocation_id: AllocationId, stream: str, offset: int, limit: int) -> Piece:
        """The next bytes there are from `offset` on, also beyond a gap: of a log to which nothing is added any more."""
        reach = self._reaches.get(allocation_id, stream)
        if offset < reach.length:
            return Piece(self.read(allocation_id, stream, offset, limit), offset)
        start = max(offset, reach.tail_start)
        data = self._read(allocation_id, stream, start, min(limit, reach.tail_end - start))
        return Piece(data, start, start - offset) if data else Piece(b"", offset, max(0, reach.said - offset))

    def offset_since(self, allocation_id: AllocationId, stream: str, since: int) -> int:
        """Where what came at `since` (Unix ms) or later begins, to the second."""
        known = self._times.lengths_at(allocation_id, since)
        return self.length(allocation_id, stream) if known is None else known[STREAMS.index(stream)]

    def _read(self, allocation_id: AllocationId, stream: str, offset: int, count: int) -> bytes:
        if count <= 0:
            return b""
        with self.path(allocation_id, stream).open("rb") as file:
            file.seek(offset)
            return file.read(count)

    def holds(self, allocation_id: AllocationId) -> bool:
        """Whether there is anything of an allocation. Remembers nothing: a stranger may have made its id up."""
        return any(self.path(allocation_id, stream).exists() for stream in STREAMS)

    def listen(self, allocation_id: AllocationId, heard: Callable[[str, int, int], None]) -> None:
        """Has `heard(stream, offset, bytes)` called whenever the allocation's log grows; one listener per allocation."""
        self._listeners[allocation_id] = heard

    def unlisten(self, allocation_id: AllocationId) -> None:
        """Ends `listen`."""
        self._listeners.pop(allocation_id, None)

    def growth(self, allocation_id: AllocationId) -> asyncio.Event:
        """Set when the allocation's log next grows."""
        return self._grown.setdefault(allocation_id, asyncio.Event())

    def remove(self, allocation_id: AllocationId) -> None:
        """Forgets an allocation's logs."""
        for stream in STREAMS:
            key = (allocation_id, stream)
            file = self._open.pop(key, None)
            if file is not None:
                os.close(file)
            self._hashes.pop(key, None)
            self.path(allocation_id, stream).unlink(missing_ok=True)
        self._reaches.remove(allocation_id)
        self._times.remove(allocation_id)

    def unused_since(self, then: int) -> list[str]:
        """Allocations whose logs were not written to since `then` (Unix ms). Blocking; from any thread."""
        written: dict[str, int] = {}
        for path in self._root.iterdir() if self._root.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                written[path.stem] = max(written.get(path.stem, 0), path.stat().st_mtime_ns // 1_000_000)
        return [allocation for allocation, at in written.items() if at < then]

    def sweep(self, keep: Collection[str]) -> None:
        """Removes the logs of all allocations but these. For the start, before anything is open."""
        if self._root.is_dir():
            for path in self._root.iterdir():
                if path.stem not in keep:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _known(self, allocation_id: AllocationId, stream: str, length: int) -> Digest | None:
        if not length:
            return _EMPTY
        whole = self._hashes.get((allocation_id, stream))
        return _named(whole) if whole is not None and length == self.length(allocation_id, stream) else None

    def _read_all(self, allocation_id: AllocationId, lengths: tuple[int, int]) -> tuple[Digest, Digest]:
        """Blocking; from any thread."""
        out, err = (self.path(allocation_id, stream) for stream in STREAMS)
        return _digest_of_first(lengths[0], out), _digest_of_first(lengths[1], err)

    def _file(self, allocation_id: AllocationId, stream: str) -> int:
        key = (allocation_id, stream)
        file = self._open.get(key)
        if file is None:
            if len(self._open) >= OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            file = self._open[key] = os.open(self.path(allocation_id, stream), how, 0o666)
        self._open.move_to_end(key)
        return file

    def path(self, allocation_id: AllocationId, stream: str) -> Path:
        """Where a stream is, or would be."""
        return self._root / f"{allocation_id}.{stream}"


def _digest_of_first(length: int, path: Path) -> Digest:
    """Of the first `length` bytes of a file, or of all it has."""
    if not length or not path.exists():
        return _EMPTY
    read = hashlib.sha256()
    with path.open("rb") as file:
        while length > 0 and (piece := file.read(min(length, PIECE))):
            read.update(piece)
            length -= len(piece)
    return _named(read)


def _named(whole: _Hash) -> Digest:
    return Digest(f"sha256:{whole.hexdigest()}")
