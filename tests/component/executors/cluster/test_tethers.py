"""The node's side of tethers, beset by who is no runner of it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from dms.executors.cluster import tether
from dms.executors.cluster.tether import Calls, Place, Tied, connect, let_in, place_in
from dms.executors.cluster.tethers import MOST_UNKNOWN, OF_SOURCE, Tethers
from dms_proto.errors import MachineError, UserError
from dms_proto.tunnels import Order, ToCommand
from dms_proto.units import KIB

PATIENCE_S = 30.0


@pytest.fixture
async def tethers(tmp_path: Path) -> AsyncIterator[Tethers]:
    """A node's, which listens for its runners."""
    tethers = Tethers(tmp_path)
    tethers.listen("127.0.0.1", 0)
    yield tethers
    await tethers.close()


@pytest.fixture
def place(tmp_path: Path, tethers: Tethers) -> Place:
    """Where it does."""
    place = place_in(tmp_path)
    assert place is not None
    return place


@contextmanager
def knocking(place: Place, count: int) -> Iterator[list[socket.socket]]:
    """So many connections from another machine, which say nothing."""
    with ExitStack() as stack:
        elsewhere = ("127.0.0.2", 0)
        yield [
            stack.enter_context(socket.create_connection((place.host, place.port), source_address=elsewhere))
            for _ in range(count)
        ]


async def test_who_only_knocks_keeps_no_runner_of_another_machine_out(place: Place) -> None:
    with knocking(place, MOST_UNKNOWN):
        (await connect(place, Tied("a-1"))).close()


async def test_who_connects_without_end_leaves_the_loop_to_others(place: Place) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    with knocking(place, 100) as connections:
        connections[-1].setblocking(False)
        async with asyncio.timeout(PATIENCE_S):
            assert not await asyncio.get_running_loop().sock_recv(connections[-1], 1), "no room"
    beside.cancel()
    assert turns >= len(connections)


async def test_who_is_turned_away_again_and_again_is_told_of_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with pytest.raises(OSError, match="the other side has ended it"):
            await connect(msgspec.structs.replace(place, key=bytes(32)), Tied("a-1"))
    assert [record.getMessage() for record in caplog.records if "turned away" in record.getMessage()] == [
        "a connection from 127.0.0.1 was turned away: it does not show that it is a runner of this node"
    ]


async def test_a_runner_that_ties_itself_anew_leaves_nothing_of_its_old_tether(place: Place) -> None:
    """The old connection may look alive here for half a minute. Closed under who reads it, it leaves its number to others, which are never read."""
    loop = asyncio.get_running_loop()
    with await connect(place, Tied("a-1")) as old, await connect(place, Tied("a-1")):
        async with asyncio.timeout(PATIENCE_S):
            assert not await loop.sock_recv(old, 1), "the old one is ended"
            for run in ("a-2", "a-3"):
                with await connect(place, Tied(run)) as other:
                    other.shutdown(socket.SHUT_WR)
                    assert not await loop.sock_recv(other, 1), "its end is heard"


async def test_a_runner_that_reads_nothing_holds_up_nobody(
    tethers: Tethers, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dms.executors.cluster.tethers.ORDER_S", 0.2)
    much = ToCommand(Order(("x" * 64 * KIB,)))
    with await connect(place, Tied("a-1")):
        async with asyncio.timeout(PATIENCE_S):
            orders = await asyncio.gather(*(tethers.connect("a-1", much) for _ in range(200)), return_exceptions=True)
    assert {type(order) for order in orders} <= {MachineError, UserError}
    assert any(isinstance(order, MachineError) and "did not answer" in order.message for order in orders)


async def test_a_runner_for_which_there_is_no_room_comes_again() -> None:
    key = os.urandom(32)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as node:
        node.setblocking(False)
        connecting = asyncio.create_task(connect(Place("127.0.0.1", node.getsockname()[1], key), Tied("a-1")))
        async with asyncio.timeout(PATIENCE_S):
            (await loop.sock_accept(node))[0].close()
            connection, _ = await loop.sock_accept(node)
            with connection:
                assert await let_in(connection, key) == Tied("a-1")
                (await connecting).close()


async def test_many_connections_of_one_machine_at_once_are_all_let_in(place: Place) -> None:
    calls = (Calls("a-1", number, "1.job.internal:8080") for number in range(2 * OF_SOURCE))
    for connection in await asyncio.gather(*(connect(place, call) for call in calls)):
        connection.close()


async def test_one_for_which_there_never_is_room_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tether, "SHOW_S", 0.3)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as node:
        place = Place("127.0.0.1", node.sockets[0].getsockname()[1], os.urandom(32))
        with pytest.raises(OSError, match="nobody answers at"):
            await connect(place, Tied("a-1"))
