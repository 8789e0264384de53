"""Starting real network processes in tests, and breaking the wires between them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from dms.net.client import NetworkProcess
from dms.net.config import NetConfig
from dms.testing.network_contract import PATIENCE_S, Member, Recorder
from dms_actors.ports import FrameReceived, GossipReceived

TOPIC = "market"


class LiveMember(Member):
    """A member whose network is a real process."""

    network: NetworkProcess

    async def counted(self, name: str, at_least: int = 1) -> int:
        """Waits until a counter of the process reached a value."""
        async with asyncio.timeout(PATIENCE_S):
            while (value := (await self.network.stats()).get(name, 0)) < at_least:  # noqa: ASYNC110 - another process counts
                await asyncio.sleep(0.02)
        return value


class Crew:
    """Starts members and stops them all."""

    def __init__(self) -> None:
        self.members: list[LiveMember] = []

    async def __call__(self, **settings: Any) -> LiveMember:
        """A started member; `settings` are fields of `NetConfig`."""
        given = {"private_key": os.urandom(32), "listen": ("/ip4/127.0.0.1/tcp/0",), "topics": (TOPIC,), **settings}
        network, recorder = NetworkProcess(NetConfig(**given)), Recorder()
        member = LiveMember(network, recorder, await network.start(recorder))
        self.members.append(member)
        return member

    async def stop(self) -> None:
        """Stops all."""
        await asyncio.gather(*(member.network.stop() for member in self.members))


async def still_serves(crew: Crew, victim: LiveMember) -> None:
    """A newcomer reaches the victim, by frame and by gossip."""
    honest = await crew()
    await honest.connect(victim)
    assert honest.network.send(victim.peer, b"hello")
    await victim.seen.first(FrameReceived, lambda event: event.peer == honest.peer and event.frame == b"hello")
    async with asyncio.timeout(PATIENCE_S):
        while not any(event.forwarder == honest.peer for event in victim.seen.of(GossipReceived)):
            assert honest.network.publish(TOPIC, b"news")
            await asyncio.sleep(0.1)


class Wire:
    """A TCP proxy that can be cut: in silence, or after so many bytes."""

    def __init__(self, to_port: int) -> None:
        self.is_silent = False
        self.break_after: int | None = None
        self.carried = 0
        self._is_over = False
        self._to_port = to_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, address: str) -> AsyncIterator[tuple[Wire, str]]:
        """A wire to `address` (a multiaddr), and the multiaddr of its near end."""
        parts = address.split("/")
        wire = cls(int(parts[4]))
        server = await asyncio.start_server(wire._carry, "127.0.0.1", 0)
        parts[4] = str(server.sockets[0].getsockname()[1])
        try:
            yield wire, "/".join(parts)
        finally:
            wire._is_over = True
            server.close()
            await wire.cut()

    async def cut(self) -> None:
        """Breaks all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        writers, self._writers = self._writers, set()
        opened = await asyncio.gather(*self._opening, return_exceptions=True)
        writers.update(ends[1] for ends in opened if not isinstance(ends, BaseException))
        for writer in writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_over:
            writer.transport.abort()  # accepted before the end, and only handed over after it
            return
        self._writers.add(writer)
        opening = asyncio.create_task(asyncio.open_connection("127.0.0.1", self._to_port))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        far_reader, far_writer = await opening
        if writer not in self._writers:
            far_writer.transport.abort()  # the near end was cut meanwhile
            return
        self._writers.add(far_writer)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                self.carried += len(data)
                if self.break_after is not None and self.carried > self.break_after:
                    break
                if not self.is_silent:
                    sink.write(data)
                    await sink.drain()
        if not self.is_silent:
            sink.close()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
