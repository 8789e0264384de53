"""One life of the network process, seen from the node: started with a pipe, ended with it. Lives on the asyncio loop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from dms.net.handover import hand_over
from dms.net.pipe import Splitter, ToNetwork, ToNode, decode_to_node, encode

BUFFER: Final = 256 * 1024
"""Kernel buffer of the pipe, so that a burst is one system call."""

logger = logging.getLogger(__name__)


class Child(asyncio.Protocol):
    """A running `python -m dms.net`.

    Attributes:
        pid: its process id.
    """

    def __init__(self, on_message: Callable[[ToNode], None], on_end: Callable[[], None]) -> None:
        self.pid = 0
        self._on_message = on_message
        self._on_end = on_end
        self._splitter = Splitter()
        self._waiting: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._beside: socket.socket | None = None

    @classmethod
    async def start(cls, on_message: Callable[[ToNode], None], on_end: Callable[[], None]) -> Child:
        """Starts the process. It shares nothing with the node but the pipe and standard error."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (ours, theirs):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        beside, their_beside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        beside.setblocking(False)
        with theirs, their_beside:
            fds = (theirs.fileno(), their_beside.fileno())
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the working directory may hold a stranger's modules
                "-m",
                "dms.net",
                *map(str, fds),
                pass_fds=fds,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                env={**os.environ, "MALLOC_ARENA_MAX": "2"},
            )
        child = cls(on_message, on_end)
        child._process, child._beside = process, beside
        child.pid = process.pid
        await asyncio.get_running_loop().create_connection(lambda: child, sock=ours)
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
        assert self._process is not None
        code = await self._process.wait()
        self._close()
        return code

    async def end(self, patience_s: float) -> None:
        """Waits for an orderly end, then kills."""
        assert self._process is not None
        try:
            async with asyncio.timeout(patience_s):
                await self._process.wait()
        except TimeoutError:
            logger.warning("the network process does not end; it is killed")
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
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
