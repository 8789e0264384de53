"""Programs that try to take more than they were given, with cgroups and without."""

# ruff: noqa: ASYNC240, PTH116 - a test looks at the machine directly

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor
from dms.executors.limiter import process_tree
from dms.executors.sandbox.program import Program
from dms.executors.sandbox.run import SandboxRun
from dms.testing.executor_contract import RunWatcher, ending_of, events_of, output_of, sweep_all
from dms.testing.marked import marked
from dms_actors.ports import Exited
from dms_proto.capability import NOTHING, Meter
from dms_proto.errors import MachineError, UserError
from dms_proto.units import MIB
from dms_proto.work import EndReason, Limits, Task

pytestmark = pytest.mark.slow


PATIENT = Limits(wall_ms=60_000)


@pytest.fixture(params=["strongest", "rlimits"])
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sandbox]:
    settings = ExecutorSettings(tmp_path / "state", limiters=("rlimits",) if request.param == "rlimits" else ())
    sandbox = Sandbox(settings)
    try:
        sandbox.start()
    except MachineError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    if request.param == "strongest" and sandbox.limiter.name == "rlimits":
        pytest.skip("this machine has no cgroups for us")
    yield sandbox
    await sandbox.close()
    await sweep_all(settings)


@pytest.fixture
def executor(sandbox: Sandbox) -> SandboxExecutor:
    return SandboxExecutor(sandbox)


def shell(text: str, limits: Limits = PATIENT, **resources: int) -> Task:
    return Task(
        "sandbox", ("/bin/sh", "-c", text), resources=msgspec.structs.replace(NOTHING, **resources), limits=limits
    )


def python(text: str, **resources: int) -> Task:
    if not any(Path(place, "python3").exists() for place in ("/usr/bin", "/usr/local/bin")):
        pytest.skip("no python3 below /usr to run inside")
    return Task("sandbox", ("python3", "-I", "-c", text), resources=msgspec.structs.replace(NOTHING, **resources))


async def test_one_process_over_its_memory_is_out_of_memory(executor: SandboxExecutor, directory: Path) -> None:
    task = python("x = [bytearray(1 << 20) for _ in range(400)]; import time; time.sleep(60)", memory_bytes=96 * MIB)
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert ending.reason is EndReason.OUT_OF_MEMORY
    assert "limit 96 MiB" in ending.detail


async def test_children_together_over_the_memory_are_out_of_memory(executor: SandboxExecutor, directory: Path) -> None:
    hog = "b = bytearray(40 << 20); b[::4096] = b'x' * len(b[::4096]); import time; time.sleep(60)"
    task = python(f"import os\nfor _ in range(6):\n if not os.fork():\n  {hog}\nos.wait()", memory_bytes=128 * MIB)
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert ending.reason is EndReason.OUT_OF_MEMORY
    assert ending.usage.memory_peak_bytes > 100 * MIB


async def test_a_fork_bomb_stays_within_its_processes(
    executor: SandboxExecutor, sandbox: Sandbox, directory: Path
) -> None:
    # The shell lights it in a child: were it to make the bomb's first pipe itself, the bomb could take the last process from it.
    bomb = "bomb() { bomb | bomb & }; bomb 2>/dev/null & printf lit; exec sleep 60"
    watcher = RunWatcher(await executor.run("a-1", shell(bomb, Limits(wall_ms=60_000, processes=20)), directory))
    pid = int((await watcher.wait_started()).split(":")[0])
    await watcher.wait_output(b"lit")
    # A walk over a tree that changes counts those that ended meanwhile and those that took their places: of several, the least is right.
    assert min(len(process_tree.descendants(pid)) for _ in range(50)) <= 20 + 2
    await watcher.run.stop(0)
    assert (await watcher.ending()).reason is EndReason.CANCELLED
    assert process_tree.start_time(pid) == 0


async def test_threads_count_as_processes(executor: SandboxExecutor, directory: Path) -> None:
    text = "import threading, time\nfor n in range(40):\n threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    task = Task("sandbox", python(text).command, limits=Limits(wall_ms=60_000, processes=16))
    events = await events_of(await executor.run("a-1", task, directory))
    assert b"can't start new thread" in output_of(events, "stderr")


async def test_a_large_file_is_over_the_disk_limit(executor: SandboxExecutor, directory: Path) -> None:
    task = shell("head -c 200000000 /dev/zero > big", disk_bytes=20 * MIB)
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert ending.reason is EndReason.DISK_LIMIT
    assert "limit" in ending.detail or "over 20 MiB" in ending.detail
    assert sum(path.stat().st_size for path in directory.iterdir()) <= 21 * MIB


@pytest.mark.parametrize(
    "fill",
    ["head -c 8000000 /dev/zero > big", "for n in 1 2 3 4 5 6 7 8; do head -c 1000000 /dev/zero > $n; done"],
    ids=["one file", "many files"],
)
async def test_a_job_that_is_over_before_anybody_has_looked_is_over_the_disk_limit(
    executor: SandboxExecutor, directory: Path, fill: str
) -> None:
    ending = await ending_of(await executor.run("a-1", shell(fill, disk_bytes=MIB), directory))
    assert ending.reason is EndReason.DISK_LIMIT
    assert "limit 1 MiB" in ending.detail


