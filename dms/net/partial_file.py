"""A content that arrives in chunks, in whatever order, in a file of its own until it is whole. Everything here blocks on the disk.

A chunk is written when it is right, and nothing else is: what the file has is found by its digests, after any crash.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from dms_proto.data.chunks import ChunkList


class PartialFile:
    """One of them. Several threads may keep chunks at once.

    Args:
        path: of the file, which may be there already.
        digest: of the content.
        chunks: of the content.
    """

    def __init__(self, path: Path, digest: str, chunks: ChunkList) -> None:
        self._path = path
        self._digest = digest
        self.chunks = chunks

    def missing(self) -> list[int]:
        """The chunks that are not here."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            return list(range(len(self.chunks)))
        with self._path.open("rb") as file:
            read = (file.read(end - start) for start, end in map(self.chunks.place, range(len(self.chunks))))
            return [index for index, data in enumerate(read) if not self._is_right(index, data)]

    def keep(self, index: int, chunk: bytes) -> bool:
        """Writes a chunk where it belongs, and is True, if it is right."""
        if not self._is_right(index, chunk):
            return False
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            offset, rest = self.chunks.place(index)[0], memoryview(chunk)
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                offset, rest = offset + written, rest[written:]
        finally:
            os.close(descriptor)
        return True

    def finish(self, into: Path) -> bool:
        """Puts the content in place, now that nothing is missing. False, and nothing is kept, if it is another content with these chunks."""
        self._path.touch(0o600)  # of nothing, no chunk was ever written
        os.truncate(self._path, self.chunks.size)
        with self._path.open("rb") as file:
            is_right = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == self._digest
        if is_right:
            self._path.replace(into)
        else:
            self._path.unlink()
        return is_right

    def _is_right(self, index: int, chunk: bytes) -> bool:
        return self.chunks.is_right(index, hashlib.sha256(chunk).digest())
