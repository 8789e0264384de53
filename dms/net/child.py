"""One life of the network process, seen from the node: launched with a pipe, ended with it. Lives on the asyncio loop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
from collections.abc import Callable
from typing import Final

from dms.net.handover import hand_over
from dms.net.launching import Launched
from dms.net.pipe import Splitter, ToNetwork, ToNode, decode_to_node, encode
from dms.readable import readable

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""Seconds between two looks at a process whose end is not told."""


class Child(asyncio.Protocol):
    """A running `python -m dms.net`.

    Attributes:
        pid: its process id.
    """

    def __init__(self, launched: Launched, on_message: Callable[[ToNode], None], on_end: Callable[[], None]) -> None:
        self.pid = launched.process.pid
        self._on_message = on_message
        self._on_end = on_end
        self._splitter = Splitter()
        self._waiting: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._process = launched.process
        self._beside: socket.socket | None = launched.beside

    @classmethod
    async def start(cls, launched: Launched, on_message: Callable[[ToNode], None], on_end: Callable[[], None]) -> Child:
        """Listens to a process that has been launched, and holds it."""
        child = cls(launched, on_message, on_end)
        await asyncio.get_running_loop().create_connection(lambda: child, sock=launched.pipe)
        return child

    def post(self, message: ToNetwork) -> None:
        """Sends a message; those of one turn of the loop go in one write."""
        if self._transport is None or self._transport.is_closing():
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(encode(message))

    def hand_over(self, number: int, end: socket.socket) -> bool:
        """Gives the process the socket of a tunnel; it is closed here. False: it could not be given."""
        with end:
            return self._beside is not None and hand_over(self._beside, number, end)

    async def wait(self) -> int:
        """Waits for the end of the process; its exit code, negative for a signal."""
        code = await _end_of(self._process)
        self._close()
        return code

    async def end(self, patience_s: float) -> None:
        """Waits for an orderly end, then kills."""
        try:
            async with asyncio.timeout(patience_s):
                await _end_of(self._process)
        except TimeoutError:
            logger.warning("the network process does not end; it is killed")
            self._process.kill()
            await _end_of(self._process)
        finally:
            self._close()

    # ------------------------------------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Messages came, many at a time."""
        for body in self._splitter.feed(data):
            self._on_message(decode_to_node(body))

    def connection_lost(self, exc: Exception | None) -> None:
        """The process ended or closed the pipe."""
        self._transport = None
        self._on_end()

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._waiting))
        self._waiting.clear()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        if self._beside is not None:
            self._beside.close()
            self._beside = None


async def _end_of(process: subprocess.Popen[bytes]) -> int:
    """Waits for the end of a child of ours, by a pidfd: no thread waits, and none has to be joined. Its exit code, negative for a signal."""
    if (code := process.poll()) is not None:
        return code
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # no descriptor is left
        return await _found_ended(process)
    try:
        await readable(pidfd)
    finally:
        os.close(pidfd)
    return process.wait()


async def _found_ended(process: subprocess.Popen[bytes]) -> int:
    while (code := process.poll()) is None:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(LOOK_S)
    return code
