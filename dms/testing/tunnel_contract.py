"""What every `Network` does with tunnels, as tests that run on the real process and on the in-memory twin. See `network_contract`."""

# ruff: noqa: D102 - the name of a test says what it requires
from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from dms.testing.network_contract import PATIENCE_S, Member, NetworkMembers, blob
from dms_actors.ports import FrameReceived, Tunnel
from dms_proto.errors import PeerError, UserError
from dms_proto.ids import PeerId
from dms_proto.tunnels import MAX_OPENING

QUIET_S = 0.5
"""Nothing has been taken for so long: whatever is between has filled up."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Service:
    """What a tunnel leads to in these tests: for each, `serve` has the other end of the socket that was given for it.

    Attributes:
        asked: who wanted a tunnel, and with which opening.
    """

    def __init__(self, serve: Serve) -> None:
        self.asked: list[tuple[PeerId, bytes]] = []
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, peer: PeerId, opening: bytes) -> socket.socket:
        """Lets everybody in."""
        self.asked.append((peer, opening))
        given, kept = socket.socketpair()
        task = asyncio.create_task(self._run(kept))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return given

    async def _run(self, kept: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=kept)
        try:
            with suppress(OSError):
                await self._serve(reader, writer)
        finally:
            writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Gives back what comes, and ends when its client has ended."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def hold(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Neither reads nor writes."""
    await asyncio.Event().wait()


async def fill(end: socket.socket, quiet_s: float = QUIET_S) -> int:
    """Writes until nothing has been taken for `quiet_s`; gives the number of bytes that were."""
    taken = 0
    piece = bytes(65_536)
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(quiet_s):
                await asyncio.get_running_loop().sock_sendall(end, piece)
            taken += len(piece)
            assert taken < 64 * 1024 * 1024, "it has no bound"
    return taken


