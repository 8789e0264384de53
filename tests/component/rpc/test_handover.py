"""A connection that a method takes over: after its answer it carries bytes, and nothing of it is lost or left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dms.rpc.api import METHODS
from dms.rpc.api.tunnels import TunnelEnd, TunnelName, TunnelParams
from dms.rpc.async_client import AsyncClient, open_tunnel
from dms.rpc.dispatcher import Dispatcher
from dms.rpc.session import Session
from dms.rpc.unix import UnixServer
from dms.testing.node_api import MemoryNode
from dms_proto.errors import UserError

PATIENCE_S = 20
PORT = TunnelParams("r-1", "port:8080")
OPEN = {"jsonrpc": "2.0", "id": 7, "method": "tunnel.open", "params": {"job_id": "r-1", "target": "port:8080"}}


@pytest.fixture
def node(tmp_path: Path) -> MemoryNode:
    return MemoryNode(tmp_path)


@pytest.fixture
async def path(node: MemoryNode, tmp_path: Path) -> AsyncIterator[Path]:
    server = UnixServer(Dispatcher(node, METHODS, "0.1.0", dict), tmp_path / "node.sock")
    await server.start()
    yield tmp_path / "node.sock"
    await server.stop()


async def test_after_the_answer_the_connection_carries_bytes_both_ways_and_each_ends_by_itself(path: Path) -> None:
    data = bytes(range(256)) * 20_000
    async with asyncio.timeout(PATIENCE_S):
        tunnel = await open_tunnel(path, PORT)
        assert tunnel.opened.allocation_id == "a-0"

        async def send() -> None:
            tunnel.writer.write(data)
            await tunnel.writer.drain()
            tunnel.writer.write_eof()

        _, back = await asyncio.gather(send(), tunnel.reader.read())
        assert back == data
        async with await AsyncClient.connect(path) as client:
            assert await client.call("tunnel.wait", TunnelName(tunnel.opened.tunnel), TunnelEnd) == TunnelEnd("")
    tunnel.writer.close()


async def test_a_cut_tunnel_says_why_on_another_connection(path: Path, node: MemoryNode) -> None:
    async with asyncio.timeout(PATIENCE_S), await AsyncClient.connect(path) as client:
        tunnel = await open_tunnel(path, PORT)
        node.tunnels[tunnel.opened.tunnel].cut("the moon fell down")
        assert not await tunnel.reader.read()
        end = await client.call("tunnel.wait", TunnelName(tunnel.opened.tunnel), TunnelEnd)
        assert end == TunnelEnd("the moon fell down")
    tunnel.writer.close()


async def test_a_refused_tunnel_is_an_error_and_the_connection_goes_on(path: Path, node: MemoryNode) -> None:
    node.refusal = UserError("not_running", "job r-1 is over", hint="dms job show r-1")
    with pytest.raises(UserError, match="is over") as caught:
        await open_tunnel(path, PORT)
    assert (caught.value.code, caught.value.hint) == ("not_running", "dms job show r-1")
    async with await AsyncClient.connect(path) as client:
        with pytest.raises(UserError):
            await client.call("tunnel.open", PORT)
        assert await client.call("rpc.ping")


async def test_calls_under_way_are_answered_before(path: Path) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "node.pause"}
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(json.dumps(ping).encode() + b"\n" + json.dumps(OPEN).encode() + b"\n")
    async with asyncio.timeout(PATIENCE_S):
        answers = [json.loads(await reader.readline()) for _ in range(2)]
        assert [answer["id"] for answer in answers] == [1, 7]
        writer.write(b"and now bytes")
        assert await reader.readexactly(13) == b"and now bytes"
    writer.close()


@pytest.mark.parametrize("after", [b"early bytes", json.dumps({**OPEN, "id": 8}).encode() + b"\n"])
async def test_who_sends_before_the_answer_gets_no_tunnel_and_leaves_none(
    path: Path, node: MemoryNode, after: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(json.dumps(OPEN).encode() + b"\n" + after)
    async with asyncio.timeout(PATIENCE_S):
        assert not await reader.read()
        for tunnel in node.tunnels.values():
            assert await tunnel.wait_over()
    writer.close()


async def test_who_is_gone_before_the_answer_leaves_no_tunnel(path: Path, node: MemoryNode) -> None:
    for _ in range(10):
        _reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(json.dumps(OPEN).encode() + b"\n")
        writer.transport.abort()
    async with asyncio.timeout(PATIENCE_S), await AsyncClient.connect(path) as client:
        await client.call("rpc.ping")
        for tunnel in node.tunnels.values():
            await tunnel.wait_over()


@pytest.mark.parametrize("sent", [[OPEN], {name: value for name, value in OPEN.items() if name != "id"}, OPEN])
async def test_it_works_by_itself_on_a_connection_that_can_be_taken_and_nowhere_else(
    node: MemoryNode, sent: Any
) -> None:
    """In a batch, as a notification, and where nothing can be handed over (HTTP): refused before anything is opened."""

    async def send(_data: bytes) -> None:
        raise AssertionError

    session = Session(send, can_hand_over=sent is not OPEN)
    reply = await Dispatcher(node, METHODS, "0.1.0", dict).handle(json.dumps(sent).encode(), session)
    assert reply.handover is None
    assert not node.tunnels
    if reply.data is not None:
        (answer,) = [json.loads(reply.data)] if isinstance(sent, dict) else json.loads(reply.data)
        assert "takes over its connection" in answer["error"]["message"]
