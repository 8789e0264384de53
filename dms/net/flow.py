"""The flow of one tunnel: a stream and a socket joined, with nothing between them but what the kernel and the stream's window hold.

What arrives from the peer goes into the socket in the same step, without a task's turn; only when the socket is full does a task wait, and then the
stream's window fills up and the peer waits, in this tunnel alone.

A tunnel that is served ends with what it leads to, whatever the peer does: once the other end of the socket is gone wholly, the peer has `LAST_S` to
take what was said last and to end its side.
"""

from __future__ import annotations

import select
import socket
from typing import Final

import trio

from dms.net.guards.yamux import SEND_HIGH
from dms.net.guards.yamux_stream import MAX_CHUNK, SafeStream

PIECE: Final = MAX_CHUNK
"""Bytes carried at a time: what a stream sends in one frame."""
LOOK_S: Final = 2.0
"""Seconds between two looks whether what a tunnel leads to is gone."""
LAST_S: Final = 30.0
"""Seconds in which the peer may take the last bytes of what is gone."""


class Flow:
    """Carries the bytes of one tunnel, both ways. Lives on the trio thread."""

    def __init__(self, stream: SafeStream, end: socket.socket, *, is_served: bool) -> None:
        """`end` does not block; it stays the caller's. `is_served`: it leads to a job of ours, not to a program that asked for the tunnel."""
        self._stream = stream
        self._end = end
        self._is_served = is_served
        self._rest = memoryview(b"")
        self._full = trio.Event()
        self._is_full = False
        self._changed = trio.Event()
        self._has_ended_in = self._has_ended_out = False
        self._why = ""
        self._scope = trio.CancelScope()

    async def run(self) -> str:
        """Until both sides have ended theirs (gives ""), or it is cut (gives why)."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._stream.on_change = self._on_change
                nursery.start_soon(self._carry_out)
                nursery.start_soon(self._wait_for_room)
                if self._is_served:
                    nursery.start_soon(self._outlive_briefly)
                self._carry_in()
        self._stream.on_change = None
        return self._why

    def _cut(self, why: str) -> None:
        self._why = self._why or why
        self._scope.cancel()

    def _settle(self) -> None:
        if self._has_ended_in and self._has_ended_out:
            self._scope.cancel()

    async def _outlive_briefly(self) -> None:
        hang_up = select.poll()
        hang_up.register(self._end.fileno(), 0)  # which asks for nothing, but that the other end is gone is always told
        while not hang_up.poll(0):  # noqa: ASYNC110 - to wait for no more than that takes one more descriptor for each tunnel
            await trio.sleep(LOOK_S)
        await trio.sleep(LAST_S)
        self._cut("what it led to is gone")

    def _lost(self) -> str:
        closed = self._stream.muxed_conn.close_reason
        return f"the connection with the peer ended: {closed}" if closed else "the other side broke it off"

    # ------------------------------------------------------------------------------------------------- stream to socket

    def _on_change(self) -> None:
        self._changed.set()
        self._carry_in()

    def _carry_in(self) -> None:
        while not self._is_full:
            if not self._rest:
                self._rest = memoryview(self._stream.take(PIECE))
                if not self._rest:
                    self._look_for_end()
                    return
            try:
                self._rest = self._rest[self._end.send(self._rest) :]
            except BlockingIOError:
                self._is_full = True
                self._full.set()
            except OSError as error:
                if not self._is_served:
                    self._cut(f"the program has closed its end: {error.strerror}")
                    return
                self._rest = memoryview(
                    b""
                )  # nobody reads it any more, but what was said last may be on its way to the peer

    def _look_for_end(self) -> None:
        if self._stream.is_reset:
            self._cut(self._lost())
        elif self._stream.received_end and not self._has_ended_in:
            self._has_ended_in = True
            try:
                self._end.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._cut(f"the program has closed its end: {error.strerror}")
            self._settle()

    async def _wait_for_room(self) -> None:
        while True:
            await self._full.wait()
            await trio.lowlevel.wait_writable(self._end.fileno())
            self._full = trio.Event()
            self._is_full = False
            self._carry_in()

    # ------------------------------------------------------------------------------------------------- socket to stream

    async def _carry_out(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._end.fileno())
            try:
                data = self._end.recv(PIECE)
            except BlockingIOError:
                continue
            except OSError as error:
                if not self._is_served:
                    self._cut(f"the program has broken off its end: {error.strerror}")
                    return
                break
            if not data:
                break
            await self._send(memoryview(data))
        await self._stream.close()
        self._has_ended_out = True
        self._settle()

    async def _send(self, rest: memoryview) -> None:
        """Hands a piece to the connection. The peer's window and others' frames may make it wait."""
        stream = self._stream
        while not stream.is_reset:
            rest = rest[stream.write_some(rest) :]
            stream.muxed_conn.flush()
            if stream.muxed_conn.waiting > SEND_HIGH:
                await stream.muxed_conn.wait_room()
            if not rest:
                return
            if stream.send_left == 0 and not stream.is_reset:
                self._changed = trio.Event()
                await self._changed.wait()
        self._cut(self._lost())