async def client_of(tunnel: Tunnel) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The near end of a tunnel, as a program has it."""
    given, kept = socket.socketpair()
    tunnel.join(given)
    return await asyncio.open_unix_connection(sock=kept)


class TunnelContract(NetworkMembers):
    """Subclass, override `make`, and name the subclass ``Test…``."""

    async def test_a_tunnel_leads_to_what_the_opening_names_for_the_proven_peer(
        self, pair: tuple[Member, Member]
    ) -> None:
        ann, bob = pair
        service = Service(echo)
        bob.network.serve_tunnels(service.accept)
        reader, writer = await client_of(await ann.network.open_tunnel(bob.peer, b"to the echo"))
        writer.write(b"hello")
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(5) == b"hello"
        assert service.asked == [(ann.peer, b"to the echo")]
        writer.close()

    async def test_who_serves_may_speak_first(self, pair: tuple[Member, Member]) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"welcome")
            await reader.read()

        ann, bob = pair
        bob.network.serve_tunnels(Service(greet).accept)
        reader, writer = await client_of(await ann.network.open_tunnel(bob.peer, b""))
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(7) == b"welcome"
        writer.close()

    async def test_each_direction_of_a_tunnel_ends_by_itself(self, pair: tuple[Member, Member]) -> None:
        async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(hashlib.sha256(await reader.read()).digest())
            writer.write_eof()

        ann, bob = pair
        bob.network.serve_tunnels(Service(digest).accept)
        tunnel = await ann.network.open_tunnel(bob.peer, b"")
        reader, writer = await client_of(tunnel)
        data, name = blob(3_000_000)
        async with asyncio.timeout(PATIENCE_S):
            writer.write(data)
            writer.write_eof()
            assert "sha256:" + (await reader.read()).hex() == name
            assert not await tunnel.wait_over()
        writer.close()

    async def test_much_passes_both_ways_at_once_unchanged(self, pair: tuple[Member, Member]) -> None:
        ann, bob = pair
        bob.network.serve_tunnels(Service(echo).accept)
        reader, writer = await client_of(await ann.network.open_tunnel(bob.peer, b""))
        data, _ = blob(5_000_000)

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        async with asyncio.timeout(PATIENCE_S):
            _, back = await asyncio.gather(send(), reader.read())
        assert back == data
        writer.close()

    async def test_a_refused_tunnel_says_what_the_peer_says(self, pair: tuple[Member, Member]) -> None:
        async def refuse(_peer: PeerId, _opening: bytes) -> socket.socket:
            raise UserError("not_found", "nothing of yours runs here")

        ann, bob = pair
        with pytest.raises(PeerError) as nobody_serves:
            await ann.network.open_tunnel(bob.peer, b"")
        bob.network.serve_tunnels(refuse)
        with pytest.raises(PeerError, match="nothing of yours runs here") as caught:
            await ann.network.open_tunnel(bob.peer, b"")
        assert nobody_serves.value.code == caught.value.code == "not_found"
        assert not caught.value.retryable

    async def test_a_tunnel_to_who_is_not_connected_and_a_long_opening_are_errors(
        self, start: Callable[[], asyncio.Future[Member]]
    ) -> None:
        ann, bob = await start(), await start()
        with pytest.raises(PeerError) as caught:
            await ann.network.open_tunnel(bob.peer, b"")
        assert caught.value.code == "peer_unreachable"
        await ann.connect(bob)
        with pytest.raises(UserError) as long:
            await ann.network.open_tunnel(bob.peer, bytes(MAX_OPENING + 1))
        assert long.value.code == "bad_argument"

    async def test_who_does_not_read_holds_up_its_own_tunnel_and_nothing_else(
        self, pair: tuple[Member, Member]
    ) -> None:
        ann, bob = pair
        services = iter([Service(hold), Service(echo)])
        served = {b"stuck": next(services), b"echo": next(services)}

        async def accept(peer: PeerId, opening: bytes) -> socket.socket:
            return await served[opening].accept(peer, opening)

        bob.network.serve_tunnels(accept)
        given, stuck = socket.socketpair()
        tunnel = await ann.network.open_tunnel(bob.peer, b"stuck")
        tunnel.join(given)
        stuck.setblocking(False)
        carried = await fill(stuck)
        assert carried < 8 * 1024 * 1024, "nobody reads, and yet it is taken"
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await client_of(await ann.network.open_tunnel(bob.peer, b"echo"))
            writer.write(b"passes")
            assert await reader.readexactly(6) == b"passes"
        assert ann.network.send(bob.peer, b"passes too")
        await bob.seen.first(FrameReceived)
        writer.close()
        stuck.close()
        tunnel.abort()

    async def test_a_tunnel_is_broken_off_here_and_the_other_side_sees_it(self, pair: tuple[Member, Member]) -> None:
        ended = asyncio.Event()

        async def until_end(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while await reader.read(65_536):
                    pass
            ended.set()

        ann, bob = pair
        bob.network.serve_tunnels(Service(until_end).accept)
        tunnel = await ann.network.open_tunnel(bob.peer, b"")
        reader, writer = await client_of(tunnel)
        tunnel.abort()
        tunnel.abort()
        async with asyncio.timeout(PATIENCE_S):
            assert "broken off here" in await tunnel.wait_over()
            with suppress(OSError):
                assert not await reader.read()
            await ended.wait()
        writer.close()

    async def test_what_a_tunnel_led_to_hears_of_its_end_though_its_server_holds_on_to_the_socket(
        self, pair: tuple[Member, Member]
    ) -> None:
        """A node does, to break off what it has let in; see `dms.node.guests`."""
        ann, bob = pair
        ended, held = asyncio.Event(), list[socket.socket]()

        async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()
            ended.set()

        service = Service(wait)

        async def accept(peer: PeerId, opening: bytes) -> socket.socket:
            given = await service.accept(peer, opening)
            held.append(given.dup())
            return given

        bob.network.serve_tunnels(accept)
        tunnel = await ann.network.open_tunnel(bob.peer, b"")
        _, writer = await client_of(tunnel)
        tunnel.abort()
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        writer.close()
        held[0].close()

    async def test_a_tunnel_ends_with_the_connection_and_says_so(self, pair: tuple[Member, Member]) -> None:
        ann, bob = pair
        bob.network.serve_tunnels(Service(echo).accept)
        tunnel = await ann.network.open_tunnel(bob.peer, b"")
        reader, writer = await client_of(tunnel)
        writer.write(b"hello")
        async with asyncio.timeout(PATIENCE_S):
            await reader.readexactly(5)
            await bob.network.stop()
            assert "the connection with the peer ended" in await tunnel.wait_over()
            with suppress(OSError):
                assert not await reader.read()
        writer.close()