async def test_many_files_together_are_over_the_disk_limit(executor: SandboxExecutor, directory: Path) -> None:
    fill = "mkdir deep; i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > deep/$i; sleep 0.01; done"
    ending = await ending_of(await executor.run("a-1", shell(fill, disk_bytes=20 * MIB), directory))
    assert ending.reason is EndReason.DISK_LIMIT
    assert "limit 20 MiB" in ending.detail


async def test_a_directory_made_unreadable_still_counts(executor: SandboxExecutor, directory: Path) -> None:
    fill = "mkdir hidden && cd hidden && for i in 1 2 3; do head -c 9000000 /dev/zero > $i; done; chmod 0 ../hidden; sleep 60"
    ending = await ending_of(await executor.run("a-1", shell(fill, disk_bytes=20 * MIB), directory))
    assert ending.reason is EndReason.DISK_LIMIT
    assert len(list((directory / "hidden").iterdir())) == 3, "the node can read it afterwards"


async def test_files_deleted_but_held_open_still_count(executor: SandboxExecutor, directory: Path) -> None:
    fill = (
        "import os, time\nheld = []\nfor n in range(8):\n"
        " f = open(str(n), 'wb', 0); f.write(bytes(4 << 20)); os.unlink(str(n)); held.append(f)\ntime.sleep(60)"
    )
    ending = await ending_of(
        await executor.run("a-1", python(fill, disk_bytes=20 * MIB, memory_bytes=200 * MIB), directory)
    )
    assert ending.reason is EndReason.DISK_LIMIT


async def test_scratch_space_is_capped(executor: SandboxExecutor, directory: Path) -> None:
    task = shell("head -c 200000000 /dev/zero > /tmp/big || exit 9", memory_bytes=200 * MIB, disk_bytes=500 * MIB)
    events = await events_of(await executor.run("a-1", task, directory))
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.exit_code == 9
    assert b"No space left" in output_of(events, "stderr")


async def test_a_gigabyte_of_output_is_cut_off(executor: SandboxExecutor, directory: Path, sandbox: Sandbox) -> None:
    task = shell("exec head -c 1000000000 /dev/zero", Limits(wall_ms=60_000, log_bytes=3 * MIB), disk_bytes=32 * MIB)
    watcher = RunWatcher(await executor.run("a-1", task, directory))
    log = sandbox.settings.state_directory / "runs" / "a-1.stdout"
    ending = await watcher.ending()
    assert ending.reason in (EndReason.OUTPUT_LIMIT, EndReason.DISK_LIMIT)
    assert len(output_of(watcher.events, "stdout")) == 3 * MIB
    assert not log.exists()


async def test_a_result_that_goes_on_and_on_is_output(
    executor: SandboxExecutor, sandbox: Sandbox, directory: Path
) -> None:
    """A job may hold its descriptor: the file is not in its directory, so the disk limit does not see it."""
    command = ("/bin/sh", "-c", "head -c 1000000000 /dev/zero >&$0; sleep 60", "{result}")
    program = Program("sandbox", command, {}, judge=lambda ending, _: ending)
    task = shell("", Limits(wall_ms=60_000, log_bytes=3 * MIB), disk_bytes=32 * MIB)
    ending = await ending_of(await sandbox.run("a-1", task, program, directory))
    assert ending.reason is EndReason.OUTPUT_LIMIT


async def test_the_output_file_never_outgrows_the_reservation(
    executor: SandboxExecutor, directory: Path, sandbox: Sandbox
) -> None:
    """Even when the node is not looking: the kernel's file size limit stands behind the node's own."""
    task = shell("exec head -c 1000000000 /dev/zero", Limits(wall_ms=60_000, log_bytes=3 * MIB), disk_bytes=32 * MIB)
    run = await executor.run("a-1", task, directory)
    largest = 0
    async for _ in run.events():
        largest = max(largest, os.stat(sandbox.settings.state_directory / "runs" / "a-1.stdout").st_size)
    assert 3 * MIB < largest <= 32 * MIB


async def test_a_daemon_left_behind_is_gone_at_the_end(executor: SandboxExecutor, directory: Path) -> None:
    mark = uuid4().hex
    stays = f"setsid sh -c 'sleep 599; :' {mark}"
    watcher = RunWatcher(await executor.run("a-1", shell(f"({stays} &) ; (setsid -f {stays}); printf left"), directory))
    ending = await watcher.ending()
    assert ending.reason is EndReason.COMPLETED
    assert output_of(watcher.events, "stdout") == b"left"
    assert not marked(mark)


