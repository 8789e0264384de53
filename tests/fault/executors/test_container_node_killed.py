"""The node dies by kill -9 while containers run: nothing of their output or result is lost, and none goes on beyond its time."""

# ruff: noqa: ASYNC110 - what is waited for happens in other processes

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dms.executors import ExecutorSettings, OciExecutor, OciSettings
from dms.executors.oci.engine import open_engine
from dms.testing.executor_contract import RunWatcher, events_of, output_of
from dms.testing.oci_engine import add_image, running_engine
from dms_actors.ports import Exited
from dms_proto.work import EndReason, Limits, Task

pytestmark = pytest.mark.slow

NODE = Path(__file__).parent / "programs" / "container_node.py"


class Ground(NamedTuple):
    """An engine of the tests' own, with an image in it."""

    socket: str
    image: str


@pytest.fixture(scope="module", params=["docker", "podman"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with running_engine(request.param) as socket:
        yield Ground(socket, add_image(socket))


@pytest.fixture
async def executor(tmp_path: Path, ground: Ground) -> AsyncIterator[OciExecutor]:
    """The next node's."""
    executor = OciExecutor(ExecutorSettings(tmp_path / "state", oci=OciSettings(socket=ground.socket)))
    yield executor
    await executor.sweep([])
    await executor.close()


class DoomedNode:
    """A node in a process of its own."""

    def __init__(self, home: Path, ground: Ground, *runs: str, wall_ms: int = 120_000) -> None:
        arguments = [str(home / "state"), str(home / "jobs"), *ground, str(wall_ms), *runs]
        self._process = subprocess.Popen([sys.executable, str(NODE), *arguments], stdout=subprocess.PIPE, text=True)
        self.handles: dict[str, str] = {}

    def wait_started(self, *names: str) -> None:
        assert self._process.stdout is not None
        while not set(names) <= set(self.handles):
            name, handle = self._process.stdout.readline().split()
            self.handles[name] = handle

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def task(ground: Ground, wall_ms: int = 120_000) -> Task:
    return Task("oci", ("as recorded",), image=ground.image, limits=Limits(wall_ms=wall_ms))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.05)


async def runs_now(ground: Ground, handle: str) -> bool:
    engine = await open_engine(ground.socket)
    try:
        state = await engine.state(handle)
        return state is not None and state.running
    finally:
        await engine.close()


def wardens(home: Path) -> list[int]:
    """Processes that look after the containers of a home that is below this directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            log = str((process / "fd" / "2").readlink())
        except OSError:
            continue
        if any(word.endswith("warden_main.py") for word in words) and log.startswith(str(home)):
            found.append(int(process.name))
    return found


async def test_a_container_goes_on_and_is_adopted_with_all_its_output(
    executor: OciExecutor, ground: Ground, tmp_path: Path
) -> None:
    script = "echo before; while [ ! -e go ]; do sleep 0.05; done; echo after; echo oops >&2; exit 7"
    node = DoomedNode(tmp_path, ground, f"a-1={script}")
    node.wait_started("a-1")
    node.kill()
    assert await runs_now(ground, node.handles["a-1"])
    run = await executor.adopt("a-1", task(ground), tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    watcher = RunWatcher(run)
    await watcher.wait_output(b"before\n")
    assert executor.processes
    (tmp_path / "jobs/a-1/go").touch()
    ending = await watcher.ending()
    assert (ending.reason, ending.exit_code) == (EndReason.EXIT_NONZERO, 7)
    assert output_of(watcher.events, "stdout") == b"before\nafter\n"
    assert output_of(watcher.events, "stderr") == b"oops\n"


async def test_one_that_ended_meanwhile_tells_how(executor: OciExecutor, ground: Ground, tmp_path: Path) -> None:
    node = DoomedNode(tmp_path, ground, "a-1=while [ ! -e go ]; do sleep 0.05; done; echo done; exit 5")
    node.wait_started("a-1")
    node.kill()
    (tmp_path / "jobs/a-1/go").touch()

    async def is_over() -> bool:
        return not await runs_now(ground, node.handles["a-1"])

    await until(is_over)
    run = await executor.adopt("a-1", task(ground), tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    events = await events_of(run)
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.exit_code == 5
    assert output_of(events, "stdout") == b"done\n"


async def test_none_outlives_its_wall_time_though_no_node_comes_back(
    executor: OciExecutor, ground: Ground, tmp_path: Path
) -> None:
    node = DoomedNode(tmp_path, ground, "a-1=echo up; exec sleep 600", wall_ms=3_000)
    node.wait_started("a-1")
    node.kill()
    assert len(wardens(tmp_path)) == 1

    async def is_over() -> bool:
        return not await runs_now(ground, node.handles["a-1"])

    async def has_gone() -> bool:
        return not wardens(tmp_path)

    await until(is_over)
    await until(has_gone)
    run = await executor.adopt("a-1", task(ground, 3_000), tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    events = await events_of(run)
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.WALL_TIME


async def test_what_stands_still_is_ended_in_its_time_too(
    executor: OciExecutor, ground: Ground, tmp_path: Path
) -> None:
    node = DoomedNode(tmp_path, ground, "a-1=echo up; exec sleep 600")
    node.wait_started("a-1")
    node.kill()
    for pid in wardens(tmp_path):
        os.kill(pid, signal.SIGKILL)
    run = await executor.adopt("a-1", task(ground), tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    watcher = RunWatcher(run)
    await watcher.wait_started()
    await run.freeze(-120_000)  # all of its time is over long ago, once nobody is there to say more
    assert await runs_now(ground, node.handles["a-1"]), "while its node is there, it is not ended"
    watcher.abandon()
    await executor.close()

    async def is_over() -> bool:
        return not await runs_now(ground, node.handles["a-1"])

    await until(is_over)


async def test_without_a_warden_the_next_node_ends_what_is_overdue(
    executor: OciExecutor, ground: Ground, tmp_path: Path
) -> None:
    node = DoomedNode(tmp_path, ground, "a-1=echo up; exec sleep 600", wall_ms=2_000)
    node.wait_started("a-1")
    for pid in wardens(tmp_path):
        os.kill(pid, signal.SIGKILL)
    node.kill()
    run = await executor.adopt("a-1", task(ground, 2_000), tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    events = await events_of(run)
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.WALL_TIME
    assert not await runs_now(ground, node.handles["a-1"])


async def test_sweep_removes_what_a_dead_node_left(executor: OciExecutor, ground: Ground, tmp_path: Path) -> None:
    node = DoomedNode(tmp_path, ground, "a-1=exec sleep 600", "a-2=exec sleep 600")
    node.wait_started("a-1", "a-2")
    node.kill()
    assert await executor.sweep(["a-2"]) == 1
    assert not await runs_now(ground, node.handles["a-1"])
    assert await runs_now(ground, node.handles["a-2"])
    assert await executor.sweep([]) == 1


async def test_containers_of_others_are_left_alone(executor: OciExecutor, ground: Ground, tmp_path: Path) -> None:
    engine = await open_engine(ground.socket)
    options = {"NetworkMode": "none", "Ulimits": [{"Name": "nproc", "Soft": 512, "Hard": 512}]}
    options["Ulimits"].append({"Name": "nofile", "Soft": 1024, "Hard": 1024})  # type: ignore[union-attr]
    config = {"Image": ground.image, "Entrypoint": ["/bin/sleep", "600"], "HostConfig": options}
    other = await engine.create("somebody-elses", config)
    await engine.start(other)
    assert await executor.sweep([]) == 0
    assert await executor.adopt("somebody-elses", task(ground), tmp_path, other) is None
    assert await runs_now(ground, other)
    await engine.remove(other)
    await engine.close()
