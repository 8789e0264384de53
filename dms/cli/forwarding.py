"""Forwarding: a listener here for each port, a tunnel for each connection, for as long as the job goes on. In one asyncio loop."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from dms.cli.port_pairs import PortPair
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
AGAIN_S: Final = 0.2
"""Seconds until a node that went away is asked again."""


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
Listeners = Mapping[PortPair, socket.socket]


@contextmanager
def listening(pairs: Sequence[PortPair]) -> Iterator[Listeners]:
    """Listens here, before there is anything to lead to.

    Raises:
        MachineError: `port_in_use`.
    """
    with ExitStack() as stack:
        yield {pair: stack.enter_context(_listener(pair)) for pair in pairs}


class Forwarder:
    """Forwards to one slot of a job. Args: the node's socket; the job's full id."""

    def __init__(self, path: Path, job: str, slot: int, listeners: Listeners, tell: Tell) -> None:
        self._path = path
        self._job = job
        self._slot = slot
        self._listeners = listeners
        self._tell = tell
        self._running = asyncio.Event()
        self._provider = PeerId("")
        self._connections: set[asyncio.Task[None]] = set()
        self._failures: dict[int, Failed] = {}

    async def run(self, progress: Progress) -> JobView:
        """Waits until the job runs, and forwards until it is over; gives how it ended.

        Raises:
            ConnectionLost: the node went away.
        """
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(await AsyncClient.connect(self._path))
            following = asyncio.create_task(self._follow(node, progress))
            stack.push_async_callback(_ended, following)
            started = asyncio.create_task(self._running.wait())
            stack.push_async_callback(_ended, started)
            await asyncio.wait({following, started}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                progress.stop()
                await stack.enter_async_context(self._served())
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
    async def _served(self) -> AsyncIterator[None]:
        servers = []
        for pair, listener in self._listeners.items():
            servers.append(await asyncio.start_server(self._accepted(pair.port), sock=listener.dup()))
            self._tell(Forwarded(f"{HERE}:{listener.getsockname()[1]}", pair.port, self._provider))
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
        directions = [asyncio.create_task(_carry(*ends)) for ends in ((reader, tunnel.writer), (tunnel.reader, writer))]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_EXCEPTION)
            if all(each.done() and each.exception() is None for each in directions):
                return await self._why(tunnel.opened.tunnel)
        finally:
            for each in directions:
                each.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
        return None

    async def _why(self, name: str) -> str | None:
        with suppress(DmsError, TimeoutError):
            async with asyncio.timeout(END_S), await AsyncClient.connect(self._path) as node:
                return (await node.call("tunnel.wait", TunnelName(name), TunnelEnd)).why
        return None


@contextmanager
def forwarding_beside(path: Path, job: str, listeners: Listeners, tell: Tell) -> Iterator[None]:
    """Forwards to the first slot of a job on a thread of its own until the context ends, however often the node goes away in between."""
    loop = asyncio.new_event_loop()
    forwarding = loop.create_task(_forward_on(path, job, listeners, tell))
    thread = threading.Thread(target=_run, args=(loop, forwarding), name="forwarding")
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(forwarding.cancel)
        thread.join()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, forwarding: asyncio.Task[None]) -> None:
    with suppress(asyncio.CancelledError):
        loop.run_until_complete(forwarding)


async def _forward_on(path: Path, job: str, listeners: Listeners, tell: Tell) -> None:
    """What becomes of the job is told by who watches it; what is not to be known of it now may be a moment later."""
    while True:
        with suppress(DmsError):
            await Forwarder(path, job, 0, listeners, tell).run(Progress("", enabled=False))
            return
        await asyncio.sleep(AGAIN_S)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _ended(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _listener(pair: PortPair) -> socket.socket:
    try:
        return socket.create_server((HERE, pair.local))
    except OSError as error:
        other = pair.local + 10_000 if pair.local < 50_000 else pair.local - 10_000
        raise MachineError(
            "port_in_use",
            f"{HERE}:{pair.local} cannot be listened on: {os.strerror(error.errno or 0)}",
            hint=f"choose another port here, such as {other}:{pair.port}",
        ) from error
