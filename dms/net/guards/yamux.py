"""A yamux connection (hashicorp/yamux specification) whose frames cannot be torn and whose memory the peer cannot fill.

Stock faults: a peer that ignores its window makes us buffer everything it sends (+300 MB seen); a cancelled ``write`` or ``new_stream``
kills the connection; writes of a peer that reads nothing hang for ever; one request and answer takes 46 task switches and 104 locks.

Remedy: all state changes are plain calls without an ``await``: frames are appended to one buffer, sealed and handed to the socket in the
same step, so no cancellation and no second task can come between. What the socket does not take at once is sent by one task, with a limit
on how long it may take nothing. A frame beyond the window, an unknown type, a wrong stream number or too many unanswered control frames
end the connection. One read of the socket is answered by one write.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamError
from multiaddr import Multiaddr

from dms.net.guards.secure_wire import SecureWire, WireError
from dms.net.guards.yamux_stream import SafeStream
from dms_proto.units import format_count

PROTOCOL_ID: Final = "/yamux/1.0.0"
MAX_INBOUND_STREAMS: Final = 256
"""Streams a peer may have open; further ones are reset."""
MAX_UNREAD: Final = 4 * 1024 * 1024
"""Bytes that may wait unread in all streams a peer opened: their windows together would be 64 MiB."""
MAX_OUTBOUND_STREAMS: Final = 1024
MAX_ANNOUNCED: Final = 16 * 1024 * 1024
"""Longest frame body for a stream that is already gone; other bodies are bounded by the window."""
SEND_HIGH: Final = 128 * 1024
"""Bytes waiting for the socket above which `wait_room` waits: what a bulk transfer may put before a frame."""
CONTROL_LIMIT: Final = 2 * 1024 * 1024
"""Bytes waiting for the socket above which the peer is taken to provoke answers it does not read; data never gets there."""
HALF_CLOSED_S: Final = 30.0
"""Seconds after which a stream that we ended, and the peer did not, may be reset to make room."""
READ_SIZE: Final = 128 * 1024
GOODBYE: Final = "the peer said goodbye"
"""`SafeYamux.close_reason` after an orderly end."""

_HEADER: Final = struct.Struct(">BBHII")
_DATA, _WINDOW, _PING, _GO_AWAY = 0, 1, 2, 3
_SYN, _ACK, _FIN, _RST = 1, 2, 4, 8


class ProtocolError(Exception):
    """The peer broke the multiplexer's rules. `kind` is the counter it goes under."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class YamuxHooks:
    """What the owner wants to know. The defaults do nothing; tests use them as they are.

    Attributes:
        stall_s: seconds the socket may take nothing.
    """

    stall_s: float = 30.0

    def after_read(self) -> None:
        """One read from the socket was worked off."""

    def refused(self, kind: str, peer: str, detail: str) -> None:
        """The connection is closed because the peer broke a rule."""

    def crashed(self, where: str, error: BaseException) -> None:
        """A defect of ours was contained; the connection is closed."""


