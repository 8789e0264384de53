"""The node dies by kill -9 while jobs run: nothing of their output or result is lost, and nothing is left behind."""

# ruff: noqa: ASYNC110, ASYNC240, ASYNC251, PTH208 - what is waited for happens in other processes

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor
from dms.executors.limiter import process_tree
from dms.hardware.own_use import own_use
from dms.testing.executor_contract import RunWatcher, events_of, output_of, sweep_all
from dms_actors.ports import Exited
from dms_proto.errors import MachineError
from dms_proto.work import EndReason, Limits, Task

pytestmark = pytest.mark.slow

NODE = Path(__file__).parent / "programs" / "node.py"
TASK = Task("sandbox", ("/bin/sh", "-c", "as recorded"), limits=Limits(wall_ms=120_000))


class DoomedNode:
    """A node in a process of its own."""

    def __init__(self, home: Path, limiter: str, *runs: str, wall_ms: int = 120_000) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(NODE), str(home / "state"), str(home / "jobs"), limiter, str(wall_ms), *runs],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.launcher = 0
        self.handles: dict[str, str] = {}

    def read_line(self) -> None:
        assert self._process.stdout is not None
        name, value = self._process.stdout.readline().split()
        if name == "launcher":
            self.launcher = int(value)
        else:
            self.handles[name] = value

    def wait_launched(self) -> None:
        while not self.launcher:
            self.read_line()

    def wait_started(self, *names: str) -> None:
        while not set(names) <= set(self.handles):
            self.read_line()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(params=["", "rlimits"])
