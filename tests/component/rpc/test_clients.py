"""Both clients against a real server: typed calls, errors as they were raised, feeds that can be resumed, connections that break."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dms.jobs.check import job_of
from dms.jobs.resolve import resolve
from dms.rpc.api import METHODS
from dms.rpc.api.jobs import (
    AnyJobUpdate,
    JobEnded,
    JobLog,
    JobParams,
    SubmitParams,
    Submitted,
    WatchJobParams,
    read_update,
)
from dms.rpc.api.node import NodeStatus
from dms.rpc.async_client import AsyncClient
from dms.rpc.client import Client, ConnectionLost
from dms.rpc.dispatcher import Dispatcher
from dms.rpc.unix import UnixServer
from dms.testing.node_api import MemoryNode
from dms.testing.node_jobs import Script
from dms_proto.errors import UserError

T = TypeVar("T")


@pytest.fixture
def node(tmp_path: Path) -> MemoryNode:
    return MemoryNode(tmp_path)


@pytest.fixture
async def path(node: MemoryNode, tmp_path: Path) -> AsyncIterator[Path]:
    server = UnixServer(Dispatcher(node, METHODS, "0.1.0", dict), tmp_path / "node.sock")
    await server.start()
    yield tmp_path / "node.sock"
    await server.stop()


async def _in_thread(path: Path, work: Callable[[Client], T]) -> T:
    def run() -> T:
        with Client(path, timeout=10) as client:
            return work(client)

    return await asyncio.to_thread(run)


def _job(tmp_path: Path) -> SubmitParams:
    return SubmitParams(resolve(job_of({"command": ["true"], "name": "t"}), tmp_path))


def _ids(updates: list[AnyJobUpdate]) -> list[int]:
    return [update.id for update in updates]


# -------------------------------------------------------------------------------------------------------------- synchronous


async def test_a_call_gives_a_typed_result(path: Path) -> None:
    status = await _in_thread(path, lambda client: client.call("node.status", None, NodeStatus))
    assert (status.name, status.network.connected) == ("workshop", 2)


async def test_a_call_without_a_type_gives_plain_data(path: Path) -> None:
    assert (await _in_thread(path, lambda client: client.call("node.status")))["name"] == "workshop"


async def test_an_error_is_raised_as_the_node_raised_it(path: Path) -> None:
    def ask(client: Client) -> UserError:
        with pytest.raises(UserError) as caught:
            client.call("job.show", JobParams("r-zz"))
        return caught.value

    error = await _in_thread(path, ask)
    assert (error.code, error.hint) == ("not_found", "dms job list shows them")


async def test_a_feed_is_followed_to_its_end_and_can_be_resumed(path: Path, tmp_path: Path) -> None:
    def follow(client: Client) -> tuple[list[AnyJobUpdate], list[AnyJobUpdate]]:
        job = client.call("job.submit", _job(tmp_path), Submitted).job_id
        updates = [read_update(item) for item in client.follow("job", WatchJobParams(job))]
        rest = [read_update(item) for item in client.follow("job", WatchJobParams(job, since=updates[1].id))]
        return updates, rest

    updates, rest = await _in_thread(path, follow)
    assert _ids(updates) == [1, 2, 3, 4]
    assert rest == updates[2:]
    assert isinstance(updates[2], JobLog)
    assert updates[2].data == b"hello\n"
    assert isinstance(updates[3], JobEnded)


async def test_calls_and_feeds_share_a_connection(path: Path, tmp_path: Path, node: MemoryNode) -> None:
    node.scripts = [Script(holds=True)]

    def work(client: Client) -> list[str]:
        job = client.call("job.submit", _job(tmp_path), Submitted).job_id
        seen = []
        for update in client.follow("job", {"job_id": job}):
            seen.append(update["type"])
            if update["type"] == "log":
                assert client.call("job.cancel", {"job_id": job})["cancelled"]
        return seen

    assert await _in_thread(path, work) == ["progress", "slot", "log", "ended"]


async def test_a_follower_may_leave_in_the_middle(path: Path, tmp_path: Path, node: MemoryNode) -> None:
    node.scripts = [Script(holds=True)]

    def work(client: Client) -> Any:
        job = client.call("job.submit", _job(tmp_path), Submitted).job_id
        for _ in client.follow("job", {"job_id": job}):
            break
        return [client.call("rpc.ping")["version"] for _ in range(3)]

    assert await _in_thread(path, work) == ["0.1.0"] * 3


async def test_a_feed_that_fails_raises(path: Path) -> None:
    def work(client: Client) -> str:
        with pytest.raises(UserError) as caught:
            list(client.follow("job", {"job_id": "r-nope"}))
        return caught.value.code

    assert await _in_thread(path, work) == "not_found"


@pytest.mark.parametrize("leftover", [False, True])
def test_no_node_says_how_to_start_one(tmp_path: Path, leftover: bool) -> None:
    path = tmp_path / "node.sock"
    if leftover:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(UserError) as caught:
        Client(path)
    assert (caught.value.code, caught.value.hint) == ("node_not_running", "dms up -d starts one")


@pytest.fixture
def rogue(tmp_path: Path) -> Iterator[Callable[[bytes], Path]]:
    """A server that answers the first line with given bytes and hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "rogue.sock"))
    listener.listen()
    threads = []

    def start(answer: bytes) -> Path:
        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return tmp_path / "rogue.sock"

    yield start
    for thread in threads:
        thread.join(5)
    listener.close()


