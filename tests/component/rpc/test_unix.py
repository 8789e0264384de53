"""The Unix socket, with real sockets and hostile bytes: its owner is served, nobody else is, and one bad client disturbs no other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dms.rpc.api import METHODS
from dms.rpc.async_client import AsyncClient
from dms.rpc.dispatcher import Dispatcher
from dms.rpc.unix import MAX_CONNECTIONS, UnixServer
from dms.testing.node_api import MemoryNode
from dms_proto.errors import MachineError, UserError

LIMIT = 64 * 1024


@pytest.fixture
def node(tmp_path: Path) -> MemoryNode:
    return MemoryNode(tmp_path)


@pytest.fixture
async def server(node: MemoryNode, tmp_path: Path) -> AsyncIterator[UnixServer]:
    server = UnixServer(Dispatcher(node, METHODS, "0.1.0", dict), tmp_path / "node.sock", limit=LIMIT)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def path(server: UnixServer, tmp_path: Path) -> Path:
    return tmp_path / "node.sock"


async def _exchange(path: Path, data: bytes, *, eof: bool = True) -> list[Any]:
    """Sends bytes, and reads until the server closes."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    if eof:
        writer.write_eof()
    async with asyncio.timeout(10):
        received = await reader.read()
    writer.close()
    return [json.loads(line) for line in received.splitlines()]


def _line(name: str, id_: object = 1, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": name, "params": params, "id": id_}).encode() + b"\n"


async def test_a_line_is_answered_with_a_line(path: Path) -> None:
    (answer,) = await _exchange(path, _line("rpc.ping"))
    assert answer["result"]["version"] == "0.1.0"


async def test_the_last_line_may_lack_its_newline_and_empty_lines_are_nothing(path: Path) -> None:
    (answer,) = await _exchange(path, b"\n  \n" + _line("rpc.ping").rstrip())
    assert "result" in answer


async def test_many_calls_of_one_connection_are_all_answered(path: Path) -> None:
    answers = await _exchange(path, b"".join(_line("node.identity", number) for number in range(200)))
    assert sorted(answer["id"] for answer in answers) == list(range(200))


async def test_a_slow_call_does_not_hold_up_a_quick_one(path: Path, node: MemoryNode) -> None:
    async with await AsyncClient.connect(path) as client:
        waiting = asyncio.create_task(client.call("node.pause", {}))
        assert (await client.call("rpc.ping"))["pid"] == os.getpid()
        await waiting


async def test_the_socket_is_open_to_its_owner_only_from_the_start(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # noqa: ASYNC240 - nothing else runs


async def test_the_mode_does_not_depend_on_the_umask(node: MemoryNode, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        server = UnixServer(Dispatcher(node, METHODS, "0", dict), tmp_path / "other.sock")
        await server.start()
        assert stat.S_IMODE((tmp_path / "other.sock").stat().st_mode) == 0o600
        await server.stop()
    finally:
        os.umask(before)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
async def test_another_user_is_refused_even_when_the_mode_lets_it_in(path: Path, tmp_path: Path) -> None:
    path.chmod(0o777)  # noqa: ASYNC240 - nothing else runs
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o111)
    program = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); "
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.makefile().readline())"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", program, str(path), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert json.loads(output)["error"]["data"]["code"] == "unauthorised"


async def test_a_line_longer_than_the_limit_is_answered_and_ends_the_connection(path: Path) -> None:
    (answer,) = await _exchange(path, b"x" * (3 * LIMIT), eof=False)
    assert str(LIMIT) in answer["error"]["message"]


async def test_hostile_bytes_disturb_no_other_connection(path: Path) -> None:
    seed = random.Random(7)
    async with await AsyncClient.connect(path) as client:
        for length in (1, 10, 1000, 5000):
            garbage = bytes(seed.randrange(256) for _ in range(length)).replace(b"\n", b"") + b"\n"
            answers = await _exchange(path, garbage + b"[[[[\n" + b'{"jsonrpc":"2.0","method":"rpc.ping","id":1}\n')
            assert answers[-1]["result"]["version"] == "0.1.0", "the connection goes on after garbage"
            assert (await client.call("rpc.ping"))["version"] == "0.1.0"


async def test_a_client_that_hangs_up_in_the_middle_disturbs_nobody(path: Path) -> None:
    for data in (b"", b'{"jsonrpc"', _line("node.status") * 20):
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.write(data)
        await writer.drain()
        writer.transport.abort()
    async with await AsyncClient.connect(path) as client:
        assert await client.call("rpc.ping")


