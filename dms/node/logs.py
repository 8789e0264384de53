"""Logs of allocations, byte-exact and in order, one file per stream, on both sides of an allocation.

The provider appends what the program writes and sends it on at once; the requester mirrors it. Bytes travel once, unacknowledged; a gap at
the requester (a cut, a full queue, a restart) shows as an offset beyond the end of its mirror, and is asked for again by offset.

Each stream is hashed as it grows. Of a file that was there before this process, and of the beginning of one, the digest is read from the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, Final, Protocol

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


class LogStore:
    """Log files below one directory. Lives on the loop."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: OrderedDict[tuple[str, str], BinaryIO] = OrderedDict()
        self._lengths: dict[tuple[str, str], int] = {}
        self._hashes: dict[tuple[str, str], _Hash] = {}
        """Of the streams that this process has seen from their first byte on."""
        self._grown: dict[str, asyncio.Event] = {}
        self._listeners: dict[str, Callable[[str, int, int], None]] = {}

    def append(self, allocation_id: AllocationId, stream: str, offset: int, data: bytes) -> bool:
        """Adds bytes at `offset`. What is there already is passed over; False: there is a gap before `offset`."""
        length = self.length(allocation_id, stream)
        if offset > length:
            return False
        fresh = data[length - offset :]
        if fresh:
            key = (allocation_id, stream)
            fresh = fresh[: self._file(allocation_id, stream).write(fresh)]  # a full disk takes a part
            if not length:
                self._hashes[key] = hashlib.sha256()
            if key in self._hashes:
                self._hashes[key].update(fresh)
            self._lengths[key] = length + len(fresh)
            listener = self._listeners.get(allocation_id)
            if listener is not None:
                listener(stream, length, len(fresh))
            event = self._grown.pop(allocation_id, None)
            if event is not None:
                event.set()
        return True

    def length(self, allocation_id: AllocationId, stream: str) -> int:
        """Bytes there are."""
        key = (allocation_id, stream)
        if key not in self._lengths:
            path = self.path(allocation_id, stream)
            self._lengths[key] = path.stat().st_size if path.exists() else 0
        return self._lengths[key]

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
        """At most `limit` bytes from `offset`."""
        if offset >= self.length(allocation_id, stream):
            return b""
        with self.path(allocation_id, stream).open("rb") as file:
            file.seek(offset)
            return file.read(limit)

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
                file.close()
            self._lengths.pop(key, None)
            self._hashes.pop(key, None)
            self.path(allocation_id, stream).unlink(missing_ok=True)

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
            self._open.popitem()[1].close()

    def _known(self, allocation_id: AllocationId, stream: str, length: int) -> Digest | None:
        if not length:
            return _EMPTY
        whole = self._hashes.get((allocation_id, stream))
        return _named(whole) if whole is not None and length == self.length(allocation_id, stream) else None

    def _read_all(self, allocation_id: AllocationId, lengths: tuple[int, int]) -> tuple[Digest, Digest]:
        """Blocking; from any thread."""
        out, err = (self.path(allocation_id, stream) for stream in STREAMS)
        return _digest_of_first(lengths[0], out), _digest_of_first(lengths[1], err)

    def _file(self, allocation_id: AllocationId, stream: str) -> BinaryIO:
        key = (allocation_id, stream)
        file = self._open.get(key)
        if file is None:
            if len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = self._open[key] = self.path(allocation_id, stream).open("ab", buffering=0)
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
