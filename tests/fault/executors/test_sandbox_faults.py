"""The machine lacks something, or somebody kills a part of the sandbox."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor, detect
from dms.executors.limiter import process_tree
from dms.testing.executor_contract import RunWatcher, ending_of, events_of, sweep_all
from dms_actors.ports import Exited
from dms_proto.errors import MachineError
from dms_proto.work import Ending, EndReason, Task

SLEEP = Task("sandbox", ("sleep", "600"))


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    settings = ExecutorSettings(tmp_path / "state")
    sandbox = Sandbox(settings)
    try:
        sandbox.start()
    except MachineError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    yield sandbox
    await sandbox.close()
    await sweep_all(settings)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "job"
    directory.mkdir(mode=0o700)
    return directory


def monitor_of(handle: str) -> int:
    return process_tree.parent(int(handle.partition(":")[0]))


async def test_without_bubblewrap_every_executor_says_what_to_install(tmp_path: Path) -> None:
    found = await detect(ExecutorSettings(tmp_path / "state", bwrap=str(tmp_path / "bwrap")))
    await found.close()
    assert found.available == []
    assert [gone.name for gone in found.unavailable] == ["sandbox", "wasm", "python"]
    for gone in found.unavailable:
        assert gone.error.code == "executor_unavailable"
        assert "apt-get install bubblewrap" in gone.error.hint


@pytest.mark.parametrize(
    ("complaint", "hint"),
    [
        ("bwrap: setting up uid map: Permission denied", "allow user namespaces"),
        ("bwrap: Unknown option --disable-userns", "older than 0.8"),
    ],
)
async def test_a_bubblewrap_that_may_not_make_namespaces_is_reported_with_the_fix(
    tmp_path: Path, complaint: str, hint: str
) -> None:
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir(mode=0o755)
    fake.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit\necho "{complaint}" >&2\nexit 1\n'
    )
    fake.chmod(0o755)
    found = await detect(ExecutorSettings(tmp_path / "state", bwrap=str(fake)))
    await found.close()
    assert found.available == []
    error = found.unavailable[0].error
    assert complaint in error.message
    assert hint in error.hint


async def test_a_state_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = await detect(ExecutorSettings(tmp_path / "file" / "state"))
    await found.close()
    assert {gone.error.code for gone in found.unavailable} == {"executor_unavailable"}


async def test_a_killed_launcher_is_replaced_and_its_runs_go_on(
    sandbox: Sandbox, directory: Path, tmp_path: Path
) -> None:
    executor = SandboxExecutor(sandbox)
    first = RunWatcher(await executor.run("a-1", SLEEP, directory))
    handle = await first.wait_started()
    os.kill(sandbox.launcher_pid, signal.SIGKILL)
    (tmp_path / "second").mkdir(mode=0o700)
    endings: list[Ending] = []
    while not endings or endings[-1].reason is EndReason.PROVIDER_FAULT:  # one start may be lost with the launcher
        endings.append(
            await ending_of(
                await executor.run(f"a-{2 + len(endings)}", Task("sandbox", ("true",)), tmp_path / "second")
            )
        )
        assert len(endings) < 4
    assert endings[-1].reason is EndReason.COMPLETED
    assert process_tree.start_time(int(handle.partition(":")[0]))
    await first.run.stop(0)
    assert (await first.ending()).reason is EndReason.CANCELLED


async def test_a_killed_bubblewrap_is_the_providers_fault_and_leaves_nothing(sandbox: Sandbox, directory: Path) -> None:
    watcher = RunWatcher(await SandboxExecutor(sandbox).run("a-1", SLEEP, directory))
    handle = await watcher.wait_started()
    os.kill(monitor_of(handle), signal.SIGKILL)
    ending = await watcher.ending()
    assert ending.reason is EndReason.PROVIDER_FAULT
    assert process_tree.start_time(int(handle.partition(":")[0])) == 0


async def test_a_job_directory_that_is_gone_is_the_providers_fault(sandbox: Sandbox, tmp_path: Path) -> None:
    ending = await ending_of(await SandboxExecutor(sandbox).run("a-1", SLEEP, tmp_path / "nowhere"))
    assert ending.reason is EndReason.PROVIDER_FAULT
    assert ending.detail
    assert not sandbox.groups_of_nobody()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Task("sandbox", ()), "empty"),
        (Task("sandbox", ("echo", "a\0b")), "zero byte"),
        (Task("sandbox", ("true",), environment={"A=B": "c"}), "name"),
        (Task("sandbox", ("x" * 200_000,)), "too long"),
        (Task("sandbox", ("/job",)), "Permission denied"),
        (Task("sandbox", ("/job/no-such",)), "No such file"),
    ],
)
async def test_a_task_that_can_never_start_is_a_bad_program(
    sandbox: Sandbox, directory: Path, task: Task, words: str
) -> None:
    events = await events_of(await SandboxExecutor(sandbox).run("a-1", task, directory))
    assert len(events) == 1, "it never started"
    assert isinstance(events[0], Exited)
    assert events[0].ending.reason is EndReason.BAD_PROGRAM
    assert words in events[0].ending.detail


async def test_a_name_that_is_no_plain_name_is_refused(sandbox: Sandbox, directory: Path) -> None:
    ending = await ending_of(await SandboxExecutor(sandbox).run("../a-1", SLEEP, directory))
    assert ending.reason is EndReason.PROVIDER_FAULT


async def test_a_hundred_runs_leave_no_descriptor_process_or_group(sandbox: Sandbox, tmp_path: Path) -> None:
    async def one(number: int) -> None:
        directory = tmp_path / f"job-{number}"
        directory.mkdir(mode=0o700)
        task = Task("sandbox", ("sh", "-c", f"exit {number % 7}"))
        assert (
            await ending_of(await SandboxExecutor(sandbox).run(f"a-{number}", task, directory))
        ).exit_code == number % 7

    await one(0)
    before = await resting(sandbox)
    for first in range(1, 101, 10):
        await asyncio.gather(*(one(number) for number in range(first, first + 10)))
    assert await resting(sandbox) == before
    assert not sandbox.groups_of_nobody()
    assert not list((sandbox.settings.state_directory / "runs").iterdir())


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


async def resting(sandbox: Sandbox) -> tuple[int, int, int]:
    """Descriptors of this process and of the launcher, and the launcher's children, once they do not change any more."""
    steady, last = 0, (0, 0, 0)
    async with asyncio.timeout(30):
        while steady < 20:
            await asyncio.sleep(0.01)
            launcher = sandbox.launcher_pid
            now = open_descriptors(os.getpid()), open_descriptors(launcher), len(process_tree.children(launcher))
            steady, last = (steady + 1 if now == last else 0), now
    return last
