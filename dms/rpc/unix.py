"""JSON-RPC on a Unix socket: one JSON value per line, both ways. Only the socket's owner, and root, are served.

JSON as we write it contains no newline, so a line is a message, and `socat - UNIX:…` is a client. The socket's mode is 0600 from the moment it
exists, and the kernel's word on who connects (SO_PEERCRED) is asked besides, since a mode can be changed behind our back.

After the answer to a method that hands over (`tunnel.open`) the connection is no longer ours: like an HTTP upgrade, it then carries bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from dms.config.paths import require_private
from dms.rpc.dispatcher import MAX_REQUEST_BYTES, Dispatcher, Reply, refusal, too_large
from dms.rpc.session import Session
from dms_proto.errors import MachineError

logger = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 128
"""Each costs a file descriptor and two buffers; people and programs of one user need a few."""
MAX_CALLS_AT_ONCE: Final = 32
"""Per connection; further lines stay unread until one is answered."""
SEND_TIMEOUT_S: Final = 30.0
"""A reader that takes nothing for so long is cut off; it can come back with `since`."""
LINGER_S: Final = 5.0
"""After a client's last word, calls under way may take so long; one that is gone looks the same as one that listens."""
FLUSH_S: Final = 1.0
"""For what is still to be sent when a connection ends; a client that does not read must not keep the node from stopping."""
SOCKET_MODE: Final = 0o600
_PROBE_TIMEOUT_S: Final = 1.0


