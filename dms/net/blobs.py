"""Blobs: files by digest, each transfer on a stream of its own (`/dms/blob/1`), resumable, checked, never in the way of frames.

::

    fetcher                                   server
      REQUEST {digest, offset, length} ────►
                                 ◄──────────   OFFER {size}      or   REFUSED {reason}, then the stream is closed
                                 ◄──────────   items of at most 128 KiB
                                 ◄──────────   an empty item: the end

Every item is a 4-byte big-endian length and the bytes; braces are msgpack maps. Without the empty item a transfer was cut, however the
stream ended. Files are read and written in worker threads. An item is sent only when little waits for the socket, so a frame to the same
peer waits behind at most two of them.

A server of before knows no `length` and sends on to the end: the fetcher breaks off where it has what it asked for. This is the side that serves; the
other is `dms.net.fetching`.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Final

import msgspec
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol

from dms.net.blob_items import MAX_HEAD, MAX_ITEM, Offer, Reader, Request, TransferError, item, read_request
from dms.net.bridge import Bridge
from dms.net.config import BLOB_PROTOCOL
from dms.net.guards.yamux_stream import SafeStream, stream_under
from dms.net.host import Host
from dms.net.pipe import AskBlob
from dms.net.quotas import Quota
from dms.net.shares import Shares, TakenError
from dms_proto.units import format_count

ASK_S: Final = 10.0
"""Seconds the node may take to say which file to serve."""

logger = logging.getLogger("dms.net.blobs")


class Blobs:
    """Serves them. Lives on the trio thread."""

    def __init__(self, host: Host, bridge: Bridge) -> None:
        self._host = host
        self._bridge = bridge
        self._stall_s = host.config.blob_stall_s
        self._quota = Quota(host.config.blob_limit)
        most = host.config.max_blobs_served
        self._serving = Shares(-(-most // 2), most)
        self._asked: dict[int, tuple[trio.Event, list[str | None]]] = {}
        self._next_ask = 0
        host.set_stream_handler(TProtocol(BLOB_PROTOCOL), self._serve)

    def on_answer(self, request: int, path: str | None) -> None:
        """The node said which file to serve."""
        if request in self._asked:
            event, answer = self._asked.pop(request)
            answer.append(path)
            event.set()

    async def _serve(self, net_stream: INetStream) -> None:
        stream = stream_under(net_stream)
        peer = stream.muxed_conn.peer_id.to_base58()
        reader = Reader(stream, self._stall_s)
        try:
            asked = await reader.item(MAX_HEAD)
            with self._place(peer):
                await self._serve_one(peer, stream, read_request(asked))
        except TakenError as error:
            await self._refuse(stream, f"busy; {error}")
        except TransferError as error:
            await self._refuse(stream, str(error))

    @contextmanager
    def _place(self, peer: str) -> Iterator[None]:
        """Holds a place among those that are served.

        Raises:
            TakenError: there is none for this peer now. The node has not been told of it.
        """
        source = self._host.source(peer)
        if offence := self._quota.judge(peer, source, 0, trio.current_time()):
            self._host.blame(peer, offence)
            raise TakenError("too many are asked for at a time; try again")
        if not self._host.is_admitted(peer):
            raise TakenError("a proof of work is asked of you first")
        with self._serving.place(peer, source):
            yield

    async def _serve_one(self, peer: str, stream: SafeStream, request: Request) -> None:
        path = await self._ask(peer, request.digest)
        if path is None:
            await self._refuse(stream, "not offered to you")
        else:
            await self._send_file(stream, path, request)

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
        await stream.write(item(msgspec.msgpack.encode(Offer(-1, why))))
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
            end = request.offset + request.length if request.length else size
            if not 0 <= request.offset <= end <= size:
                where = f"bytes {request.offset} to {end} are"
                await self._refuse(stream, f"{where} not within {format_count(size, 'byte')}")
                return
            await stream.write(item(msgspec.msgpack.encode(Offer(size))))
            file.seek(request.offset)
            left = end - request.offset
            while left > 0:
                data = await trio.to_thread.run_sync(file.read, min(MAX_ITEM, left))
                if not data:
                    await stream.reset()  # the file shrank: without an end marker the fetcher knows that it has not all
                    return
                left -= len(data)
                if not await self._is_taken(stream, item(data)):
                    await stream.reset()
                    return
        await stream.write(item(b""))
        await stream.close()
        self._host.counters.add("blobs.served")

    async def _is_taken(self, stream: SafeStream, data: bytes) -> bool:
        with trio.move_on_after(self._stall_s) as patience:
            await stream.write(data)
        return not patience.cancelled_caught


def _open_regular(path: str) -> FileIO:
    """Opens a regular file for reading, not following a link in its last part, never blocking on a FIFO."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return FileIO(descriptor, "rb")
