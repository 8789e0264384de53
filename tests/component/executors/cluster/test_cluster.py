"""What a cluster's executors owe the node beyond the contract, on an engine whose jobs are processes."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from uuid import uuid4

import msgspec
import psutil
import pytest

from dms.testing.executor_contract import PATIENCE_S, RunWatcher, ending_of, events_of, output_of
from dms.testing.marked import marked
from dms_actors.ports import Preparing
from dms_proto.capability import Resources
from dms_proto.errors import MachineError
from dms_proto.siblings import Names
from dms_proto.units import CORE, MIB
from dms_proto.work import PORT_AGENT_BYTES, EndReason, ExecBy, Task

from .conftest import OnProcesses

pytestmark = pytest.mark.slow


def shell(text: str, *arguments: str) -> Task:
    return Task("sandbox", ("/bin/sh", "-c", text, "sh", *arguments))


async def test_a_job_that_the_engine_starts_again_is_not_run_again(there: OnProcesses, directory: Path) -> None:
    task = shell("echo once >> runs; while [ ! -e go ]; do sleep 0.05; done")
    watcher = RunWatcher(await there.node().run("a-1", task, directory))
    await watcher.wait_started()

    there.engine.start(there.cluster.name_of("a-1"))
    await there.engine.until_over(there.cluster.name_of("a-1"))
    (directory / "go").touch()

    assert (await watcher.ending()).reason is EndReason.COMPLETED
    assert (directory / "runs").read_text() == "once\n"


async def test_a_runner_that_is_killed_takes_its_sandbox_along_and_the_run_is_lost(
    there: OnProcesses, directory: Path
) -> None:
    mark = uuid4().hex
    watcher = RunWatcher(await there.node().run("a-1", shell("while :; do sleep 1; done", mark), directory))
    await watcher.wait_started()
    inside = marked(mark)
    assert inside
    there.engine.signal(there.cluster.name_of("a-1"), signal.SIGKILL)

    ending = await watcher.ending()

    assert ending.reason is EndReason.PROVIDER_FAULT
    assert ending.detail.startswith("processes knows job")
    assert ending.detail.endswith("its runner said nothing of an end")
    _, alive = await asyncio.to_thread(psutil.wait_procs, inside, PATIENCE_S)
    assert not alive


async def test_a_task_whose_processes_the_engine_tells_to_end_before_its_runner_was_stopped_by_the_provider(
    there: OnProcesses, directory: Path
) -> None:
    mark = uuid4().hex
    watcher = RunWatcher(await there.node().run("a-1", shell("echo up; while :; do sleep 1; done", mark), directory))
    await watcher.wait_output(b"up\n")
    (inside,) = [process for process in marked(mark) if process.name() in {"sh", "bash", "dash"}]
    inside.terminate()
    there.engine.signal(there.cluster.name_of("a-1"), signal.SIGTERM)

    assert (await watcher.ending()).reason is EndReason.PROVIDER_STOPPED


async def test_a_task_that_ends_itself_was_not_stopped_by_the_provider(there: OnProcesses, directory: Path) -> None:
    ending = await ending_of(await there.node().run("a-1", shell("kill -TERM $$"), directory))
    assert ending.reason is EndReason.KILLED_BY_SIGNAL


async def test_a_run_that_ended_with_its_engine_is_lost_though_the_engine_stays_away(
    there: OnProcesses, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = RunWatcher(await there.node().run("a-1", shell("echo up; exec sleep 600"), directory))
    await watcher.wait_output(b"up\n")
    there.engine.is_away = True
    there.engine.signal(there.cluster.name_of("a-1"), signal.SIGKILL)
    monkeypatch.setattr("dms.executors.cluster.run.SILENT_S", 0.0)

    ending = await watcher.ending()

    assert ending.reason is EndReason.PROVIDER_FAULT
    assert ending.detail.startswith("processes does not answer, and the runner of job")


async def test_what_a_killed_runner_left_on_its_machine_is_removed_by_the_next(
    there: OnProcesses, directory: Path
) -> None:
    executor = there.node()
    watcher = RunWatcher(await executor.run("a-1", shell("echo mine; exec sleep 600"), directory))
    await watcher.wait_output(b"mine\n")
    there.engine.signal(there.cluster.name_of("a-1"), signal.SIGKILL)
    await watcher.ending()
    assert [path.name for path in there.kept()] == [there.cluster.name_of("a-1")]

    assert (await ending_of(await executor.run("a-2", shell("true"), directory))).reason is EndReason.COMPLETED

    await there.engine.until_over(there.cluster.name_of("a-2"))
    assert not there.kept()


async def test_a_machine_that_can_do_less_than_was_promised_runs_nothing(there: OnProcesses, directory: Path) -> None:
    executor = there.node()
    offer = await executor.probe()
    executor.promise(msgspec.structs.replace(offer, limits=(*offer.limits, "gravity")))

    ending = await ending_of(await executor.run("a-1", shell("touch ran"), directory))

    assert ending.reason is EndReason.PROVIDER_FAULT
    assert "cannot hold what was promised: no hard limit of gravity" in ending.detail
    assert not (directory / "ran").exists()


async def test_what_waits_is_found_again_by_the_next_node(there: OnProcesses, directory: Path) -> None:
    there.engine.holds = True
    task = shell("echo hello")
    first = RunWatcher(await there.node().run("a-1", task, directory))
    await first.wait_for(bool)
    assert first.events == [Preparing("it waits in the queue of processes: Resources")]
    first.abandon()
    await there.cluster.close()

    run = await there.node().adopt("a-1", task, directory, "")
    assert run is not None
    there.engine.start(there.cluster.name_of("a-1"))

    assert output_of(await events_of(run), "stdout") == b"hello\n"


async def test_a_runner_takes_what_the_task_reserved_and_some_for_itself(there: OnProcesses, directory: Path) -> None:
    task = msgspec.structs.replace(shell("true"), resources=Resources(1_500, 300 * MIB))
    await ending_of(await there.node().run("a-1", task, directory))

    (order,) = there.engine.orders.values()
    assert order.resources == Resources(1_500, 460 * MIB)
    assert order.wall_ms > task.limits.wall_ms + task.limits.grace_ms


async def test_what_was_proven_earlier_is_offered_while_the_engine_is_away(there: OnProcesses) -> None:
    there.engine.is_away = True
    with pytest.raises(MachineError, match="nobody answers"):
        await there.node().probe()
    there.engine.is_away = False
    offer = await there.node().probe()
    there.engine.is_away = True

    assert await there.node().probe() == offer
    assert there.cluster.fault == "nobody answers"
    assert there.cluster.known is not None
    assert there.cluster.known.capacity.whole.cpu_millicores == 4 * CORE


@pytest.mark.parametrize(
    ("python", "why"),
    [("/no/such/python", "No such file"), ("/bin/echo", "the runner failed: -m dms.executors.cluster.runner")],
)
async def test_a_runner_that_cannot_be_started_is_said_in_its_own_words(
    there: OnProcesses, python: str, why: str
) -> None:
    assert there.settings.cluster is not None
    cluster = msgspec.structs.replace(there.settings.cluster, python=python)
    there.settings = msgspec.structs.replace(there.settings, cluster=cluster)

    with pytest.raises(MachineError, match=why) as error:
        await there.node().probe()
    assert "executors.cluster_python" in error.value.hint


async def test_a_shared_directory_that_is_not_there_is_not_made(there: OnProcesses) -> None:
    there.shared.rmdir()
    with pytest.raises(MachineError, match="is not a directory of this machine"):
        await there.node().probe()
    assert not there.shared.exists()


async def test_nothing_is_placed_where_another_user_could_speak_for_a_runner(
    there: OnProcesses, directory: Path
) -> None:
    """Who can write to the node's place can have a runner start what they like, and the secrets of runs sealed to themselves."""
    executor = await there.proven_node()
    place = there.cluster.runs_directory.parent
    assert place.stat().st_mode & 0o777 == 0o700
    there.engine.orders.clear()

    place.chmod(0o770)
    ending = await ending_of(await executor.run("a-1", shell("true"), directory))
    with pytest.raises(MachineError, match="is not a directory of this user alone") as refused:
        await there.node().probe()

    assert (ending.reason, there.engine.orders) == (EndReason.PROVIDER_FAULT, {})
    assert "executors.cluster_directory" in refused.value.hint
    place.chmod(0o700)