@pytest.mark.parametrize(
    "answer", [b"", b'{"jsonrpc": "2.0", "id"', b"[]\n", b"7\n", b"\xff garbage\n", b"[" * 9 + b"\n"]
)
def test_a_node_that_goes_away_in_the_middle_is_a_lost_connection(
    rogue: Callable[[bytes], Path], answer: bytes
) -> None:
    with Client(rogue(answer), timeout=5) as client, pytest.raises(ConnectionLost) as caught:
        client.call("rpc.ping")
    assert caught.value.retryable


def test_a_node_that_does_not_answer_in_time_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with Client(tmp_path / "s") as client, pytest.raises(ConnectionLost, match="did not answer in time"):
            client.call("rpc.ping", timeout=0.05)


def test_the_client_imports_nothing_heavy() -> None:
    program = "import sys, dms.rpc.client; print(' '.join(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "msgspec", "aiohttp", "logging", "rich", "click"} & set(loaded)


# ------------------------------------------------------------------------------------------------------------------ asyncio


async def test_many_calls_at_once_get_their_own_answers(path: Path) -> None:
    async with await AsyncClient.connect(path) as client:
        answers = await asyncio.gather(
            *(client.call("peers.ping", {"peer": "alpha", "count": n}) for n in range(1, 21))
        )
    assert [len(answer["rtt_us"]) for answer in answers] == list(range(1, 21))


async def test_the_asyncio_client_follows_and_resumes(path: Path, tmp_path: Path) -> None:
    async with await AsyncClient.connect(path) as client:
        job = (await client.call("job.submit", _job(tmp_path), Submitted)).job_id
        updates = [read_update(item) async for item in client.follow("job", WatchJobParams(job))]
        rest = [update async for update in client.follow("job", {"job_id": job, "since": 3})]
    assert _ids(updates) == [1, 2, 3, 4]
    assert [update["id"] for update in rest] == [4]


async def test_the_asyncio_client_raises_as_the_node_did(path: Path) -> None:
    async with await AsyncClient.connect(path) as client:
        with pytest.raises(UserError) as caught:
            await client.call("peers.join", {"invite": "nonsense"})
        assert caught.value.code == "bad_invite"
        with pytest.raises(UserError):
            _ = [item async for item in client.follow("job", {"job_id": "r-nope"})]


async def test_when_the_node_stops_every_waiting_caller_is_told(node: MemoryNode, tmp_path: Path) -> None:
    node.scripts = [Script(holds=True)]
    server = UnixServer(Dispatcher(node, METHODS, "0.1.0", dict), tmp_path / "b.sock")
    await server.start()
    async with await AsyncClient.connect(tmp_path / "b.sock") as client:
        job = (await client.call("job.submit", _job(tmp_path), Submitted)).job_id
        waiting = asyncio.create_task(client.call("job.wait", {"job_id": job}))
        updates: list[Any] = []
        running = asyncio.Event()

        async def follow() -> None:
            async for update in client.follow("job", {"job_id": job}):
                updates.append(update)
                running.set()

        following = asyncio.create_task(follow())
        await running.wait()
        await server.stop()
        for task in (waiting, following):
            with pytest.raises(ConnectionLost):
                await task
        with pytest.raises(ConnectionLost):
            await client.call("rpc.ping")


async def test_a_feed_that_is_left_early_does_not_block_the_connection(path: Path, node: MemoryNode) -> None:
    async with await AsyncClient.connect(path) as client:
        async for _ in client.follow("events", {}):
            break
        for number in range(3000):
            node._note("node", "Noted", f"c-{number}")
        assert (await client.call("rpc.ping"))["version"] == "0.1.0"


async def test_two_clients_follow_one_job(path: Path, tmp_path: Path, node: MemoryNode) -> None:
    node.scripts = [Script(holds=True)]
    async with await AsyncClient.connect(path) as one, await AsyncClient.connect(path) as two:
        job = (await one.call("job.submit", _job(tmp_path), Submitted)).job_id

        async def follow(client: AsyncClient) -> list[str]:
            return [update["type"] async for update in client.follow("job", {"job_id": job})]

        following = [asyncio.create_task(follow(client)) for client in (one, two)]
        await one.call("job.cancel", {"job_id": job})
        assert await asyncio.gather(*following) == [["progress", "slot", "log", "ended"]] * 2


def test_json_is_one_line_whatever_is_in_it() -> None:
    assert "\n" not in json.dumps({"a": "b\nc"})