def limiter(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def settings(tmp_path: Path, limiter: str) -> ExecutorSettings:
    return ExecutorSettings(tmp_path / "state", limiters=(limiter,) if limiter else ())


@pytest.fixture
async def sandbox(settings: ExecutorSettings) -> AsyncIterator[Sandbox]:
    """The next node's."""
    sandbox = Sandbox(settings)
    try:
        sandbox.start()
    except MachineError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    yield sandbox
    await sandbox.close()
    await sweep_all(settings)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def is_gone(handle: str) -> bool:
    pid, started = map(int, handle.split(":"))
    return process_tree.start_time(pid) != started


async def test_a_run_goes_on_and_is_adopted_with_all_its_output(sandbox: Sandbox, tmp_path: Path, limiter: str) -> None:
    script = "echo before; while [ ! -e go ]; do sleep 0.05; done; echo after; echo oops >&2; exit 7"
    node = DoomedNode(tmp_path, limiter, f"a-1={script}")
    node.wait_started("a-1")
    node.kill()
    assert not is_gone(node.handles["a-1"])
    run = await SandboxExecutor(sandbox).adopt("a-1", TASK, tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    watcher = RunWatcher(run)
    await watcher.wait_output(b"before\n")
    (tmp_path / "jobs/a-1/go").touch()
    ending = await watcher.ending()
    assert output_of(watcher.events, "stdout") == b"before\nafter\n"
    assert output_of(watcher.events, "stderr") == b"oops\n"
    assert (ending.reason, ending.exit_code) == (EndReason.EXIT_NONZERO, 7)
    assert ending.usage.wall_ms > 0
    assert (tmp_path / "jobs/a-1").stat().st_uid == os.geteuid()


async def test_a_run_that_ended_meanwhile_is_adopted_for_its_result(
    sandbox: Sandbox, tmp_path: Path, limiter: str
) -> None:
    node = DoomedNode(tmp_path, limiter, "a-1=echo made it; while [ ! -e go ]; do sleep 0.05; done; exit 5")
    node.wait_started("a-1")
    node.kill()
    (tmp_path / "jobs/a-1/go").touch()
    await wait_until(lambda: is_gone(node.handles["a-1"]))
    run = await SandboxExecutor(sandbox).adopt("a-1", TASK, tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    events = await events_of(run)
    assert output_of(events, "stdout") == b"made it\n"
    assert isinstance(events[-1], Exited)
    assert (events[-1].ending.reason, events[-1].ending.exit_code) == (EndReason.EXIT_NONZERO, 5)
    again = await SandboxExecutor(sandbox).adopt("a-1", TASK, tmp_path / "jobs/a-1", node.handles["a-1"])
    assert again is None, "its end has been delivered"


async def test_a_run_that_is_just_ending_is_waited_for(sandbox: Sandbox, tmp_path: Path, limiter: str) -> None:
    """Its program is over, and bubblewrap has not come to write down how it ended."""
    node = DoomedNode(tmp_path, limiter, "a-1=while [ ! -e go ]; do sleep 0.05; done; exit 5")
    node.wait_started("a-1")
    node.kill()
    program = int(node.handles["a-1"].partition(":")[0])
    monitor = process_tree.parent_in(process_tree.stat(program))
    os.kill(monitor, signal.SIGSTOP)
    (tmp_path / "jobs/a-1/go").touch()
    await wait_until(lambda: not process_tree.is_alive(process_tree.stat(program)))
    adopting = asyncio.create_task(
        SandboxExecutor(sandbox).adopt("a-1", TASK, tmp_path / "jobs/a-1", node.handles["a-1"])
    )
    await asyncio.sleep(0)
    os.kill(monitor, signal.SIGCONT)
    run = await adopting
    assert run is not None
    (*_, end) = await events_of(run)
    assert isinstance(end, Exited)
    assert end.ending.exit_code == 5


async def test_what_an_adopted_run_uses_is_known_as_our_own(sandbox: Sandbox, tmp_path: Path, limiter: str) -> None:
    node = DoomedNode(tmp_path, limiter, "a-1=echo up; while :; do :; done")
    node.wait_started("a-1")
    node.kill()
    run = await SandboxExecutor(sandbox).adopt("a-1", TASK, tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    inner = int(node.handles["a-1"].split(":")[0])
    await wait_until(lambda: inner in own_use({os.getpid(), *sandbox.processes}).processes)
    before = own_use({os.getpid(), *sandbox.processes})
    assert inner not in own_use({os.getpid()}).processes, "it is not below this process"
    await wait_until(lambda: own_use({os.getpid(), *sandbox.processes}).ticks_since(before) >= 10)
    await run.stop(0)
    await RunWatcher(run).ending()
    assert not sandbox.processes


async def test_an_adopted_run_can_be_stopped(sandbox: Sandbox, tmp_path: Path, limiter: str) -> None:
    node = DoomedNode(tmp_path, limiter, "a-1=trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.05; done")
    node.wait_started("a-1")
    node.kill()
    run = await SandboxExecutor(sandbox).adopt("a-1", TASK, tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    watcher = RunWatcher(run)
    await watcher.wait_output(b"up\n")
    await run.stop(30_000)
    ending = await watcher.ending()
    assert (ending.reason, ending.exit_code) == (EndReason.CANCELLED, 3)
    assert output_of(watcher.events, "stdout") == b"up\nasked\n"


async def test_limits_still_hold_after_adoption(sandbox: Sandbox, tmp_path: Path, limiter: str) -> None:
    node = DoomedNode(
        tmp_path, limiter, "a-1=while [ ! -e go ]; do sleep 0.05; done; exec cat /dev/zero", wall_ms=60_000
    )
    node.wait_started("a-1")
    node.kill()
    task = Task("sandbox", TASK.command, limits=Limits(wall_ms=60_000, log_bytes=100_000))
    run = await SandboxExecutor(sandbox).adopt("a-1", task, tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    watcher = RunWatcher(run)
    (tmp_path / "jobs/a-1/go").touch()
    assert (await watcher.ending()).reason is EndReason.OUTPUT_LIMIT
    assert len(output_of(watcher.events, "stdout")) == 100_000


async def test_a_run_survives_the_launcher_too(sandbox: Sandbox, tmp_path: Path, limiter: str) -> None:
    node = DoomedNode(tmp_path, limiter, "a-1=while [ ! -e go ]; do sleep 0.05; done; echo survived; exit 4")
    node.wait_started("a-1")
    node.wait_launched()
    os.kill(node.launcher, signal.SIGKILL)
    node.kill()
    run = await SandboxExecutor(sandbox).adopt("a-1", TASK, tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    (tmp_path / "jobs/a-1/go").touch()
    events = await events_of(run)
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.exit_code == 4
    assert output_of(events, "stdout") == b"survived\n"


async def test_no_run_outlives_its_wall_time_though_no_node_comes_back(
    tmp_path: Path, limiter: str, sandbox: Sandbox
) -> None:
    node = DoomedNode(tmp_path, limiter, "a-1=setsid sleep 600 & echo up; sleep 600", wall_ms=2_000)
    node.wait_started("a-1")
    node.wait_launched()
    node.kill()
    await wait_until(lambda: is_gone(node.handles["a-1"]))
    await wait_until(lambda: process_tree.start_time(node.launcher) == 0)
    run = await SandboxExecutor(sandbox).adopt("a-1", TASK, tmp_path / "jobs/a-1", node.handles["a-1"])
    assert run is not None
    events = await events_of(run)
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.WALL_TIME


async def test_sweep_leaves_neither_processes_nor_groups_nor_files(
    sandbox: Sandbox, settings: ExecutorSettings, tmp_path: Path, limiter: str
) -> None:
    sleeps = ("a-2=sleep 600", "a-3=sleep 600", "lent-1=setsid sleep 600 & sleep 600", "lent-2=sleep 600")
    node = DoomedNode(tmp_path, limiter, "a-1=setsid sleep 600 & sleep 600", *sleeps)
    node.wait_started("a-1", "a-2", "a-3", "lent-1", "lent-2")
    node.kill()
    kept, gone = {"a-2", "lent-2"}, ("a-1", "a-3", "lent-1")
    assert await SandboxExecutor(sandbox).sweep([*kept]) == 3
    await wait_until(lambda: all(is_gone(node.handles[name]) for name in gone))
    assert not any(is_gone(node.handles[name]) for name in kept)
    assert {path.name.split(".")[0] for path in (settings.state_directory / "runs").iterdir()} == kept
    assert not sandbox.groups_of_nobody()
    assert await SandboxExecutor(sandbox).sweep([]) == 2
    await wait_until(lambda: all(is_gone(node.handles[name]) for name in kept))
    assert not sandbox.groups_of_nobody()


async def test_a_swept_machine_is_as_it_was(
    sandbox: Sandbox, settings: ExecutorSettings, tmp_path: Path, limiter: str
) -> None:
    """Mounts, users and files: what a job's user made belongs to the node, and nothing of the job's is mounted or runs as its user."""
    node = DoomedNode(tmp_path, limiter, "a-1=mkdir -p d/e; : > d/e/f; chmod 0 d/e; : > made; setsid sleep 600 & wait")
    node.wait_started("a-1")
    await wait_until((tmp_path / "jobs/a-1/made").exists)
    users = {uid_of(node.handles["a-1"].split(":")[0])} - {os.geteuid()}
    node.kill()
    assert await SandboxExecutor(sandbox).sweep([]) == 1
    await wait_until(lambda: is_gone(node.handles["a-1"]))
    await wait_until(lambda: process_tree.start_time(node.launcher) == 0)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert users.isdisjoint(map(uid_of, filter(str.isdigit, os.listdir("/proc"))))
    assert {path.stat().st_uid for path in (tmp_path / "jobs").rglob("*")} == {os.geteuid()}
    assert os.access(tmp_path / "jobs/a-1/d/e/f", os.R_OK)
    assert not sandbox.groups_of_nobody()


def uid_of(pid: str) -> int:
    """The user a process runs as; -1 when it is gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return -1


async def test_killed_at_any_moment_of_the_start_nothing_is_left(
    sandbox: Sandbox, settings: ExecutorSettings, tmp_path: Path, limiter: str
) -> None:
    """The launch takes some ten milliseconds; the node dies at different points of it."""
    for attempt in range(8):
        node = DoomedNode(tmp_path, limiter, f"a-{attempt}=sleep 600", f"b-{attempt}=sleep 600")
        node.wait_launched()
        time.sleep(attempt * 0.003)  # the fault is the moment
        node.kill()
        await SandboxExecutor(sandbox).sweep([])
        await wait_until(lambda node=node: process_tree.start_time(node.launcher) == 0)  # type: ignore[misc]
        await SandboxExecutor(sandbox).sweep([])
        assert not list((settings.state_directory / "runs").iterdir())
        assert not sandbox.groups_of_nobody()


async def test_a_handle_of_another_process_is_not_believed(sandbox: Sandbox, tmp_path: Path, limiter: str) -> None:
    node = DoomedNode(tmp_path, limiter, "a-1=sleep 600")
    node.wait_started("a-1")
    node.kill()
    handle = f"{os.getpid()}:{process_tree.start_time(os.getpid())}"
    assert await SandboxExecutor(sandbox).adopt("a-1", TASK, tmp_path / "jobs/a-1", handle) is None
    await wait_until(lambda: is_gone(node.handles["a-1"]))