async def test_a_shared_directory_in_which_others_can_rename_is_refused(there: OnProcesses) -> None:
    there.shared.chmod(0o777)
    with pytest.raises(MachineError, match="others can rename what is in"):
        await there.node().probe()
    assert not any(there.shared.iterdir())
    there.shared.chmod(0o1777)
    await there.proven_node()


async def test_what_wants_company_is_not_placed_where_no_machine_reaches_the_node(
    there: OnProcesses, directory: Path
) -> None:
    assert there.settings.cluster is not None
    cluster = msgspec.structs.replace(there.settings.cluster, address=None)
    there.settings = msgspec.structs.replace(there.settings, cluster=cluster)
    executor = await there.proven_node()
    there.engine.orders.clear()

    assert executor.closed.endswith("what runs there is not reached: executors.cluster_address is not set")
    for changes in ({"ports": (80,)}, {"exec": ExecBy.REQUESTER}, {"names": Names(0, 2)}):
        ending = await ending_of(
            await executor.run("a-1", msgspec.structs.replace(shell("true"), **changes), directory)
        )
        assert (ending.reason, ending.detail) == (EndReason.PROVIDER_FAULT, executor.closed)
    assert not there.engine.orders


async def test_what_is_beside_a_task_is_asked_of_the_engine_too(there: OnProcesses, directory: Path) -> None:
    task = msgspec.structs.replace(shell("true"), resources=Resources(1_000, 100 * MIB), ports=(80,))
    await ending_of(await (await there.proven_node()).run("a-1", task, directory))

    order = there.engine.orders[there.cluster.name_of("a-1")]
    assert order.resources.memory_bytes == 260 * MIB + PORT_AGENT_BYTES


async def test_what_the_trial_run_has_proven_its_machine_need_not_prove_again(
    there: OnProcesses, directory: Path
) -> None:
    executor = await there.proven_node()
    (proof,) = there.scratch.glob("dms-*/proof-*.json")
    before = proof.stat().st_mtime_ns

    assert (await ending_of(await executor.run("a-1", shell("true"), directory))).reason is EndReason.COMPLETED

    assert proof.stat().st_mtime_ns == before
