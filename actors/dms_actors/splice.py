"""Two sockets joined: what comes out of one goes into the other, both ways, until both have ended. On the loop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import partial
from typing import Final

PIECE: Final = 64 * 1024
"""Bytes carried at a time: all that is held of each direction."""


class Splice:
    """Implements `ports.Tunnel` for what need not leave this process. Takes the sockets over."""

    def __init__(self, there: socket.socket) -> None:
        """`there`: the end that the tunnel leads to."""
        self._there = there
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing flows any more."""
        return self._over.done()

    def join(self, end: socket.socket) -> None:
        """See `Tunnel.join`."""
        if self._over.done():
            end.close()
        else:
            self._task = asyncio.get_running_loop().create_task(self._run(end), name="splice")
            for each in (end, self._there):  # a task that is cancelled before its first step closes nothing itself
                self._task.add_done_callback(partial(_close, each))

    def abort(self) -> None:
        """See `Tunnel.abort`."""
        self.cut("it was broken off here")

    def cut(self, why: str) -> None:
        """Breaks it off for a reason."""
        if self._over.done():
            return
        self._over.set_result(why)
        if self._task is not None:
            self._task.cancel()
        else:
            self._there.close()

    async def wait_over(self) -> str:
        """See `Tunnel.wait_over`."""
        return await asyncio.shield(self._over)

    async def _run(self, end: socket.socket) -> None:
        why = await splice(end, self._there)
        if not self._over.done():
            self._over.set_result(why)


async def splice(one: socket.socket, other: socket.socket) -> str:
    """Carries bytes both ways; gives "" when both sides have ended theirs, else why it was cut. Closes both, also when cancelled."""
    for end in (one, other):
        end.setblocking(False)
    ways = [asyncio.create_task(_carry(one, other)), asyncio.create_task(_carry(other, one))]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        errors = [error for way in done if (error := way.exception()) is not None]
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # whoever else holds it shall know that it is over
            end.close()
    return f"a side broke it off: {errors[0]}" if errors else ""


def _close(end: socket.socket, _task: asyncio.Task[None]) -> None:
    end.close()


async def _carry(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, PIECE):
        await loop.sock_sendall(sink, data)
    sink.shutdown(socket.SHUT_WR)
