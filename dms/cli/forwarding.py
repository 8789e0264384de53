"""Forwarding: a listener here for each port, a tunnel for each connection, for as long as the job goes on. In one asyncio loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from dms.cli.progress import Progress
from dms.rpc.api.jobs import JobEnded, JobProgress, JobView, SlotProgress, WatchJobParams, read_update
from dms.rpc.api.tunnels import TunnelEnd, TunnelName, TunnelParams
from dms.rpc.async_client import AsyncClient, OpenTunnel, open_tunnel
from dms_proto.errors import DmsError, MachineError, UserError
from dms_proto.ids import PeerId, short
from dms_proto.messages import Phase
from dms_proto.tunnels import ToPort, write_target

HERE: Final = "127.0.0.1"
PIECE: Final = 64 * 1024
END_S: Final = 2.0
"""Seconds in which a node says why a tunnel ended."""


class Way(NamedTuple):
    """A port here, and the one inside the job it leads to. `local` 0: any that is free."""

    local: int
    port: int


class Forwarded(msgspec.Struct, frozen=True, tag="forwarding"):
    """A port can be used now.

    Attributes:
        address: where to connect, here.
        port: the job's.
        provider: the node on which it runs.
    """

    address: str
    port: int
    provider: PeerId


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A connection came to nothing, or was cut.

    Attributes:
        port: the job's.
        code: of the error; empty for a connection that was cut.
        message: what happened.
    """

    port: int
    code: str
    message: str


Tell = Callable[[Forwarded | Failed], None]


class Forwarder:
    """Forwards to one slot of a job. Args: the node's socket; the job's full id."""

    def __init__(self, path: Path, job: str, slot: int, ways: Sequence[Way], tell: Tell) -> None:
        self._path = path
        self._job = job
        self._slot = slot
        self._ways = ways
        self._tell = tell
        self._running = asyncio.Event()
        self._provider = PeerId("")
        self._connections: set[asyncio.Task[None]] = set()
        self._failures: dict[int, Failed] = {}

    async def run(self, progress: Progress) -> JobView:
        """Listens, waits until the job runs, and forwards until it is over; gives how it ended.

        Raises:
            MachineError: `port_in_use`.
            ConnectionLost: the node went away.
        """
        async with AsyncExitStack() as stack:
            listeners = {way: stack.enter_context(_listening(way)) for way in self._ways}
            node = await stack.enter_async_context(await AsyncClient.connect(self._path))
            following = asyncio.create_task(self._follow(node, progress))
            stack.push_async_callback(_ended, following)
            started = asyncio.create_task(self._running.wait())
            stack.push_async_callback(_ended, started)
            await asyncio.wait({following, started}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                progress.stop()
                await stack.enter_async_context(self._served(listeners))
            return await following

    async def _follow(self, node: AsyncClient, progress: Progress) -> JobView:
        async for item in node.follow("job", WatchJobParams(self._job, logs=False)):
            match read_update(item):
                case JobProgress(text=text):
                    progress.say(f"{short(self._job)}: {text}")
                case SlotProgress(slot=self._slot, phase=Phase.RUNNING, provider=provider):
                    self._provider = provider
                    self._running.set()
                case JobEnded(job=view):
                    return view
        raise UserError("node_not_running", "the job's feed ended before the job", hint=f"dms job show {self._job}")

    @asynccontextmanager
    async def _served(self, listeners: Mapping[Way, socket.socket]) -> AsyncIterator[None]:
        servers = []
        for way, listener in listeners.items():
            servers.append(await asyncio.start_server(self._accepted(way.port), sock=listener))
            self._tell(Forwarded(f"{HERE}:{listener.getsockname()[1]}", way.port, self._provider))
        try:
            yield
        finally:
            for server in servers:
                server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _accepted(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connect(port, reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            # One that is cancelled before its first step closes nothing itself.
            task.add_done_callback(lambda _task: writer.transport.abort())

        return accepted

    async def _connect(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            tunnel = await open_tunnel(self._path, TunnelParams(self._job, write_target(ToPort(port)), self._slot))
        except DmsError as error:
            self._fail(Failed(port, error.code, error.message))
            return
        try:
            why = await self._carried(reader, writer, tunnel)
            if why:
                self._fail(Failed(port, "", why))
                return
            if why is not None:
                self._failures.pop(port, None)
            with suppress(OSError):
                writer.close()
                await writer.wait_closed()
        finally:
            tunnel.writer.transport.abort()

    def _fail(self, failed: Failed) -> None:
        """Tells why connections fail once, and again when one has ended well in between: a program may try many times a second."""
        if self._failures.get(failed.port) != failed:
            self._failures[failed.port] = failed
            self._tell(failed)

    async def _carried(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tunnel: OpenTunnel
    ) -> str | None:
        """Carries bytes both ways until both sides have ended theirs (gives ""), or it is cut (gives why, or None where nobody knows).

        A connection that its own program here breaks off is none of our business.
        """
        ways = [asyncio.create_task(_carry(*way)) for way in ((reader, tunnel.writer), (tunnel.reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            if all(way.done() and way.exception() is None for way in ways):
                return await self._why(tunnel.opened.tunnel)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        return None

    async def _why(self, name: str) -> str | None:
        with suppress(DmsError, TimeoutError):
            async with asyncio.timeout(END_S), await AsyncClient.connect(self._path) as node:
                return (await node.call("tunnel.wait", TunnelName(name), TunnelEnd)).why
        return None


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _ended(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _listening(way: Way) -> socket.socket:
    try:
        return socket.create_server((HERE, way.local))
    except OSError as error:
        other = way.local + 10_000 if way.local < 50_000 else way.local - 10_000
        raise MachineError(
            "port_in_use",
            f"{HERE}:{way.local} cannot be listened on: {os.strerror(error.errno or 0)}",
            hint=f"choose another port here, such as {other}:{way.port}",
        ) from error
