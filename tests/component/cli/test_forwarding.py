"""Forwarding ports of a job of a node in memory: what is told of connections that fail, and of a port that is taken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from dms.cli.forwarding import Failed, Forwarded, Forwarder, listening
from dms.cli.port_pairs import PortPair
from dms.cli.progress import Progress
from dms.testing.commands import Dms
from dms.testing.node_jobs import Script
from dms_proto.errors import MachineError

PORT = 8080
PATIENCE_S = 20.0


class Told:
    """What a forwarder has told."""

    def __init__(self) -> None:
        self.all: list[Forwarded | Failed] = []
        self._more = asyncio.Event()

    def tell(self, what: Forwarded | Failed) -> None:
        self.all.append(what)
        self._more.set()

    async def local_port(self) -> int:
        """Where to connect, once it is told."""
        async with asyncio.timeout(PATIENCE_S):
            await self._more.wait()
        (first,) = self.all
        assert isinstance(first, Forwarded)
        return int(first.address.rpartition(":")[2])

    @property
    def failures(self) -> list[Failed]:
        return [what for what in self.all if isinstance(what, Failed)]


@pytest.fixture
def dms(dms_with: Callable[[Sequence[Script]], Dms]) -> Dms:
    return dms_with([Script(holds=True)])


@asynccontextmanager
async def forwarded(dms: Dms, job: str) -> AsyncIterator[tuple[Forwarder, Told, int]]:
    told = Told()
    with listening([PortPair(0, PORT)]) as listeners:
        forwarder = Forwarder(dms.served.home.socket, job, 0, listeners, told.tell)
        running = asyncio.create_task(forwarder.run(Progress("", enabled=False)))
        try:
            yield forwarder, told, await told.local_port()
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def said_back(forwarder: Forwarder, port: int) -> bytes:
    """What comes back of a connection that says hello and ends; it is over when this returns."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(PATIENCE_S):
        writer.write(b"hello")
        back = await reader.read(5)
        writer.close()
        while forwarder._connections:
            await asyncio.wait(forwarder._connections)
    return back


async def test_connections_that_open_and_are_cut_are_told_once_until_one_ends_well(dms: Dms, tmp_path: Path) -> None:
    async with forwarded(dms, dms.submit(tmp_path)) as (forwarder, told, port):
        for round_ in (1, 2):
            dms.served.on_loop(lambda node: setattr(node, "cut", "the provider broke it off"))
            for _ in range(5):
                assert not await said_back(forwarder, port)
            assert told.failures == [Failed(PORT, "", "the provider broke it off")] * round_
            dms.served.on_loop(lambda node: setattr(node, "cut", ""))
            assert await said_back(forwarder, port) == b"hello"


def test_a_taken_port_is_told_once_with_a_way_out_to_the_same_port_of_the_job() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        local = taken.getsockname()[1]
        with pytest.raises(MachineError) as caught, listening([PortPair(local, PORT)]):
            pass
    assert caught.value.code == "port_in_use"
    assert caught.value.message == f"127.0.0.1:{local} cannot be listened on: Address already in use"
    assert caught.value.hint.endswith(f":{PORT}")
    assert str(local) not in caught.value.hint


def test_nothing_is_handed_over_while_a_port_of_the_command_is_taken(dms: Dms) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = dms("run", "--port", f"{taken.getsockname()[1]}:{PORT}", "--", "serve")
    assert (result.exit_code, "port_in_use" in result.stderr) == (125, True)
    assert dms.served.on_loop(lambda node: len(node.views)) == 0