class SafeYamux(IMuxedConn):
    """A multiplexed connection with one peer. Lives on the trio thread.

    Attributes:
        peer_id: proven by the handshake.
        event_started, event_closed: set once.
        close_reason: why it ended; empty while open.
    """

    def __init__(
        self,
        conn: ISecureConn,
        peer_id: ID,
        is_initiator: bool | None = None,
        on_close: Callable[[], Awaitable[Any]] | None = None,
        hooks: YamuxHooks | None = None,
    ) -> None:
        self.secured_conn = conn
        self.peer_id = peer_id
        self.on_close = on_close  # set by libp2p, not needed: the end of accept_stream tells it
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.close_reason = ""
        self.last_received = trio.current_time()
        self.streams: dict[int, SafeStream] = {}
        self._hooks = hooks or YamuxHooks()
        self._initiator = conn.is_initiator if is_initiator is None else is_initiator
        self._next_id = 1 if self._initiator else 2
        self._inbound = 0
        self._unread = 0
        self._wire = SecureWire(conn)
        self._socket = self._wire.stream.socket
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._sealed = memoryview(b"")
        self._blocked = trio.Event()
        self._room = trio.Event()
        self._partial = b""
        self._body_left = 0
        self._body_stream: SafeStream | None = None
        self._body_flags = 0
        self._new_streams, self._accept = trio.open_memory_channel[SafeStream](MAX_INBOUND_STREAMS)

    # -------------------------------------------------------------------------------- its life, as IMuxedConn has it

    @property
    def is_initiator(self) -> bool:
        """Whether we dialled."""
        return self._initiator

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self.event_closed.is_set()

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened."""
        return self.event_started.is_set() and not self.is_closed

    async def start(self) -> None:
        """Reads until the connection ends. Never raises for what the peer does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_blocked)
            self.event_started.set()
            await self._read_until_end()
            nursery.cancel_scope.cancel()

    async def close(self) -> None:
        """Says goodbye as far as the socket takes it at once, and closes."""
        if not self.is_closed:
            self._append(_HEADER.pack(0, _GO_AWAY, 0, 0, 0))
            self.flush()
            self.shut("closed here")
        await trio.lowlevel.checkpoint_if_cancelled()

    def shut(self, reason: str) -> None:
        """Ends the connection now; all its streams break. Idempotent."""
        if self.is_closed:
            return
        self.close_reason = reason
        self.event_closed.set()
        self._new_streams.close()
        self._socket.close()
        self._room.set()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.ended(reset=True)

    async def open_stream(self) -> SafeStream:
        """A new stream. Never waits, so cancelling it cannot lose one.

        Raises:
            MuxedStreamError: the connection is over, or too many streams are open.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.is_closed:
            raise MuxedStreamError("connection closed")
        if len(self.streams) - self._inbound >= MAX_OUTBOUND_STREAMS:
            raise MuxedStreamError(f"more than {MAX_OUTBOUND_STREAMS} streams open")
        stream = SafeStream(self._next_id, self)
        self._next_id += 2
        self.streams[stream.stream_id] = stream
        self._append(_HEADER.pack(0, _WINDOW, _SYN, stream.stream_id, 0))
        self.flush()
        return stream

    async def accept_stream(self) -> SafeStream:
        """The next stream the peer opened.

        Raises:
            MuxedConnUnavailable: the connection is over.
        """
        try:
            return await self._accept.receive()
        except trio.EndOfChannel:
            raise MuxedConnUnavailable(self.close_reason) from None

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The peer's end of the TCP connection."""
        addresses: list[Multiaddr] = self.secured_conn.get_transport_addresses()
        return addresses

    def get_connection_type(self) -> ConnectionType:
        """Direct, always."""
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        """IP address and port of the peer."""
        return self.secured_conn.get_remote_address()

    # ------------------------------------------------------------------------------------------------------- sending

    def send_data(self, stream_id: int, data: memoryview) -> None:
        """Appends a data frame; the stream has counted it against its window."""
        self._append(_HEADER.pack(0, _DATA, 0, stream_id, len(data)))
        self._append(bytes(data))

    def send_window(self, stream_id: int, size: int) -> None:
        """Appends a window update."""
        self._append(_HEADER.pack(0, _WINDOW, 0, stream_id, size))

    def send_end(self, stream_id: int) -> None:
        """Appends the end of our side of a stream."""
        self._append(_HEADER.pack(0, _WINDOW, _FIN, stream_id, 0))

    def send_reset(self, stream_id: int) -> None:
        """Appends the reset of a stream."""
        self._append(_HEADER.pack(0, _WINDOW, _RST, stream_id, 0))

    @property
    def waiting(self) -> int:
        """Bytes that the socket did not take yet."""
        return self._waiting_size + len(self._sealed)

    def count_unread(self, stream_id: int, size: int) -> None:
        """Bytes arrived in a stream (or, negative, were read).

        Raises:
            ProtocolError: too many wait in the streams the peer opened.
        """
        if self._is_inbound(stream_id):
            self._unread += size
            if self._unread > MAX_UNREAD and size > 0:
                raise ProtocolError(
                    "refused.window", f"{format_count(self._unread, 'byte')} unread in the peer's streams"
                )

    def forget(self, stream_id: int) -> None:
        """Drops a stream that is over in both directions."""
        if self.streams.pop(stream_id, None) is not None and self._is_inbound(stream_id):
            self._inbound -= 1

    def flush(self) -> None:
        """Hands what was appended to the socket, as far as it takes it now; the rest follows when it can."""
        while not self.is_closed and (self._sealed or self._waiting):
            if not self._sealed:
                plaintext = b"".join(self._waiting)
                self._waiting.clear()
                self._waiting_size = 0
                self._sealed = memoryview(self._wire.seal(plaintext))
            try:
                sent = os.write(self._socket.fileno(), self._sealed)
            except BlockingIOError:
                self._blocked.set()
                return
            except OSError as error:
                self.shut(f"lost: {error}")
                return
            self._sealed = self._sealed[sent:]

    async def wait_room(self) -> None:
        """For bulk: returns once little enough waits for the socket, and lets other tasks go first."""
        await trio.lowlevel.checkpoint()
        while not self.is_closed and self.waiting > SEND_HIGH:
            if self._room.is_set():  # else others wait for it already
                self._room = trio.Event()
            await self._room.wait()

    def _append(self, data: bytes) -> None:
        if self.is_closed:
            return
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size > CONTROL_LIMIT:
            self._refuse(
                "refused.stalled",
                f"{format_count(self._waiting_size, 'byte waits', 'bytes wait')} and the peer reads nothing",
            )

    async def _write_blocked(self) -> None:
        """Sends what the socket did not take at once."""
        while True:
            await self._blocked.wait()
            self._blocked = trio.Event()
            with trio.move_on_after(self._hooks.stall_s) as patience:
                try:
                    await trio.lowlevel.wait_writable(self._socket.fileno())
                except (OSError, trio.ClosedResourceError):
                    return
            if patience.cancelled_caught:
                self._refuse("refused.stalled", f"took nothing for {self._hooks.stall_s:.0f} s")
                return
            self.flush()
            if self.waiting <= SEND_HIGH:
                self._tell_room()

    def _tell_room(self) -> None:
        """Frames first: their streams continue in this step, bulk when its task is next."""
        for stream in [stream for stream in self.streams.values() if stream.wants_room]:
            stream.wants_room = False
            stream.changed()
        self._room.set()

    # ----------------------------------------------------------------------------------------------------- receiving

    async def _read_until_end(self) -> None:
        try:
            if self._wire.leftover:
                self._feed(self._wire.leftover)
                self.flush()
            while not self.is_closed:
                data = await self._wire.stream.receive_some(READ_SIZE)
                if not data:
                    self.shut("the peer vanished")
                    break
                self.last_received = trio.current_time()
                self._feed(self._wire.open(bytes(data)))
                self.flush()
                self._hooks.after_read()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.shut(f"lost: {error}")
        except WireError as error:
            self._refuse("refused.muxer", f"not authentic: {error}")
        except ProtocolError as error:
            self._refuse(error.kind, str(error))
        except Exception as error:  # noqa: BLE001 - the process edge: a defect may cost this connection, never the process
            self._hooks.crashed("yamux", error)
            self.shut("defect")
        finally:
            self.shut("reader ended")
            self._hooks.after_read()

    def _refuse(self, kind: str, detail: str) -> None:
        if not self.is_closed:
            self._hooks.refused(kind, self.peer_id.to_base58(), detail)
            self.shut(f"refused: {detail}")

    def _feed(self, data: bytes) -> None:
        view = memoryview(self._partial + data if self._partial else data)
        position, end = 0, len(view)
        while not self.is_closed:
            position = self._take_body(view, position)
            if self._body_left or end - position < _HEADER.size:
                break
            self._on_header(*_HEADER.unpack_from(view, position))
            position += _HEADER.size
        self._partial = bytes(view[position:])

    def _take_body(self, view: memoryview, position: int) -> int:
        """Gives what belongs to the frame body under way to its stream; the position after it."""
        size = min(self._body_left, len(view) - position)
        stream = self._body_stream
        self._body_left -= size
        if stream is not None:
            stream.arrived(view[position : position + size])
            if self._body_left == 0:
                self._body_stream = None
                self._apply_flags(stream, self._body_flags)
            if size:
                stream.changed()
        return position + size

    def _on_header(self, version: int, kind: int, flags: int, stream_id: int, length: int) -> None:
        if version != 0 or kind > _GO_AWAY:
            raise ProtocolError("refused.muxer", f"frame of version {version} and type {kind}")
        if kind == _PING:
            if flags & _SYN:
                self._append(_HEADER.pack(0, _PING, _ACK, 0, length))
            return
        if kind == _GO_AWAY:
            self.shut(GOODBYE)
            return
        stream = self._admit(stream_id) if flags & _SYN else self.streams.get(stream_id)
        if kind == _DATA:
            self._begin_body(stream, flags, length)
        elif stream is not None:
            stream.send_left += length
            self._apply_flags(stream, flags)
            if not flags & (_FIN | _RST):
                stream.changed()

    def _begin_body(self, stream: SafeStream | None, flags: int, length: int) -> None:
        if stream is None:
            if length > MAX_ANNOUNCED:
                raise ProtocolError(
                    "refused.window", f"{format_count(length, 'byte')} announced for a stream that is gone"
                )
        elif length > stream.receive_left:
            raise ProtocolError(
                "refused.window", f"{format_count(length, 'byte')} announced, {stream.receive_left} allowed"
            )
        elif stream.received_end and length:
            raise ProtocolError("refused.muxer", "data after the end of a stream")
        else:
            stream.receive_left -= length
        self._body_left, self._body_stream, self._body_flags = length, stream, flags & (_FIN | _RST)

    def _apply_flags(self, stream: SafeStream, flags: int) -> None:
        if flags & _RST:
            self.forget(stream.stream_id)
            stream.ended(reset=True)
        elif flags & _FIN:
            if stream.sent_end:
                self.forget(stream.stream_id)
            stream.ended(reset=False)

    def _admit(self, stream_id: int) -> SafeStream | None:
        """Takes in a stream the peer opens, or resets it."""
        if not self._is_inbound(stream_id) or stream_id == 0 or stream_id in self.streams:
            raise ProtocolError("refused.muxer", f"the peer opens stream {stream_id}")
        if self._inbound >= MAX_INBOUND_STREAMS:
            self._reclaim()
        stream = SafeStream(stream_id, self)
        try:
            if self._inbound >= MAX_INBOUND_STREAMS:
                raise trio.WouldBlock
            self._new_streams.send_nowait(stream)
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            self.send_reset(stream_id)
            return None
        self.streams[stream_id] = stream
        self._inbound += 1
        self._append(_HEADER.pack(0, _WINDOW, _ACK, stream_id, 0))
        return stream

    def _reclaim(self) -> None:
        """Resets inbound streams that we ended long ago and the peer never did."""
        before = trio.current_time() - HALF_CLOSED_S
        for stream in [s for s in self.streams.values() if s.sent_end and s.since_end < before]:
            stream.break_off()

    def _is_inbound(self, stream_id: int) -> bool:
        return (stream_id % 2 == 1) != self._initiator


def connection_under(connection: SwarmConn) -> SafeYamux:
    """The connection below libp2p's bookkeeping."""
    assert isinstance(connection.muxed_conn, SafeYamux)
    return connection.muxed_conn