async def test_more_connections_than_the_limit_are_refused_by_name(path: Path) -> None:
    held = [await asyncio.open_unix_connection(str(path)) for _ in range(MAX_CONNECTIONS)]
    for _, writer in held:
        writer.write(_line("rpc.ping"))
    for reader, _ in held:
        assert await reader.readline()
    (refusal,) = await _exchange(path, b"", eof=False)
    assert str(MAX_CONNECTIONS) in refusal["error"]["message"]
    for _, writer in held:
        writer.close()


async def test_a_second_server_on_one_socket_is_refused(path: Path, node: MemoryNode) -> None:
    second = UnixServer(Dispatcher(node, METHODS, "0", dict), path)
    with pytest.raises(MachineError) as caught:
        await second.start()
    assert caught.value.code == "home_in_use"
    assert await _exchange(path, _line("rpc.ping")), "the first goes on"


async def test_a_socket_left_by_a_killed_node_is_taken_over(tmp_path: Path, node: MemoryNode) -> None:
    path = tmp_path / "stale.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    server = UnixServer(Dispatcher(node, METHODS, "0", dict), path)
    await server.start()
    assert await _exchange(path, _line("rpc.ping"))
    await server.stop()


async def test_what_is_no_socket_is_never_replaced(tmp_path: Path, node: MemoryNode) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(MachineError, match="is not a socket"):
        await UnixServer(Dispatcher(node, METHODS, "0", dict), path).start()
    assert path.read_text() == "data"


async def test_a_path_that_cannot_be_bound_says_so(tmp_path: Path, node: MemoryNode) -> None:
    with pytest.raises(MachineError, match="cannot be bound"):
        await UnixServer(Dispatcher(node, METHODS, "0", dict), tmp_path / "missing" / "node.sock").start()


async def test_a_directory_that_others_can_use_is_refused_with_the_way_out(tmp_path: Path, node: MemoryNode) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(UserError) as caught:
        await UnixServer(Dispatcher(node, METHODS, "0", dict), tmp_path / "open" / "node.sock").start()
    assert (caught.value.code, caught.value.hint) == ("bad_config", f"chmod 700 {tmp_path / 'open'}")
    assert not (tmp_path / "open" / "node.sock").exists()


async def test_stopping_ends_connections_and_removes_the_socket(node: MemoryNode, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    server = UnixServer(Dispatcher(node, METHODS, "0", dict), path)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(_line("rpc.ping"))
    await reader.readline()
    await server.stop()
    await server.stop()
    assert await reader.read() == b""
    assert not path.exists()
    writer.close()


async def test_a_client_that_does_not_read_cannot_keep_the_server_from_stopping(
    node: MemoryNode, tmp_path: Path
) -> None:
    path = tmp_path / "a.sock"
    server = UnixServer(Dispatcher(node, METHODS, "0", dict), path)
    await server.start()
    deaf = socket.socket(socket.AF_UNIX)
    deaf.setblocking(False)
    deaf.connect(str(path))
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 5_000:  # until neither side takes anything more
            sent += 1
            deaf.send(_line("node.status", sent))
    async with await AsyncClient.connect(path) as other:
        assert await other.call("rpc.ping"), "others are served meanwhile"
    async with asyncio.timeout(10):
        await server.stop()
    deaf.close()


async def test_a_connection_that_comes_while_the_server_stops_is_closed_too(node: MemoryNode, tmp_path: Path) -> None:
    # Cut off between being accepted and its first step, such a connection stayed open for as long as the process lived.
    for steps in range(8):
        path = tmp_path / f"{steps}.sock"
        server = UnixServer(Dispatcher(node, METHODS, "0", dict), path)
        await server.start()
        with socket.socket(socket.AF_UNIX) as late:
            late.connect(str(path))
            for _ in range(steps):
                await asyncio.sleep(0)
            await server.stop()
            late.setblocking(False)
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.get_running_loop().sock_recv(late, 1) == b""


async def test_stopping_leaves_the_socket_of_a_next_node_alone(node: MemoryNode, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    first = UnixServer(Dispatcher(node, METHODS, "0", dict), path)
    await first.start()
    path.unlink()
    second = UnixServer(Dispatcher(node, METHODS, "0", dict), path)
    await second.start()
    await first.stop()
    assert await _exchange(path, _line("rpc.ping"))
    await second.stop()
