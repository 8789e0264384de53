"""Siblings between whole nodes on an in-memory network: who is led to whom, by whose word, and what everybody else hears."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.executors.sandbox import door
from dms.executors.sandbox.keeper import DOOR
from dms.executors.scripted import ScriptedExecutor
from dms.net.config import NetConfig
from dms.node import pace, siblings
from dms.node.app import NodeApp
from dms.testing.market import Market, auction_of, peer_of, submit, until
from dms.testing.tunnel_contract import PATIENCE_S
from dms_actors.ports import Tunnel
from dms_proto.capability import Resources
from dms_proto.errors import DmsError, PeerError
from dms_proto.ids import RequestId
from dms_proto.market.auction_state import Auction, Slot
from dms_proto.messages import Phase
from dms_proto.siblings import Names
from dms_proto.tunnels import Opening, Order, asking_for_roll, write_opening
from dms_proto.units import MIB
from dms_proto.wire.buckets import Limit
from dms_proto.work import Task

from .test_tunnels import only_asks

PORT = 8080
ONE_A_NODE = Resources(cpu_millicores=3_000, memory_bytes=256 * MIB)
"""So much that no two allocations have room on one node."""


async def running(market: Market, count: int = 2, **changes: Any) -> tuple[RequestId, tuple[Slot, ...]]:
    """A job of the first node whose allocations have names, and where they run."""
    terms = market.terms("wait", count=count, **{"resources": ONE_A_NODE, **changes})
    task = msgspec.structs.replace(terms.task, ports=(PORT,), names=Names(0, count))
    await submit(market.nodes[0].services, msgspec.structs.replace(terms, task=task))
    return terms.request_id, await all_run(market, terms.request_id)


async def all_run(market: Market, job: RequestId) -> tuple[Slot, ...]:
    def run(auction: Auction | None) -> bool:
        return auction is not None and all(slot.allocation is Phase.RUNNING for slot in auction.slots)

    auction = await until(lambda: auction_of(market.nodes[0].services, job), run, PATIENCE_S)
    slots: tuple[Slot, ...] = auction.slots
    return slots


@asynccontextmanager
async def called(
    node: NodeApp, said: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]]:
    """A connection that is handed over to a node as from a sandbox; and on what the node says why it leads nowhere."""
    given, kept = socket.socketpair()
    keeper = socket.socket(socket.AF_UNIX)
    keeper.setblocking(False)
    name, suffix = DOOR.split(".")
    with keeper, given, door.short(node.services.home.executors, f"{name}.{suffix}") as path:
        keeper.connect(path)
        socket.send_fds(keeper, [said.encode()], [given.fileno()])
        given.close()
        reader, writer = await asyncio.open_unix_connection(sock=kept)
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield reader, writer, keeper
        finally:
            writer.close()


async def said_back(market: Market, caller: Slot, to: int) -> bytes:
    """What a sibling, which echoes, says back; b"": the connection is broken off."""
    node = market.node_of(caller.provider)
    async with called(node, f"{caller.allocation_id} {to}.job.internal:{PORT}") as (reader, writer, _):
        writer.write(b"hello")
        with suppress(OSError):
            writer.write_eof()
            return await reader.read()
        return b""


async def why_not(node: NodeApp, said: str) -> str:
    async with called(node, said) as (reader, _, keeper):
        with suppress(OSError):
            assert not await reader.read()
        return (await asyncio.get_running_loop().sock_recv(keeper, 1_000)).decode()


async def refused(node: NodeApp, provider: Slot, opening: Opening) -> tuple[str, str]:
    with pytest.raises(DmsError) as caught:
        await node.services.tunnels.lead(provider.provider, opening)
    return caught.value.code, caught.value.message


async def test_allocations_on_different_nodes_reach_each_other_by_number(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        _, (first, second) = await running(market)
        assert first.provider != second.provider
        assert await said_back(market, first, 1) == b"hello"
        assert await said_back(market, second, 0) == b"hello"


async def test_allocations_on_the_requesters_own_node_do_too(tmp_path: Path) -> None:
    async with Market(tmp_path, 1) as market:
        _, (first, second) = await running(market, resources=Resources(cpu_millicores=500, memory_bytes=64 * MIB))
        assert await said_back(market, first, 1) == b"hello"
        assert await said_back(market, second, 0) == b"hello"


async def test_who_is_no_sibling_is_let_in_to_nothing_and_a_sibling_to_ports_alone(tmp_path: Path) -> None:
    """The provider of the first asks in its name, and so does everybody else in every way there is."""
    async with Market(tmp_path, 4, build=only_asks) as market:
        _, (first, second) = await running(market)
        _, (other,) = await running(market, count=1, resources=Resources(cpu_millicores=100, memory_bytes=64 * MIB))
        sibling = market.node_of(first.provider)
        stranger = next(node for node in market.nodes[1:] if peer_of(node) not in {first.provider, second.provider})
        port, id_ = f"port:{PORT}", second.allocation_id
        nothing = ("not_found", f"nothing of yours runs here as {id_}")
        assert await refused(stranger, second, Opening(id_, port)) == nothing
        assert await refused(stranger, second, Opening(id_, port, caller=first.allocation_id)) == nothing
        assert await refused(stranger, second, Opening(id_, port, caller=second.allocation_id)) == nothing
        assert await refused(sibling, second, Opening(id_, port)) == nothing
        assert await refused(sibling, second, Opening(id_, port, caller=other.allocation_id)) == nothing
        assert await refused(sibling, second, Opening(id_, "call", caller=first.allocation_id)) == nothing
        shell = Opening(id_, "exec", Order(("sh",)), caller=first.allocation_id)
        assert await refused(sibling, second, shell) == nothing
        undeclared = await refused(sibling, second, Opening(id_, "port:22", caller=first.allocation_id))
        assert undeclared[0] == "bad_argument"


async def test_a_job_without_names_lets_none_of_its_allocations_in(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        terms = market.terms("wait", count=2, resources=ONE_A_NODE)
        task = msgspec.structs.replace(terms.task, ports=(PORT,))
        await submit(market.nodes[0].services, msgspec.structs.replace(terms, task=task))
        first, second = await all_run(market, terms.request_id)
        opening = Opening(second.allocation_id, f"port:{PORT}", caller=first.allocation_id)
        assert (await refused(market.node_of(first.provider), second, opening))[0] == "not_found"


async def test_a_roll_is_told_to_who_is_on_it_alone(tmp_path: Path) -> None:
    async with Market(tmp_path, 4, build=only_asks) as market:
        job, (first, second) = await running(market)
        other_job, _ = await running(market, count=1, resources=Resources(cpu_millicores=100, memory_bytes=64 * MIB))
        asking = market.node_of(first.provider).services.network
        for question in (
            asking_for_roll(job, second.allocation_id),
            asking_for_roll(RequestId("r-none"), first.allocation_id),
            asking_for_roll(other_job, first.allocation_id),
        ):
            with pytest.raises(PeerError) as caught:
                await asking.open_tunnel(peer_of(market.nodes[0]), write_opening(question))
            assert caught.value.code == "not_found"


async def test_who_is_placed_anew_is_found_where_it_is_then(tmp_path: Path) -> None:
    async with Market(tmp_path, 4, build=only_asks) as market:
        job, (first, second) = await running(market)
        assert await said_back(market, first, 1) == b"hello"
        gone = next(index for index, node in enumerate(market.nodes) if peer_of(node) == second.provider)
        await market.crash(gone, lose_runs=True)

        def is_elsewhere(auction: Auction | None) -> bool:
            slot = auction.slots[1] if auction is not None else second
            return slot.provider != second.provider and slot.allocation is Phase.RUNNING

        await until(lambda: auction_of(market.nodes[0].services, job), is_elsewhere, PATIENCE_S)
        assert await said_back(market, first, 1) == b"hello"
        await market.start(gone)


async def test_while_the_requester_is_away_what_it_said_last_holds(tmp_path: Path) -> None:
    async with Market(tmp_path, 3, build=only_asks) as market:
        _, (first, _) = await running(market)
        assert await said_back(market, first, 1) == b"hello"
        await market.crash(0)
        assert await said_back(market, first, 1) == b"hello"
        await market.start(0)


async def test_the_connections_of_who_is_no_sibling_any_more_are_broken_off(tmp_path: Path) -> None:
    """Its provider keeps it open; the other side does not."""
    async with Market(tmp_path, 3, build=only_asks) as market:
        _, (first, second) = await running(market)
        opening = Opening(second.allocation_id, f"port:{PORT}", caller=first.allocation_id)
        tunnel = await market.node_of(first.provider).services.tunnels.lead(second.provider, opening)
        await see_broken_off(market, first, tunnel)


async def see_broken_off(market: Market, slot: Slot, tunnel: Tunnel) -> None:
    """Once the program of its allocation is over, the tunnel, which answers until then, ends."""
    given, kept = socket.socketpair()
    tunnel.join(given)
    reader, writer = await asyncio.open_unix_connection(sock=kept)
    writer.write(b"hello")
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.readexactly(5) == b"hello"
        await end_run(market, slot)
        assert not await reader.read()
    writer.close()


async def end_run(market: Market, slot: Slot) -> None:
    """The program of an allocation is over, and its provider says so."""
    index = next(index for index, node in enumerate(market.nodes) if peer_of(node) == slot.provider)
    executor, _ = market.executors[index]["scripted"]
    assert isinstance(executor, ScriptedExecutor)
    run = await executor.adopt(slot.allocation_id, Task("scripted"), Path(), "scripted:1")
    assert run is not None
    await run.stop(0)


async def test_a_program_that_connects_without_end_does_not_get_its_node_muted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for more tunnels than a node takes is muted by it, and that is the program's provider."""
    taken = NetConfig(private_key=bytes(32)).tunnel_limit
    assert pace.MOST.per_second < taken.frames_per_s
    assert pace.MOST.burst < taken.frames_burst
    monkeypatch.setattr(pace, "MOST", Limit(0, 2))
    monkeypatch.setattr(siblings, "PATIENCE_S", 0.3)
    async with Market(tmp_path, 3, build=only_asks) as market:
        _, (first, second) = await running(market)
        assert [await said_back(market, first, 1) for _ in range(2)] == [b"hello", b"hello"]
        node = market.node_of(first.provider)
        why = await why_not(node, f"{first.allocation_id} 1.job.internal:{PORT}")
        assert f"more connections than {second.provider} takes" in why
        assert await said_back(market, second, 0) == b"hello", "the other way is another node's"


async def test_what_leads_nowhere_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dms.node.siblings.PATIENCE_S", 0.3)
    async with Market(tmp_path, 3, build=only_asks) as market:
        _, (first, _) = await running(market)
        node = market.node_of(first.provider)
        assert await why_not(node, f"{first.allocation_id} 7.job.internal:{PORT}") == "7.job.internal does not run now"
        undeclared = await why_not(node, f"{first.allocation_id} 1.job.internal:22")
        assert "does not declare port 22" in undeclared
        assert "does not run here" in await why_not(node, f"pool-1 1.job.internal:{PORT}")
        assert not await why_not(node, "no way"), "not understood, and so not answered"