async def test_processor_time_is_capped_where_cgroups_are_and_metered_everywhere(
    executor: SandboxExecutor, sandbox: Sandbox, directory: Path
) -> None:
    task = shell("while :; do :; done", Limits(wall_ms=1_000), cpu_millicores=250)
    ending = await ending_of(await executor.run("a-1", task, directory))
    assert ending.reason is EndReason.WALL_TIME
    assert ending.usage.cpu_us > 50_000
    if "cpu" in sandbox.limiter.enforces:
        assert ending.usage.cpu_us < 0.5 * ending.usage.wall_ms * 1000


async def test_what_gives_way_has_the_time_that_another_on_its_core_leaves_until_it_is_to_end(
    executor: SandboxExecutor, sandbox: Sandbox, tmp_path: Path
) -> None:
    if sandbox.limiter.name == "rlimits":
        pytest.skip("without control groups nothing gives way by weight")
    saves = "trap 'i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; exit 85' TERM; while :; do :; done"
    gives, burns = [
        await _on_one_core(executor, tmp_path / "a-1", saves, gives_way=True),
        await _on_one_core(executor, tmp_path / "a-2", "while :; do :; done", gives_way=False),
    ]
    first = _used_us(gives), _used_us(burns)
    async with asyncio.timeout(60):
        while (used := _used_us(burns) - first[1]) < 400_000:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
    assert _used_us(gives) - first[0] < used // 4

    await gives.run.stop(60_000)
    assert (await gives.ending()).exit_code == 85, "it had time to save what it has done"
    await burns.run.stop(0)
    await burns.ending()


async def _on_one_core(executor: SandboxExecutor, directory: Path, script: str, *, gives_way: bool) -> RunWatcher:
    directory.mkdir()
    task = shell(script, cpu_millicores=1000)
    watcher = RunWatcher(await executor.run(directory.name, task, directory, gives_way=gives_way))
    inside = process_tree.descendants(int((await watcher.wait_started()).split(":")[0]))
    for pid in inside:
        os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
    return watcher


def _used_us(watcher: RunWatcher) -> int:
    assert isinstance(watcher.run, SandboxRun)
    return watcher.run.place.group.read().cpu_us


async def test_processor_time_of_orphans_is_metered(
    executor: SandboxExecutor, sandbox: Sandbox, directory: Path
) -> None:
    burn = "i=0; while [ $i -lt {} ]; do i=$((i+1)); done"
    # The orphan ends first: without a cgroup what is killed at the end of the sandbox is not counted (a lower bound).
    task = shell(f"(setsid sh -c '{burn.format(400_000)}; : > over' &); while [ ! -e over ]; do sleep 0.02; done")
    ending = await ending_of(await executor.run("a-1", task, directory))
    quarter = await ending_of(await executor.run("a-2", shell(burn.format(100_000)), directory))
    assert ending.reason is EndReason.COMPLETED
    assert ending.usage.cpu_us > quarter.usage.cpu_us  # also when the machine is half as fast the second time
    assert ending.usage.meter is sandbox.limiter.meter
    assert ending.usage.meter in (Meter.EXACT, Meter.LOWER_BOUND)


async def test_what_is_left_in_the_directory_belongs_to_the_node(executor: SandboxExecutor, directory: Path) -> None:
    leave = "mkfifo pipe; ln -s /etc/shadow link; mkdir -p a/b; echo x > a/b/f; cp /usr/bin/env suid; chmod 6755 suid; ln a/b/f hard; chmod 0 a"
    ending = await ending_of(await executor.run("a-1", shell(leave), directory))
    assert ending.reason is EndReason.COMPLETED
    for path in (directory, *directory.rglob("*")):
        assert path.lstat().st_uid == os.geteuid()
    assert (directory / "a/b/f").read_text() == "x\n"
    assert (directory / "suid").stat().st_mode & 0o7000 == 0


async def test_a_run_gets_other_limits_while_it_runs(
    executor: SandboxExecutor, sandbox: Sandbox, directory: Path
) -> None:
    wait = "import os, time\nprint('up', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    task = python(f"{wait}x = b'x' * (96 << 20); print('held', flush=True); time.sleep(60)", memory_bytes=64 * MIB)
    watcher = RunWatcher(await executor.run("a-1", task, directory))
    await watcher.wait_output(b"up")
    larger = msgspec.structs.replace(task.resources, cpu_millicores=500, memory_bytes=256 * MIB)
    if "memory" not in sandbox.limiter.enforces:
        with pytest.raises(UserError, match="without control groups"):
            await watcher.run.resize(larger)
    else:
        await watcher.run.resize(larger)
        (directory / "go").touch()
        await watcher.wait_output(b"held")
        with pytest.raises(UserError, match="of memory are in use"):
            await watcher.run.resize(task.resources)
        await watcher.run.resize(msgspec.structs.replace(larger, memory_bytes=192 * MIB))
    await watcher.run.stop(0)
    assert (await watcher.ending()).reason is EndReason.CANCELLED
    with pytest.raises(UserError, match="does not run"):
        await watcher.run.resize(larger)
