"""What a transfer of a blob is made of (`/dms/blob/1`), on either side; the conversation is in `dms.net.blobs`."""

from __future__ import annotations

import struct
from typing import Final

import msgspec
import trio

from dms.net.guards.yamux_stream import SafeStream
from dms_proto.units import format_count
from dms_proto.untrusted import read_msgpack

MAX_ITEM: Final = 128 * 1024
"""Longest item; not what `dms_proto.data.chunks` calls a chunk."""
MAX_HEAD: Final = 1024
"""Longest request, offer or refusal."""

_LENGTH: Final = struct.Struct(">I")


class Request(msgspec.Struct, frozen=True):
    """What is wanted, from which byte on, and how many bytes; length 0: to the end."""

    digest: str
    offset: int = 0
    length: int = 0


class Offer(msgspec.Struct, frozen=True):
    """The answer: `size` of the whole blob, or -1 and why not."""

    size: int
    refused: str = ""


class TransferError(Exception):
    """A transfer failed; `code` and `retryable` as told to the node."""

    def __init__(self, code: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class Reader:
    """Reads length-prefixed items, with a limit on how long nothing may come."""

    def __init__(self, stream: SafeStream, stall_s: float) -> None:
        self._stream = stream
        self._stall_s = stall_s
        self._buffer = bytearray()

    async def item(self, longest: int) -> bytes:
        """The next item.

        Raises:
            TransferError: it is too long, or nothing came for too long.
            MuxedStreamError: the stream ended before.
        """
        await self._fill(_LENGTH.size)
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > longest:
            raise TransferError(
                "bad_frame", f"{format_count(length, 'byte')} announced, {longest} are the most", retryable=False
            )
        await self._fill(_LENGTH.size + length)
        item = bytes(memoryview(self._buffer)[_LENGTH.size : _LENGTH.size + length])
        del self._buffer[: _LENGTH.size + length]
        return item

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            with trio.move_on_after(self._stall_s) as patience:
                self._buffer += await self._stream.read(MAX_ITEM)
            if patience.cancelled_caught:
                raise TransferError("peer_timeout", f"nothing came for {self._stall_s:g} s")


def item(data: bytes) -> bytes:
    """As it stands on the wire."""
    return _LENGTH.pack(len(data)) + data


def read_request(data: bytes) -> Request:
    """What a peer asks for.

    Raises:
        TransferError: it is no request.
    """
    try:
        return read_msgpack(data, Request)
    except msgspec.DecodeError as error:
        raise TransferError("bad_frame", f"not a request: {error}", retryable=False) from error


def check_offer(data: bytes, digest: str, size: int) -> None:
    """Whether a peer offers what it was asked for.

    Raises:
        TransferError: it does not.
    """
    try:
        offer = read_msgpack(data, Offer)
    except msgspec.DecodeError as error:
        raise TransferError("bad_frame", f"not an offer: {error}", retryable=False) from error
    if offer.size < 0:
        busy = offer.refused.startswith("busy")
        raise TransferError("peer_unreachable", f"{digest} refused: {offer.refused[:200]}", retryable=busy)
    if offer.size != size:
        raise TransferError(
            "digest_mismatch", f"{digest} has {format_count(size, 'byte')}, the peer has {offer.size}", retryable=False
        )
