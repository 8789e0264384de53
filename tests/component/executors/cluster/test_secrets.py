"""How a task on a cluster gets its secrets: on an engine whose jobs are processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from dms.executors.cluster.files import RunDirectory, Spec
from dms.executors.cluster.handover import Keyhole, seal
from dms.testing.executor_contract import PATIENCE_S, RunWatcher, ending_of, events_of, output_of
from dms_actors.ports import Exited
from dms_proto.errors import UserError
from dms_proto.secrets import OpenSecret, Secret
from dms_proto.work import EndReason, Limits, Task

from .conftest import OnProcesses

pytestmark = pytest.mark.slow


@pytest.fixture
def value() -> str:
    return f"value-{uuid4().hex}"


def shell(text: str) -> Task:
    """A task with a secret that is a file and one that is a variable."""
    sealed = (Secret("KEY", b"sealed to the node"), Secret("TOKEN", b"likewise", variable=True))
    return Task("sandbox", ("/bin/sh", "-c", text), limits=Limits(wall_ms=60_000), secrets=sealed)


def opened(value: str) -> list[OpenSecret]:
    return [OpenSecret("KEY", value.encode()), OpenSecret("TOKEN", value.encode()[::-1], variable=True)]


def written(root: Path, value: str) -> list[Path]:
    """The files below a directory in which it stands, forwards or backwards."""
    wanted = value.encode(), value.encode()[::-1]
    files = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in files if any(each in path.read_bytes() for each in wanted)]


async def test_the_job_has_them_and_no_file_that_machines_share(
    there: OnProcesses, directory: Path, value: str, tmp_path: Path
) -> None:
    task = shell('cat /run/secrets/KEY; printf "%s" "$TOKEN" | rev; while [ ! -e go ]; do sleep 0.05; done')
    watcher = RunWatcher(await there.node().run("a-1", task, directory, opened(value)))
    await watcher.wait_output(2 * value.encode())
    shared = RunDirectory(there.cluster.runs_directory / "a-1")

    found = [path.name for path in written(tmp_path, value)]
    assert sorted(found) == ["a-1.stdout", "stdout"], "what the job itself has written, and nothing else"
    assert not shared.take_secrets()
    spec = shared.spec()
    assert spec is not None
    assert spec.task is not None
    assert not any(secret.sealed for secret in spec.task.secrets)
    (directory / "go").touch()
    assert (await watcher.ending()).reason is EndReason.COMPLETED


async def test_what_waited_while_its_node_was_restarted_has_them_too(
    there: OnProcesses, directory: Path, value: str
) -> None:
    there.engine.holds = True
    task = shell("cat /run/secrets/KEY")
    first = RunWatcher(await there.node().run("a-1", task, directory, opened(value)))
    await first.wait_for(bool)
    first.abandon()
    await there.cluster.close()
    there.engine.start(there.cluster.name_of("a-1"))

    run = await there.node().adopt("a-1", task, directory, "", lambda: opened(value))

    assert run is not None
    assert output_of(await events_of(run), "stdout") == value.encode()


async def test_what_cannot_be_opened_any_more_begins_nothing(there: OnProcesses, directory: Path, value: str) -> None:
    there.engine.holds = True
    task = shell("touch ran")
    first = RunWatcher(await there.node().run("a-1", task, directory, opened(value)))
    await first.wait_for(bool)
    first.abandon()
    await there.cluster.close()
    there.engine.start(there.cluster.name_of("a-1"))

    def cannot() -> list[OpenSecret]:
        raise UserError("bad_job", "the secret KEY was not sealed for this node")

    run = await there.node().adopt("a-1", task, directory, "", cannot)
    assert run is not None
    ending = await ending_of(run)

    assert (ending.reason, ending.detail) == (
        EndReason.BAD_PROGRAM,
        "the secret KEY was not sealed for this node [bad_job]",
    )
    await there.engine.until_over(there.cluster.name_of("a-1"))
    assert not (directory / "ran").exists()


async def test_a_run_that_waits_for_them_can_be_stopped(there: OnProcesses, directory: Path, value: str) -> None:
    executor = there.node()
    run = await executor.run("a-1", shell("touch ran"), directory, opened(value))
    files = RunDirectory(there.cluster.runs_directory / "a-1")
    async with asyncio.timeout(PATIENCE_S):
        while not files.key():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)

    await run.stop(0)
    events = [event async for event in run.events()]

    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.CANCELLED
    assert not (directory / "ran").exists()


async def test_those_of_another_run_or_for_another_runner_begin_nothing(there: OnProcesses, directory: Path) -> None:
    """As if somebody who can write to the shared directory had exchanged them."""
    await there.proven_node()
    for name, key in (("a-2", None), ("a-1", Keyhole().public)):
        files = RunDirectory(there.cluster.runs_directory / "a-1")
        files.create(Spec("a-1", there.cluster.unreserved, shell("touch ran"), str(directory)))
        files.keep_id("a-1")
        process = await asyncio.create_subprocess_exec(
            there.python, "-m", "dms.executors.cluster.runner", str(files.path)
        )
        async with asyncio.timeout(PATIENCE_S):
            while not files.key():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)
            files.give_secrets(seal(name, opened("value"), key or files.key()))
            await process.wait()
        (last,) = files.new_events()
        assert isinstance(last, Exited)
        assert last.ending.reason is EndReason.PROVIDER_FAULT
        assert "sealed for" in last.ending.detail
    assert not (directory / "ran").exists()
