"""The flow of one tunnel: a stream and a socket joined, with nothing between them but what the kernel and the stream's window hold.

What arrives from the peer goes into the socket in the same step, without a task's turn; only when the socket is full does a task wait, and then the
stream's window fills up and the peer waits, in this tunnel alone.
"""

from __future__ import annotations

import socket
from typing import Final

import trio

from dms.net.guards.yamux import SEND_HIGH
from dms.net.guards.yamux_stream import MAX_CHUNK, SafeStream

PIECE: Final = MAX_CHUNK
"""Bytes carried at a time: what a stream sends in one frame."""


class Flow:
    """Carries the bytes of one tunnel, both ways. Lives on the trio thread."""

    def __init__(self, stream: SafeStream, end: socket.socket) -> None:
        """`end` does not block; it stays the caller's."""
        self._stream = stream
        self._end = end
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
                self._carry_in()
        self._stream.on_change = None
        return self._why

    def _cut(self, why: str) -> None:
        self._why = self._why or why
        self._scope.cancel()

    def _settle(self) -> None:
        if self._has_ended_in and self._has_ended_out:
            self._scope.cancel()

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
                self._cut(f"the program has closed its end: {error.strerror}")
                return

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
                self._cut(f"the program has broken off its end: {error.strerror}")
                return
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
