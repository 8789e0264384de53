"""Blobs: files by digest, each transfer on a stream of its own (`/dms/blob/1`), resumable, checked, never in the way of frames.

::

    fetcher                                   server
      REQUEST {digest, offset}   ──────────►
                                 ◄──────────   OFFER {size}      or   REFUSED {reason}, then the stream is closed
                                 ◄──────────   chunks of at most 128 KiB
                                 ◄──────────   an empty chunk: the end

Every item is a 4-byte big-endian length and the bytes; braces are msgpack maps. Without the empty chunk a transfer was cut, however the
stream ended. Files are read and written in worker threads. A chunk is sent only when little waits for the socket, so a frame to the same
peer waits behind at most two of them.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import struct
from collections import Counter
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol

from dms.net.bridge import Bridge
from dms.net.config import BLOB_PROTOCOL
from dms.net.guards.crashes import ENDS
from dms.net.guards.yamux_stream import SafeStream, stream_under
from dms.net.host import Host
from dms.net.pipe import AskBlob, Fetched
from dms_proto.units import format_count

CHUNK: Final = 128 * 1024
MAX_HEAD: Final = 1024
"""Longest request, offer or refusal."""
WINDOW: Final = 2 * 1024 * 1024
"""Bytes the server may send ahead: 100 ms of round trip still give 20 MB/s."""
ASK_S: Final = 10.0
"""Seconds the node may take to say which file to serve."""

_LENGTH: Final = struct.Struct(">I")

logger = logging.getLogger("dms.net.blobs")


class Request(msgspec.Struct, frozen=True):
    """What is wanted, from which byte on."""

    digest: str
    offset: int = 0


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


class Blobs:
    """Serves and fetches. Lives on the trio thread."""

    def __init__(self, host: Host, bridge: Bridge) -> None:
        self._host = host
        self._bridge = bridge
        self._stall_s = host.config.blob_stall_s
        self._serving: Counter[str] = Counter()
        self._fetching = trio.CapacityLimiter(host.config.max_blobs_fetched)
        self._asked: dict[int, tuple[trio.Event, list[str | None]]] = {}
        self._next_ask = 0
        host.set_stream_handler(TProtocol(BLOB_PROTOCOL), self._serve)

    # ----------------------------------------------------------------------------------------------------------- serving

    def on_answer(self, request: int, path: str | None) -> None:
        """The node said which file to serve."""
        if request in self._asked:
            event, answer = self._asked.pop(request)
            answer.append(path)
            event.set()

    async def _serve(self, net_stream: INetStream) -> None:
        stream = stream_under(net_stream)
        peer = stream.muxed_conn.peer_id.to_base58()
        reader = _Reader(stream, self._stall_s)
        request = msgspec.msgpack.decode(await reader.item(MAX_HEAD), type=Request)
        limit = self._host.config.max_blobs_served
        if self._serving.total() >= limit or self._serving[peer] * 2 >= limit:
            await self._refuse(stream, "busy; try again")
            return
        self._serving[peer] += 1
        try:
            path = await self._ask(peer, request.digest)
            if path is None:
                await self._refuse(stream, "not offered to you")
            else:
                await self._send_file(stream, path, request)
        finally:
            self._serving[peer] -= 1
            if not self._serving[peer]:
                del self._serving[peer]

    async def _ask(self, peer: str, digest: str) -> str | None:
        self._next_ask += 1
        request = self._next_ask
        event = trio.Event()
        answer: list[str | None] = []
        self._asked[request] = (event, answer)
        self._bridge.send(AskBlob(request, peer, digest))
        with trio.move_on_after(ASK_S):
            await event.wait()
        self._asked.pop(request, None)
        return answer[0] if answer else None

    async def _refuse(self, stream: SafeStream, why: str) -> None:
        self._host.counters.add("blobs.refused")
        await stream.write(_item(msgspec.msgpack.encode(Offer(-1, why))))
        await stream.close()

    async def _send_file(self, stream: SafeStream, path: str, request: Request) -> None:
        try:
            file = await trio.to_thread.run_sync(_open_regular, path)
        except OSError as error:
            logger.warning("blob %s cannot be read: %s", request.digest, error)
            await self._refuse(stream, "not readable")
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            if not 0 <= request.offset <= size:
                await self._refuse(stream, f"offset {request.offset} is not within {format_count(size, 'byte')}")
                return
            await stream.write(_item(msgspec.msgpack.encode(Offer(size))))
            file.seek(request.offset)
            left = size - request.offset
            while left > 0:
                chunk = await trio.to_thread.run_sync(file.read, min(CHUNK, left))
                if not chunk:
                    await stream.reset()  # the file shrank: without an end marker the fetcher knows that it has not all
                    return
                left -= len(chunk)
                await self._write(stream, _item(chunk))
        await stream.write(_item(b""))
        await stream.close()
        self._host.counters.add("blobs.served")

    async def _write(self, stream: SafeStream, data: bytes) -> None:
        with trio.move_on_after(self._stall_s) as patience:
            await stream.write(data)
        if patience.cancelled_caught:
            await stream.reset()
            raise TransferError("peer_timeout", "the peer takes nothing")

    # ---------------------------------------------------------------------------------------------------------- fetching

    async def fetch(self, request: int, peer: str, digest: str, size: int, into: str) -> None:
        """Fetches a blob and tells the node how it went."""
        try:
            async with self._fetching:
                await self._fetch(peer, digest, size, Path(into))
            self._host.counters.add("blobs.fetched")
            self._bridge.send(Fetched(request))
        except TransferError as error:
            self._bridge.send(Fetched(request, error.code, str(error), error.retryable))
        except ENDS as error:
            self._bridge.send(Fetched(request, "peer_unreachable", f"the transfer was cut: {error!r}"))
        except OSError as error:
            code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "store_failed"
            self._bridge.send(Fetched(request, code, f"{into}: {error.strerror}", retryable=False))

    async def _fetch(self, peer: str, digest: str, size: int, into: Path) -> None:
        part = into.with_name(into.name + ".part")
        hasher, offset = await trio.to_thread.run_sync(_resume, part, size)
        connections = self._host.connections(peer)
        if not connections:
            raise TransferError("peer_unreachable", f"not connected to {peer}")
        net_stream = await self._host.open_stream(connections[-1], BLOB_PROTOCOL)
        stream = stream_under(net_stream)
        try:
            stream.widen(WINDOW)
            reader = _Reader(stream, self._stall_s)
            await stream.write(_item(msgspec.msgpack.encode(Request(digest, offset))))
            _check_offer(await reader.item(MAX_HEAD), digest, size)
            await self._receive(reader, part, size - offset, hasher)
        finally:
            stream.break_off()
            connections[-1].remove_stream(net_stream)
        if f"sha256:{hasher.hexdigest()}" != digest:
            part.unlink(missing_ok=True)
            raise TransferError("digest_mismatch", f"what {peer} sent is not {digest}", retryable=False)
        part.replace(into)

    async def _receive(self, reader: _Reader, part: Path, left: int, hasher: hashlib._Hash) -> None:
        """Appends chunks to `part` until the end marker."""

        def keep(chunk: bytes) -> None:
            hasher.update(chunk)
            file.write(chunk)

        with part.open("ab", buffering=0) as file:
            while chunk := await reader.item(CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise TransferError("digest_mismatch", "the peer sends more than the blob has", retryable=False)
                await trio.to_thread.run_sync(keep, chunk)
        if left:
            raise TransferError("peer_unreachable", f"the peer ended {format_count(left, 'byte')} early")


class _Reader:
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
                self._buffer += await self._stream.read(CHUNK)
            if patience.cancelled_caught:
                raise TransferError("peer_timeout", f"nothing came for {self._stall_s:g} s")


def _item(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _check_offer(data: bytes, digest: str, size: int) -> None:
    try:
        offer = msgspec.msgpack.decode(data, type=Offer)
    except msgspec.DecodeError as error:
        raise TransferError("bad_frame", f"not an offer: {error}", retryable=False) from error
    if offer.size < 0:
        busy = offer.refused.startswith("busy")
        raise TransferError("peer_unreachable", f"{digest} refused: {offer.refused[:200]}", retryable=busy)
    if offer.size != size:
        raise TransferError(
            "digest_mismatch", f"{digest} has {format_count(size, 'byte')}, the peer has {offer.size}", retryable=False
        )


def _open_regular(path: str) -> FileIO:
    """Opens a regular file for reading, not following a link in its last part, never blocking on a FIFO."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return FileIO(descriptor, "rb")


def _resume(part: Path, size: int) -> tuple[hashlib._Hash, int]:
    """The digest so far and the length of a partial file; one that is too long is begun anew."""
    hasher = hashlib.sha256()
    part.parent.mkdir(parents=True, exist_ok=True)
    if not part.exists() or part.stat().st_size > size:
        part.unlink(missing_ok=True)
        return hasher, 0
    with part.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            hasher.update(chunk)
        return hasher, file.tell()
