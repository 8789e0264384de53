"""One stream of a `SafeYamux` connection: buffers and windows, without any I/O of its own.

Stock faults answered here: a reader that pauses 5 s at a full window gets the writer's stream reset (here a slow reader only slows its
writer); two tasks writing to one stream interleave their frames (here a write is whole); a cancelled write kills the connection (here it
ends that write only); every read is answered by a window update (here one per eighth of the window).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

import trio
from libp2p.abc import IMuxedStream, INetStream
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

if TYPE_CHECKING:
    from dms.net.guards.yamux import SafeYamux

INITIAL_WINDOW: Final = 256 * 1024
"""Bytes either side may send before the first window update (yamux specification)."""
SEND_FULL: Final = 512 * 1024
"""Bytes waiting for the socket above which a stream takes no more data."""
GIVEN_BACK: Final = 8
"""Part of its window that the reader gives back at a time: seldom, and soon enough that a slow reader is not taken for one that does not read."""
MAX_CHUNK: Final = 64 * 1024 - 12
"""Payload of one frame, so that a frame with its header fits into go's and js's read buffers, and others get their turn."""


class SafeStream(IMuxedStream):
    """A two-way byte stream. Lives on the trio thread.

    Attributes:
        on_change: called, without arguments, when bytes arrived, room to write appeared, or the stream ended. It must not block. With it
            set, `take` and `write_some` are enough and no task waits.
        received_end: the peer will send nothing more (FIN), or the stream is over.
        sent_end: we will send nothing more.
        is_reset: the stream was broken off by either side or with its connection; what was not read then is gone.
        wants_room: `write_some` took less than it was given because too much waits for the socket; `on_change` tells when to go on.
    """

    __slots__ = (
        "_arrived",
        "_changed",
        "_consumed",
        "_is_counted",
        "_writing",
        "is_reset",
        "muxed_conn",
        "on_change",
        "receive_left",
        "received_end",
        "send_left",
        "sent_end",
        "since_end",
        "stream_id",
        "wants_room",
        "window",
    )
    muxed_conn: SafeYamux

    def __init__(self, stream_id: int, conn: SafeYamux) -> None:
        self.stream_id = stream_id
        self.muxed_conn = conn
        self.on_change: Callable[[], None] | None = None
        self.received_end = self.sent_end = self.is_reset = self.wants_room = False
        self.receive_left = self.window = self.send_left = INITIAL_WINDOW
        self.since_end = 0.0
        self._arrived = bytearray()
        self._consumed = 0
        self._is_counted = True
        self._changed: trio.Event | None = None
        self._writing: trio.Lock | None = None

    # ------------------------------------------------------------------------------------------------ without waiting

    @property
    def is_over(self) -> bool:
        """Nothing more will arrive and nothing can be sent."""
        return self.is_reset or (self.received_end and self.sent_end)

    def take(self, limit: int | None = None) -> bytes:
        """Bytes that arrived, at most `limit`; empty if there are none now."""
        arrived = self._arrived
        if limit is None or limit < 0 or limit >= len(arrived):
            data = bytes(arrived)
            arrived.clear()
        else:
            data = bytes(memoryview(arrived)[:limit])
            del arrived[:limit]
        self._count_unread(-len(data))
        self._give_back(len(data))
        return data

    def write_some(self, data: memoryview) -> int:
        """Sends as much as the peer's window and the socket admit now; gives the number of bytes taken. The caller flushes the connection."""
        sent = 0
        while sent < len(data) and self.send_left > 0 and not self.sent_end and not self.is_reset:
            if self.muxed_conn.waiting > SEND_FULL:
                self.muxed_conn.flush()
                if self.muxed_conn.waiting > SEND_FULL:
                    self.wants_room = True
                    break
            size = min(len(data) - sent, self.send_left, MAX_CHUNK)
            self.muxed_conn.send_data(self.stream_id, data[sent : sent + size])
            self.send_left -= size
            sent += size
        return sent

    def widen(self, window: int) -> None:
        """Lets the peer send up to `window` bytes ahead of the reader, instead of 256 KiB."""
        if window > self.window and not self.received_end and not self.is_reset:
            extra = window - self.window
            self.window = window
            self.receive_left += extra
            self.muxed_conn.send_window(self.stream_id, extra)
            self.muxed_conn.flush()

    def exempt(self) -> None:
        """Its unread bytes count no longer among those of all the peer's streams: it is one of few, and its own window bounds them."""
        self._count_unread(-len(self._arrived))
        self._is_counted = False

    def break_off(self) -> None:
        """Resets the stream without waiting."""
        if self.is_reset:
            return
        if not self.is_over:
            self.muxed_conn.send_reset(self.stream_id)
            self.muxed_conn.flush()
        self.muxed_conn.forget(self.stream_id)
        self.ended(reset=True)

    # -------------------------------------------------------------------------------------- called by the connection

    def arrived(self, data: memoryview) -> None:
        """Bytes within the window came in; the connection has checked that."""
        self._count_unread(len(data))
        self._arrived += data

    def changed(self) -> None:
        """Wakes whoever waits for this stream."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None
        if self.on_change is not None:
            self.on_change()

    def ended(self, *, reset: bool) -> None:
        """The peer ended its side, or (`reset`) the stream or its connection broke."""
        self.received_end = True
        if reset:
            self.is_reset = self.sent_end = True
            self._count_unread(-len(self._arrived))
            self._arrived.clear()
        self.changed()

    # ------------------------------------------------------------------------------- the interface libp2p's code uses

    async def read(self, n: int | None = None) -> bytes:
        """Up to `n` bytes, at least one. Cancelling loses nothing.

        Raises:
            MuxedStreamEOF: the peer ended its side.
            MuxedStreamReset: the stream or its connection broke.
        """
        if n == 0:
            return b""
        while not self._arrived:
            if self.is_reset:
                raise MuxedStreamReset("stream reset")
            if self.received_end:
                raise MuxedStreamEOF("stream ended")
            await self._wait_changed()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self.take(n)

    async def write(self, data: bytes) -> None:
        """Sends all of `data`, undivided by other writers of this stream. Cancelling leaves the connection intact.

        Raises:
            MuxedStreamClosed: our side was closed before.
            MuxedStreamReset: the stream or its connection broke.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._writing is None:
            self._writing = trio.Lock()
        async with self._writing:
            rest = memoryview(data)
            while True:
                if self.is_reset:
                    raise MuxedStreamReset("stream reset")
                if self.sent_end:
                    raise MuxedStreamClosed("stream closed for writing")
                rest = rest[self.write_some(rest[:MAX_CHUNK]) :]
                self.muxed_conn.flush()
                if not rest:
                    return
                if self.send_left == 0:
                    await self._wait_changed()
                else:
                    await self.muxed_conn.wait_room()

    async def close(self) -> None:
        """Ends our side; the peer's may go on."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.sent_end:
            return
        self.sent_end = True
        self.since_end = trio.current_time()
        self.muxed_conn.send_end(self.stream_id)
        self.muxed_conn.flush()
        if self.received_end:
            self.muxed_conn.forget(self.stream_id)

    async def reset(self) -> None:
        """Breaks the stream off in both directions."""
        self.break_off()
        await trio.lowlevel.checkpoint_if_cancelled()

    def set_deadline(self, ttl: int) -> None:
        """Not part of yamux; callers use cancel scopes."""
        raise NotImplementedError("use a cancel scope")

    def get_remote_address(self) -> tuple[str, int] | None:
        """IP address and port of the peer."""
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> Self:
        """For ``async with``; closes at the end."""
        return self

    async def _wait_changed(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def _count_unread(self, size: int) -> None:
        if self._is_counted:
            self.muxed_conn.count_unread(self.stream_id, size)

    def _give_back(self, size: int) -> None:
        self._consumed += size
        if self._consumed * GIVEN_BACK >= self.window and not self.received_end:
            self.receive_left += self._consumed
            self.muxed_conn.send_window(self.stream_id, self._consumed)
            self._consumed = 0
            self.muxed_conn.flush()


def stream_under(net_stream: INetStream) -> SafeStream:
    """The stream below libp2p's bookkeeping."""
    muxed = getattr(net_stream, "muxed_stream", None)
    assert isinstance(muxed, SafeStream)
    return muxed
