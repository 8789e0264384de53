"""Starting real network processes in tests, and breaking the wires between them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from dms.net.client import NetworkProcess
from dms.net.config import NetConfig
from dms.testing.network_contract import PATIENCE_S, Member, Recorder
from dms_actors.ports import FrameReceived, GossipReceived
from dms_proto.errors import PeerError

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
        member = LiveMember(network, recorder, await network.start(recorder.beside(network)))
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
    """A TCP proxy that can be cut: in silence, or after so many bytes.

    It works on bare sockets, so that whatever was accepted is closed at the end, be it handed to a task or not.
    """

    def __init__(self, to_port: int, source: str) -> None:
        self.is_silent = False
        self.break_after: int | None = None
        self.carried = 0
        self._to_port = to_port
        self._source = source
        self._ends: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, address: str, source: str = "127.0.0.1") -> AsyncIterator[tuple[Wire, str]]:
        """A wire to `address` (a multiaddr) that comes from `source`, and the multiaddr of its near end."""
        parts = address.split("/")
        wire = cls(int(parts[4]), source)
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            parts[4] = str(listener.getsockname()[1])
            loop.add_reader(listener, wire._accept, listener)
            try:
                yield wire, "/".join(parts)
            finally:
                loop.remove_reader(listener)
                await wire.cut()

    async def cut(self) -> None:
        """Breaks all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._ends:
            self._ends.pop().close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            near = self._end(listener.accept()[0])
            task = asyncio.create_task(self._carry(near, self._end(socket.socket())))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _end(self, end: socket.socket) -> socket.socket:
        end.setblocking(False)
        self._ends.add(end)
        return end

    async def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            far.bind((self._source, 0))
            await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", self._to_port))
            ways = {asyncio.create_task(self._copy(near, far)), asyncio.create_task(self._copy(far, near))}
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                if self.is_silent:
                    await asyncio.wait(ways)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        if not self.is_silent:
            for end in (near, far):
                self._ends.discard(end)
                end.close()

    async def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, 65536):
            self.carried += len(data)
            if self.break_after is not None and self.carried > self.break_after:
                break
            if not self.is_silent:
                await loop.sock_sendall(sink, data)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def through_cuts(
    ann: LiveMember, wires: Sequence[tuple[Wire, str]], fetch: Callable[[], Awaitable[object]], size: int, cuts: int
) -> int:
    """Fetches a content of `size` bytes over wires of which one after the other is cut, so many times in all, and dialled again when nothing comes.

    Gives how many bytes the wires have carried.
    """
    piece = 2 * size // ((cuts + 1) * (len(wires) + 1))
    while True:
        for place, (wire, address) in enumerate(wires, 1):
            wire.break_after = wire.carried + place * piece if place <= cuts else None
            await ann.network.dial([address])
        cuts -= min(cuts, len(wires))
        try:
            await fetch()
        except PeerError as error:
            if not error.retryable:
                raise
        else:
            assert not cuts, "it was to be cut more often"
            return sum(wire.carried for wire, _ in wires)
