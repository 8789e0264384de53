"""The container engine goes away under a node, and comes back."""

# ruff: noqa: ASYNC110 - what is waited for happens in other processes

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from dms.executors import ExecutorSettings, OciExecutor, OciSettings
from dms.executors.oci import leftovers, run
from dms.executors.oci.engine import open_engine
from dms.testing.executor_contract import RunWatcher, ending_of
from dms.testing.oci_engine import add_image, running_engine
from dms_proto.work import EndReason, Task

pytestmark = pytest.mark.slow

TASK = Task("oci", ("true",), image="sha256:" + "0" * 64)


class Ground(NamedTuple):
    """An engine of the tests' own, and an image in it."""

    socket: str
    image: str

    def endless(self) -> Task:
        return Task("oci", ("/bin/sleep", "600"), image=self.image)


class Way:
    """A socket that leads to an engine's. Cut, it is as if the engine had gone, though its containers have not: podman's need no service."""

    def __init__(self, there: str, path: Path) -> None:
        self._there = there
        self.path = path
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def lead(self) -> None:
        self._server = await asyncio.start_unix_server(self._relay, self.path)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)  # a connection that was just accepted is made in the next turn of the loop,
        await asyncio.sleep(0)  # and its relay begins in the one after
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays)
        self.path.unlink(missing_ok=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._between(reader, writer)
        finally:
            writer.transport.abort()
            self._relays.discard(task)

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._there)
        try:
            await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))
        finally:
            there_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
def engine() -> Iterator[tuple[str, ExitStack]]:
    """Its socket, and what ends it when closed."""
    with ExitStack() as stack:
        yield stack.enter_context(running_engine("docker")), stack


@pytest.fixture(scope="module", params=["docker", "podman"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with running_engine(request.param) as socket:
        yield Ground(socket, add_image(socket))


@pytest.fixture
async def way(ground: Ground, tmp_path: Path) -> AsyncIterator[Way]:
    (tmp_path / "way").mkdir()
    way = Way(ground.socket, tmp_path / "way" / "s")
    await way.lead()
    yield way
    await way.cut()
    (tmp_path / "way").rmdir()  # the wardens see that it will not come back


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "RETRY_S", 0.1)
    monkeypatch.setattr(run, "ENGINE_GONE_S", 0.1)


def node(way: Way, home: Path) -> OciExecutor:
    return OciExecutor(ExecutorSettings(home / "state", oci=OciSettings(socket=str(way.path))))


async def is_there(ground: Ground, container: str) -> bool:
    engine = await open_engine(ground.socket)
    try:
        return await engine.state(container) is not None
    finally:
        await engine.close()


async def until_removed(ground: Ground, container: str) -> None:
    async with asyncio.timeout(60):
        while await is_there(ground, container):
            await asyncio.sleep(0.05)


async def left_by_a_node(way: Way, ground: Ground, home: Path) -> str:
    """A container that runs on after its node."""
    (home / "job").mkdir(mode=0o700)
    first = node(way, home)
    watcher = RunWatcher(await first.run("a-1", ground.endless(), home / "job"))
    container = await watcher.wait_started()
    watcher.abandon()
    await first.close()
    return container


async def test_a_node_whose_engine_is_gone_goes_on_and_says_so(engine: tuple[str, ExitStack], tmp_path: Path) -> None:
    (tmp_path / "job").mkdir(mode=0o700)
    socket, life = engine
    executor = OciExecutor(ExecutorSettings(tmp_path / "state", oci=OciSettings(socket=socket)))
    await executor.open()
    life.close()
    assert await executor.sweep([]) == 0
    assert await executor.adopt("a-1", TASK, tmp_path / "job", "") is None
    ending = await ending_of(await executor.run("a-1", TASK, tmp_path / "job"))
    assert ending.reason is EndReason.PROVIDER_FAULT
    assert "the engine failed" in ending.detail
    await executor.close()


async def test_what_could_not_be_adopted_is_removed_once_the_engine_is_back(
    way: Way, ground: Ground, tmp_path: Path
) -> None:
    container = await left_by_a_node(way, ground, tmp_path)
    executor = node(way, tmp_path)
    await executor.open()
    await way.cut()
    assert await executor.adopt("a-1", ground.endless(), tmp_path / "job", container) is None
    assert await is_there(ground, container)
    await way.lead()
    await until_removed(ground, container)
    await executor.close()


async def test_what_could_not_be_swept_is_swept_once_the_engine_is_back(
    way: Way, ground: Ground, tmp_path: Path
) -> None:
    container = await left_by_a_node(way, ground, tmp_path)
    executor = node(way, tmp_path)
    await executor.open()
    await way.cut()
    assert await executor.sweep([]) == 0
    assert await is_there(ground, container)
    await way.lead()
    await until_removed(ground, container)
    await executor.close()


async def test_a_run_that_was_given_up_is_removed_once_the_engine_is_back(
    way: Way, ground: Ground, tmp_path: Path
) -> None:
    (tmp_path / "job").mkdir(mode=0o700)
    executor = node(way, tmp_path)
    watcher = RunWatcher(await executor.run("a-1", ground.endless(), tmp_path / "job"))
    container = await watcher.wait_started()
    await way.cut()
    assert (await watcher.ending()).reason is EndReason.PROVIDER_FAULT
    assert await is_there(ground, container)
    await way.lead()
    await until_removed(ground, container)
    await executor.close()
