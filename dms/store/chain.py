"""The hash chain over the events: each row's hash covers the row and the hash before it.

``hash(n) = SHA-256(hash(n - 1) || row(n))``, with 32 zero bytes before the first. ``row(n)`` is the msgpack array
``[seq, stream, version, kind, at, cause_id, form, body]``, every element in its shortest encoding; it is unambiguous because msgpack
states each length. Anyone can recompute it with any msgpack library. A changed, missing or moved row breaks the chain at that row; who
wrote down the head elsewhere (`Head`) also sees a whole history replaced.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import msgspec

GENESIS: Final = bytes(32)
"""The hash before the first event."""

_encode: Final = msgspec.msgpack.Encoder().encode


Content = tuple[int, str, int, str, int, str, int, bytes]
"""A row without its hash: seq, stream, version, kind, at, cause_id, form, body."""


class Row(NamedTuple):
    """One row of the table `events`, as stored: `body` in the `form` (schema version of its kind) it was written in."""

    seq: int
    stream: str
    version: int
    kind: str
    at: int
    cause_id: str
    form: int
    body: bytes
    hash: bytes


class Link(NamedTuple):
    """A row and the hash before it: enough to check the row's hash without the rest of the history."""

    previous: bytes
    row: Row


class Head(NamedTuple):
    """Where the history ends: the last event's `seq` (0: there is none), its `hash`, and its time `at` in Unix ms."""

    seq: int = 0
    hash: bytes = GENESIS
    at: int = 0


def link(previous: bytes, content: Content) -> bytes:
    """The hash of one row, given the hash before it (32 bytes)."""
    return hashlib.sha256(previous + _encode(content)).digest()


def follows(previous: bytes, row: Row) -> bool:
    """Whether `row` carries the hash that its content and the hash before it give."""
    return link(previous, row[:8]) == row.hash
