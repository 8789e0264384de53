"""Commands beside a job, in a real sandbox: what they have, what they cannot do to anybody, and how they end."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dms.executors import PythonExecutor, Sandbox, SandboxExecutor
from dms.executors.limiter import process_tree
from dms.executors.sandbox import exec_agent
from dms.testing.beside import Beside, let_go
from dms.testing.executor_contract import RunWatcher, events_of, output_of
from dms.testing.market import until
from dms_actors.ports import Exited, Started
from dms_proto.capability import Resources
from dms_proto.errors import UserError
from dms_proto.exec_frames import Kind, frame, size
from dms_proto.secrets import OpenSecret
from dms_proto.units import MIB
from dms_proto.work import PYTHON, EndReason, ExecBy, Limits, Task

pytestmark = pytest.mark.slow
WAITS = "echo up; exec sleep 600"


def job(text: str = WAITS, **changes: object) -> Task:
    fields = {"limits": Limits(wall_ms=60_000), "exec": ExecBy.REQUESTER, **changes}
    return Task("sandbox", ("/bin/sh", "-c", text), **fields)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
async def _let_go() -> AsyncIterator[None]:
    yield
    await let_go()


@asynccontextmanager
async def running(
    sandbox: Sandbox, directory: Path, task: Task | None = None, secrets: tuple[OpenSecret, ...] = ()
) -> AsyncIterator[RunWatcher]:
    """A job that has begun; it is stopped at the end."""
    watcher = RunWatcher(await SandboxExecutor(sandbox).run("a-1", task or job(), directory, secrets))
    await watcher.wait_started()
    await watcher.wait_output(b"up")
    try:
        yield watcher
    finally:
        await watcher.run.stop(0)
        await watcher.ending()


def names_below(watcher: RunWatcher) -> list[str]:
    """What runs in the sandbox."""
    assert isinstance(watcher.events[0], Started)
    inner = int(watcher.events[0].handle.partition(":")[0])
    return [process_tree.name(pid) for pid in process_tree.descendants(inner)]


async def says(watcher: RunWatcher, word: str) -> str:
    """What `echo` says beside it; nothing where there is no room for it now."""
    try:
        return (await (await Beside.run(watcher, "/bin/echo", word)).over())[1]
    except UserError:
        return ""


async def test_a_command_has_pipes_and_its_code_comes_back(sandbox: Sandbox, directory: Path) -> None:
    async with running(sandbox, directory) as watcher:
        command = await Beside.run(watcher, "/bin/sh", "-c", "cat; echo oops >&2; exit 7")
        assert await command.over(b"said\n") == (7, "said\n", "oops\n")
        assert await (await Beside.run(watcher, "/bin/sh", "-c", "kill -9 $$")).over() == (137, "", "")
        assert (await (await Beside.run(watcher, "no-such-program")).over())[0] == exec_agent.NOT_FOUND
        code, _, why = await (await Beside.run(watcher, "/etc")).over()
        assert (code, why) == (exec_agent.NOT_EXECUTABLE, "/etc: Permission denied\n")


async def test_a_command_has_what_the_job_has_and_no_more(sandbox: Sandbox, directory: Path) -> None:
    look = (
        "id -u; pwd; for n in user mnt pid net ipc uts; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; "
        "grep -E '^(Cap|Seccomp|NoNewPrivs)' /proc/self/status; ulimit -a; cat /run/secrets/KEY; echo $NAME; ls /proc/self/fd | wc -l"
    )
    secrets = (OpenSecret("KEY", b"file\n"), OpenSecret("NAME", b"variable", variable=True))
    async with running(sandbox, directory, job(f"({look}) > seen </dev/null; {WAITS}"), secrets) as watcher:
        code, seen, wrong = await (await Beside.run(watcher, "/bin/sh", "-c", f"({look}) </dev/null")).over()
        assert (code, wrong) == (0, "")
        assert seen == (directory / "seen").read_text()
        _, refused, _ = await (await Beside.run(watcher, "/bin/sh", "-c", "unshare -U true || echo refused")).over()
        assert refused == "refused\n"


async def test_a_terminal_has_a_size_that_follows_and_ctrl_c_interrupts(sandbox: Sandbox, directory: Path) -> None:
    async with running(sandbox, directory) as watcher:
        shell = await Beside.run(watcher, "/bin/sh", rows=24)
        shell.writer.write(frame(Kind.INPUT, b"stty size; echo $TERM; tty\n"))
        await shell.until(b"/dev/pts/")
        assert b"24 80\r\nxterm\r\n" in shell.heard[Kind.OUTPUT]
        shell.writer.write(size(50, 132) + frame(Kind.INPUT, b"stty size; echo re''sized\n"))
        await shell.until(b"resized")
        assert b"50 132\r\n" in shell.heard[Kind.OUTPUT]
        shell.writer.write(frame(Kind.INPUT, b"PS1=aw''ake; sh -c \"echo as''leep; exec sleep 600\"\n"))
        await shell.until(b"asleep\r\n")
        shell.writer.write(frame(Kind.INPUT, b"\x03"))
        await shell.until(b"awake")  # an interrupt may take typed input with it
        shell.writer.write(frame(Kind.INPUT, b"exit 9\n"))
        assert (await shell.over())[0] == 9


async def test_a_signal_reaches_a_command_without_a_terminal(sandbox: Sandbox, directory: Path) -> None:
    async with running(sandbox, directory) as watcher:
        command = await Beside.run(
            watcher, "/bin/sh", "-c", "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done"
        )
        await command.until(b"ready")
        command.writer.write(frame(Kind.SIGNAL, b"\x0c") + frame(Kind.SIGNAL, b"\x02"))
        assert (await command.over())[0] == 5


async def test_a_hundred_mebibytes_pass_both_ways_unchanged(sandbox: Sandbox, directory: Path) -> None:
    size_bytes = 100 * MIB
    async with running(sandbox, directory) as watcher:
        there = await Beside.run(watcher, "/bin/sh", "-c", "head -c 104857600 | md5sum")
        piece = bytes(range(256)) * 256
        for _ in range(size_bytes // len(piece)):
            there.writer.write(frame(Kind.INPUT, piece))
            await there.writer.drain()
        whole = hashlib.md5(piece * (size_bytes // len(piece))).hexdigest()
        assert (await there.over())[1] == f"{whole}  -\n"
        back = await Beside.run(
            watcher,
            "/usr/bin/python3",
            "-c",
            f"import sys\nfor _ in range({size_bytes // len(piece)}): sys.stdout.buffer.write(bytes(range(256)) * 256)",
        )
        code, out, _ = await back.over()
        assert (code, len(out)) == (0, size_bytes)


async def test_who_never_reads_holds_up_its_own_command_alone(sandbox: Sandbox, directory: Path) -> None:
    async with running(sandbox, directory) as watcher:
        deaf = [await Beside.run(watcher, "/bin/sh", "-c", "yes") for _ in range(exec_agent.MOST // 2)]
        for _ in range(3):
            assert await (await Beside.run(watcher, "/bin/echo", "still here")).over() == (0, "still here\n", "")
        for each in deaf:
            each.writer.transport.abort()


async def test_more_than_the_most_are_told_to_try_again(sandbox: Sandbox, directory: Path) -> None:
    async with running(sandbox, directory) as watcher:
        held = [await Beside.run(watcher, "/bin/cat") for _ in range(exec_agent.MOST)]
        with pytest.raises(UserError, match="8 commands beside it already") as caught:
            await Beside.run(watcher, "/bin/true")
        assert caught.value.retryable
        assert (await held.pop().over(b"x"))[1] == "x"
        await until(lambda: says(watcher, "in"), lambda said: said == "in\n")
        for each in held:
            each.writer.transport.abort()


@pytest.mark.parametrize("rows", [0, 24], ids=["with pipes", "with a terminal"])
async def test_a_command_is_ended_when_who_asked_for_it_goes(sandbox: Sandbox, directory: Path, rows: int) -> None:
    """Also one that wants to go on."""
    async with running(sandbox, directory) as watcher:
        command = await Beside.run(watcher, "/bin/sh", "-c", "trap '' HUP; echo ready; sleep 600", rows=rows)
        await command.until(b"ready")
        await until(lambda: names_below(watcher).count("sleep"), lambda count: count == 2)
        command.writer.transport.abort()
        await until(lambda: names_below(watcher).count("sleep"), lambda count: count == 1)


async def test_words_that_make_no_sense_end_the_command(sandbox: Sandbox, directory: Path) -> None:
    async with running(sandbox, directory) as watcher:
        command = await Beside.run(watcher, "/bin/cat")
        command.writer.write(b"\x00\xff\xff\xff\xff" + b"x" * 1000)
        await command.until(None)
        assert command.code is None
        assert (await (await Beside.run(watcher, "/bin/echo", "on")).over())[1] == "on\n"


async def test_commands_end_with_their_job(sandbox: Sandbox, directory: Path) -> None:
    watcher = RunWatcher(await SandboxExecutor(sandbox).run("a-1", job(), directory))
    await watcher.wait_started()
    command = await Beside.run(watcher, "/bin/sh", "-c", "echo ready; sleep 600")
    await command.until(b"ready")
    await watcher.run.stop(0)
    await command.until(None)
    assert command.code is None
    await watcher.ending()
    with pytest.raises(UserError) as caught:
        await Beside.run(watcher, "/bin/true")
    assert caught.value.code == "not_running"


async def test_what_a_command_uses_counts_as_the_jobs_own(sandbox: Sandbox, directory: Path) -> None:
    task = job(resources=Resources(cpu_millicores=500, memory_bytes=64 * MIB))
    async with running(sandbox, directory, task) as watcher:
        fill = "x = bytearray(400 << 20); print(len(x))"
        code, out, _ = await (await Beside.run(watcher, "/usr/bin/python3", "-c", fill)).over()
        assert (code in (None, 1, 137), out) == (True, "")


async def test_a_job_that_allows_it_is_as_any_other(sandbox: Sandbox, directory: Path) -> None:
    """Its environment, its descriptors, its end; with ports as well."""
    look = "env | sort; ls /proc/self/fd; exit 4"
    seen = []
    for number, (entry, ports) in enumerate([(ExecBy.NOBODY, ()), (ExecBy.REQUESTER, ()), (ExecBy.GRANTED, (8080,))]):
        task = job(look, exec=entry, ports=ports)
        events = await events_of(await SandboxExecutor(sandbox).run(f"a-{number}", task, directory))
        assert isinstance(events[-1], Exited)
        assert (events[-1].ending.reason, events[-1].ending.exit_code) == (EndReason.EXIT_NONZERO, 4)
        seen.append(output_of(events, "stdout"))
    assert seen[1:] == [seen[0]] * 2
    missing = Task("sandbox", ("no-such-program",), exec=ExecBy.REQUESTER)
    events = await events_of(await SandboxExecutor(sandbox).run("a-9", missing, directory))
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.BAD_PROGRAM


async def test_commands_run_beside_a_worker_that_takes_calls(sandbox: Sandbox, directory: Path) -> None:
    task = Task(PYTHON, limits=Limits(wall_ms=60_000), exec=ExecBy.REQUESTER)
    watcher = RunWatcher(await PythonExecutor(sandbox).run("a-1", task, directory))
    await watcher.wait_started()
    assert await says(watcher, "here") == "here\n"
    await watcher.run.stop(0)
    await watcher.ending()
