"""A content in chunks of one size, and the list of their digests: bytes that are wrong are found at their chunk."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from dms_proto.ids import Digest, digest_of
from dms_proto.units import KIB, MIB, format_count

CHUNK_BYTES: Final = 256 * KIB
"""Size of each chunk but the last, which may be shorter. What a cut connection leaves of a chunk is sent again: a small part of a large content."""
LISTED_FROM: Final = 4 * MIB
"""A content of more bytes has a list. For a smaller one the list would cost a round trip, and wrong bytes are found soon enough."""
DIGEST_BYTES: Final = 32
"""SHA-256 as it stands in a list."""
NO_LIST: Final = Digest("")
"""In place of a list's digest, where there is none."""


class Content(msgspec.Struct, frozen=True):
    """What some bytes are.

    Attributes:
        digest: of all of them.
        size: bytes.
        chunks: digest of the list of its chunks' digests, or `NO_LIST`.
    """

    digest: Digest
    size: int
    chunks: Digest = NO_LIST


def chunks_in(size: int) -> int:
    """How many chunks a content of `size` bytes has."""
    return -(-size // CHUNK_BYTES)


def list_bytes(size: int) -> int:
    """How many bytes the list of a content of `size` bytes has."""
    return chunks_in(size) * DIGEST_BYTES


class ChunkList:
    """Which chunks a content has.

    Args:
        digests: of each chunk, one after the other.
        size: bytes of the content.

    Raises:
        ValueError: there are more or fewer digests than chunks.
    """

    def __init__(self, digests: bytes, size: int) -> None:
        if len(digests) != list_bytes(size):
            what = f"{format_count(chunks_in(size), 'chunk')}, its list has {format_count(len(digests), 'byte')}"
            raise ValueError(f"a content of {format_count(size, 'byte')} has {what}")
        self._digests = digests
        self.size = size

    def __len__(self) -> int:
        return len(self._digests) // DIGEST_BYTES

    def place(self, index: int) -> tuple[int, int]:
        """Where a chunk begins and ends, in bytes of the content."""
        return index * CHUNK_BYTES, min((index + 1) * CHUNK_BYTES, self.size)

    def is_right(self, index: int, digest: bytes) -> bool:
        """Whether the chunk `index` has this digest."""
        return self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES] == digest


class Hashing:
    """Takes the bytes of a content, in order, and says what they are."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._size = 0
        self._digests = bytearray()

    def update(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        self._whole.update(data)
        rest = memoryview(data)
        while rest:
            part = rest[: CHUNK_BYTES - self._size % CHUNK_BYTES]
            self._chunk.update(part)
            self._size += len(part)
            rest = rest[len(part) :]
            if self._size % CHUNK_BYTES == 0:
                self._end_chunk()

    def _end_chunk(self) -> None:
        self._digests += self._chunk.digest()
        self._chunk = hashlib.sha256()

    def chunk_list(self) -> bytes:
        """The list of the chunks so far; of use once all bytes were given."""
        return bytes(self._digests) + (self._chunk.digest() if self._size % CHUNK_BYTES else b"")

    def content(self) -> Content:
        """What the bytes so far are."""
        chunks = digest_of(self.chunk_list()) if self._size > LISTED_FROM else NO_LIST
        return Content(Digest("sha256:" + self._whole.hexdigest()), self._size, chunks)