class UnixServer:
    """Serves one dispatcher on one path. Lives on the node's asyncio loop."""

    def __init__(self, dispatcher: Dispatcher, path: Path, *, limit: int = MAX_REQUEST_BYTES) -> None:
        self._dispatcher = dispatcher
        self._path = path
        self._limit = limit
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._stopping = False
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens.

        Raises:
            MachineError: `home_in_use`: another node answers there; `store_failed`: the path cannot be used.
            UserError: `bad_config`: others can use the directory, so they could put another socket in this one's place.
        """
        self._stopping = False
        _check_directory(self._path)
        _clear(self._path)
        listener = _bind(self._path)
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=self._limit)

    async def stop(self) -> None:
        """Stops listening, ends all connections and removes the socket. Idempotent."""
        if self._server is None:
            return
        self._stopping = True
        # asyncio loses a connection that it has accepted but not yet given a transport when the server closes (an assertion
        # in Server._attach): so first nothing new is accepted, then what was accepted gets its turn, and then the server closes.
        for listener in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        await asyncio.sleep(0)
        self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        self._server = None
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:  # a next node may be listening there already
                self._path.unlink()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Called by asyncio for each connection; not a coroutine, so that none can be missed between accepting and `stop`."""
        if self._stopping:
            writer.transport.abort()
            return
        connection = _Connection(self._dispatcher, reader, writer, self._limit)
        crowded = len(self._connections) >= MAX_CONNECTIONS
        task = asyncio.create_task(connection.serve(crowded=crowded), name="rpc connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # A task that is cancelled before its first step never reaches its own clean-up.
        task.add_done_callback(lambda _task: writer.transport.abort())


class _Connection:
    """One client of the socket."""

    def __init__(
        self, dispatcher: Dispatcher, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int
    ) -> None:
        self._dispatcher = dispatcher
        self._reader = reader
        self._writer = writer
        self._limit = limit
        self._session = Session(self._send, can_hand_over=True)
        self._leaving: Reply | None = None
        self._early = b""
        self._writing = asyncio.Lock()
        self._free = asyncio.Semaphore(MAX_CALLS_AT_ONCE)
        self._calls: set[asyncio.Task[None]] = set()

    async def serve(self, *, crowded: bool) -> None:
        try:
            if crowded:
                await self._send(refusal("bad_argument", f"more than {MAX_CONNECTIONS} connections", hint="close some"))
            elif not _is_owner(self._writer):
                await self._send(refusal("unauthorised", "this socket serves its owner only"))
            else:
                await self._read_lines()
                if self._leaving is not None:
                    await self._hand_over(self._leaving)
        except OSError as error:
            logger.debug("connection lost: %s", error)
        finally:
            await self._close()

    async def _read_lines(self) -> None:
        while self._leaving is None:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                self._early += end.partial
                if end.partial.strip() and self._leaving is None:
                    await self._answer(end.partial)  # the last line may lack its newline
                break
            except asyncio.LimitOverrunError:
                await self._send(too_large(self._limit))
                return
            if line.strip():
                await self._free.acquire()
                task = asyncio.create_task(self._answer_in_turn(line))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
        if self._calls:
            await asyncio.wait(self._calls, timeout=LINGER_S)  # half-closed, as by `echo … | socat`: still answered

    async def _answer_in_turn(self, line: bytes) -> None:
        try:
            await self._answer(line)
        except OSError:
            self._writer.transport.abort()
        finally:
            self._free.release()

    async def _answer(self, line: bytes) -> None:
        reply = await self._dispatcher.handle(line, self._session)
        if reply.handover is not None and self._leaving is not None:
            reply.handover.abort()  # one connection, two that want it: neither gets it
            self._early = line
            return
        if reply.handover is not None:
            transport = self._writer.transport
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()  # what comes now is not for us
            self._reader.feed_eof()
            self._leaving = reply
            return
        if reply.data is not None:
            await self._send(reply.data)
        for start in reply.after:
            start()

    async def _hand_over(self, reply: Reply) -> None:
        """Sends the answer, and gives the connection away. Whatever else was under way on it is over by now."""
        handover, data = reply.handover, reply.data
        assert handover is not None
        assert data is not None
        for task in self._calls:
            task.cancel()
        await self._session.close()
        try:
            if self._early or await self._reader.read():
                raise ConnectionAbortedError("bytes came before the answer")
            self._writer.transport.set_write_buffer_limits(0)  # so that `drain` waits until all is sent
            await self._send(data)
            end = socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno()))
        except BaseException:
            handover.abort()
            raise
        handover.take(end)

    async def _send(self, data: bytes) -> None:
        async with self._writing:
            if self._writer.is_closing():
                raise ConnectionResetError("the connection is closed")
            self._writer.write(data + b"\n")
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._writer.drain()
            except TimeoutError:
                self._writer.transport.abort()
                raise ConnectionAbortedError("the reader takes nothing") from None

    async def _close(self) -> None:
        await self._session.close()
        for task in self._calls:
            task.cancel()
        self._writer.close()
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._writer.wait_closed()
        except TimeoutError:
            self._writer.transport.abort()
        except OSError:
            return


def _is_owner(writer: asyncio.StreamWriter) -> bool:
    """Whether the process at the other end belongs to this process's user or to root."""
    peer = writer.get_extra_info("socket")
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the socket's mode alone
    _pid, uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (0, os.getuid())


def _check_directory(path: Path) -> None:
    try:
        require_private(path.parent)
    except OSError as error:
        raise MachineError("store_failed", f"{path} cannot be bound: {error.strerror}") from error


def _clear(path: Path) -> None:
    """Removes a socket nobody listens on any more, left by a node that was killed."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise MachineError(
                "store_failed", f"{path} is not a socket, so it is not replaced", hint=f"move {path} away"
            )
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise MachineError("home_in_use", f"{path} cannot be taken over: {error}") from error
    raise MachineError("home_in_use", f"another node answers on {path}", hint="dms down stops it")


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        # Linux gives the file the mode of the descriptor, so it is never open to others, whatever the umask.
        os.fchmod(listener.fileno(), SOCKET_MODE)
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)
    except OSError as error:
        listener.close()
        raise MachineError("store_failed", f"{path} cannot be bound: {error.strerror}") from error
    listener.setblocking(False)
    return listener
