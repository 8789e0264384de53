"""What leads into a container and out of it, on real engines: as it does for a sandbox."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from dms.executors.oci.engine import open_engine
from dms.executors.oci.executor import OciExecutor
from dms.executors.sandbox import exec_agent
from dms.executors.sandbox.keeper import Keepers
from dms.executors.sandbox.keeper_main import break_off
from dms.executors.settings import ExecutorSettings
from dms.testing.beside import Beside, let_go
from dms.testing.executor_contract import RunWatcher, ending_of, events_of, output_of
from dms.testing.market import until
from dms_actors.ports import EgressRefused, Exited, Started
from dms_proto.egress import Barred, Egress
from dms_proto.errors import UserError
from dms_proto.exec_frames import Kind, frame, size
from dms_proto.secrets import OpenSecret
from dms_proto.siblings import Names, Way
from dms_proto.units import MIB
from dms_proto.work import EndReason, ExecBy, Limits, Task

from .conftest import Ground

pytestmark = pytest.mark.slow
WAITS = "echo up; exec sleep 600"


@pytest.fixture(autouse=True)
async def _let_go() -> AsyncIterator[None]:
    yield
    await let_go()


def job(image: str, *command: str, **changes: object) -> Task:
    fields = {"limits": Limits(wall_ms=60_000), "exec": ExecBy.REQUESTER, **changes}
    return Task("oci", command, image=image, **fields)  # type: ignore[arg-type] # fields of a task


@asynccontextmanager
async def running(
    executor: OciExecutor, directory: Path, task: Task, secrets: tuple[OpenSecret, ...] = ()
) -> AsyncIterator[RunWatcher]:
    """A job that has begun; it is stopped at the end."""
    watcher = RunWatcher(await executor.run("a-1", task, directory, secrets))
    await watcher.wait_output(b"up")
    try:
        yield watcher
    finally:
        await watcher.run.stop(0)
        await watcher.ending()


async def test_a_command_has_what_the_job_has_and_its_code_comes_back(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    look = (
        "id; pwd; for n in user mnt pid net ipc uts; do stat -L -c %i /proc/self/ns/$n; done; cat /proc/self/cgroup; "
        "while read -r line; do case $line in Cap*|Seccomp*|NoNewPrivs*) echo $line ;; esac; done < /proc/self/status; "
        "ulimit -a; cat /run/secrets/KEY; echo $NAME; ls /proc/self/fd | wc -l"
    )
    secrets = (OpenSecret("KEY", b"file\n"), OpenSecret("NAME", b"variable", variable=True))
    task = job(ground.image, "/bin/sh", "-c", f"({look}) > seen </dev/null 2>&1; {WAITS}")
    async with running(executor, directory, task, secrets) as watcher:
        code, seen, wrong = await (await Beside.run(watcher, "/bin/sh", "-c", f"({look}) </dev/null 2>&1")).over()
        assert (code, wrong) == (0, "")
        assert "variable" in seen
        assert seen == (directory / "seen").read_text()
        command = await Beside.run(watcher, "/bin/sh", "-c", "cat; echo oops >&2; exit 7")
        assert await command.over(b"said\n") == (7, "said\n", "oops\n")
        assert await (await Beside.run(watcher, "sh", "-c", "kill -9 $$")).over() == (137, "", "")
        assert (await (await Beside.run(watcher, "no-such-program")).over())[0] == exec_agent.NOT_FOUND
        piece = bytes(range(256)) * 256
        there = await Beside.run(watcher, "sha256sum")
        for _ in range(128):
            there.writer.write(frame(Kind.INPUT, piece))
            await there.writer.drain()
        assert (await there.over())[1] == f"{hashlib.sha256(piece * 128).hexdigest()}  -\n"


async def test_a_terminal_has_a_size_that_follows_and_a_command_ends_with_who_asked_for_it(
    executor: OciExecutor, ground: Ground, directory: Path
) -> None:
    async with running(executor, directory, job(ground.image, "/bin/sh", "-c", WAITS)) as watcher:
        shell = await Beside.run(watcher, "/bin/sh", rows=24)
        shell.writer.write(
            size(50, 132) + frame(Kind.INPUT, b"trap '' HUP; echo $TERM; test -t 0 && echo is''terminal\n")
        )
        await shell.until(b"isterminal")
        assert b"xterm" in shell.heard[Kind.OUTPUT]
        shell.writer.write(frame(Kind.INPUT, b"PS1=aw''ake; sh -c \"echo as''leep; exec sleep 600\"\n"))
        await shell.until(b"asleep\r\n")
        shell.writer.write(frame(Kind.INPUT, b"\x03"))
        await shell.until(b"awake")
        shell.writer.write(frame(Kind.INPUT, b"while :; do touch alive; sleep 0.05; done\n"))
        await until(lambda: asyncio.to_thread((directory / "alive").exists), lambda there: there)
        shell.writer.transport.abort()
        await until(lambda: left(watcher), lambda names: names.count("sh") == 1)


async def left(watcher: RunWatcher) -> list[str]:
    """What runs in the container, as seen inside: the looking shell among it."""
    look = "for p in /proc/[0-9]*; do read -r name < $p/comm && echo $name; done 2>/dev/null"
    return (await (await Beside.run(watcher, "/bin/sh", "-c", look)).over())[1].split()


async def test_a_job_that_allows_it_is_as_any_other(executor: OciExecutor, ground: Ground, directory: Path) -> None:
    """Its environment, its descriptors, its end; with ports as well."""
    look = "env | head -c 10000; ls /proc/self/fd; exit 4"
    seen = []
    environment = {"LD_LIBRARY_PATH": "/nowhere"}
    for entry, ports in ((ExecBy.NOBODY, ()), (ExecBy.REQUESTER, ()), (ExecBy.GRANTED, (8080,))):
        task = job(ground.image, "/bin/sh", "-c", look, exec=entry, ports=ports, environment=environment)
        events = await events_of(await executor.run("a-1", task, directory))
        assert isinstance(events[-1], Exited)
        assert (events[-1].ending.reason, events[-1].ending.exit_code) == (EndReason.EXIT_NONZERO, 4)
        seen.append(sorted(output_of(events, "stdout").splitlines()))
    assert b"LD_LIBRARY_PATH=/nowhere" in seen[0]
    assert seen[1:] == [seen[0]] * 2
    events = await events_of(await executor.run("a-1", job(ground.image, "no-such-program"), directory))
    assert isinstance(events[-1], Exited)
    assert (events[-1].ending.reason, events[-1].ending.exit_code) == (EndReason.BAD_PROGRAM, 127)
    assert "no-such-program" in events[-1].ending.detail
    events = await events_of(await executor.run("a-1", job(ground.image), directory))
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.BAD_PROGRAM, "the image says nothing either"


async def test_one_whose_node_died_before_it_had_what_it_needs_is_ended(
    executor: OciExecutor, ground: Ground, settings: ExecutorSettings, directory: Path
) -> None:
    task = job(ground.image, "/bin/sh", "-c", WAITS)
    watcher = RunWatcher(await executor.run("a-1", task, directory))
    handle = await watcher.wait_started()
    watcher.abandon()
    await executor.close()
    (settings.state_directory / "oci" / "passages" / "a-1.node").touch()
    later = OciExecutor(settings)
    assert await later.adopt("a-1", task, directory, handle) is None
    assert not list((settings.state_directory / "oci" / "passages").iterdir())
    engine = await open_engine(ground.socket)
    assert await engine.state(handle) is None
    await engine.close()
    await later.close()


@pytest.mark.usefixtures("cgroups")
async def test_containers_that_get_nothing_from_their_node_are_offered_for_what_needs_nothing(
    executor: OciExecutor, ground: Ground, settings: ExecutorSettings, directory: Path
) -> None:
    task = job(ground.image, "/bin/true")
    assert (await ending_of(await executor.run("a-1", task, directory))).reason is EndReason.COMPLETED
    for modules in settings.state_directory.glob("oci/python-*/lib/python3*"):
        shutil.rmtree(modules)
    events = await events_of(await executor.run("a-1", task, directory))
    assert any(isinstance(event, Started) for event in events), "what has not started is not billed"
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.BAD_PROGRAM, "it has started in one here"
    assert events[-1].ending.usage.wall_ms
    await executor.probe()
    assert "does not start in it" in executor.closed
    refused = await ending_of(await executor.run("a-1", task, directory))
    assert (refused.reason, refused.detail) == (EndReason.PROVIDER_FAULT, executor.closed)
    alone = job(ground.image, "/bin/true", exec=ExecBy.NOBODY)
    assert (await ending_of(await executor.run("a-1", alone, directory))).reason is EndReason.COMPLETED


FETCH = """
import os, socket, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": os.environ["HTTP_PROXY"]}))
def fetch(address):
    try:
        return opener.open(address, timeout=20).read().decode()
    except OSError as error:
        return f"{type(error).__name__} {getattr(error, 'code', '')}"
def call(index):
    try:
        with socket.create_connection((f"{index}.job.internal", 8080), timeout=20) as way:
            way.sendall(b"hello")
            way.shutdown(socket.SHUT_WR)
            return way.makefile("rb").read().decode()
    except OSError as error:
        return type(error).__name__
"""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nelsewhere")
    await writer.drain()
    writer.close()


async def _sibling(name: str, way: Way, end: socket.socket) -> None:
    if way.to == 2:
        break_off(end)
        raise UserError("not_running", f"{way.destination} is away")
    reader, writer = await asyncio.open_connection(sock=end)
    writer.write(f"{name} to {way.to}:{way.port} ".encode() + await reader.read())
    await writer.drain()
    writer.close()


async def test_it_gets_out_by_the_proxy_alone_and_reaches_its_siblings_by_name(
    settings: ExecutorSettings, python_image: str, directory: Path
) -> None:
    keepers = Keepers(_sibling)
    keepers.listen(settings.state_directory)
    async with await asyncio.start_server(_answer, "127.0.0.2", 0) as server:
        port = server.sockets[0].getsockname()[1]
        allowed = Egress((f"127.0.0.2:{port}", "127.0.0.2:1"), MIB)
        executor = OciExecutor(msgspec.structs.replace(settings, egress=allowed, egress_networks=("127.0.0.0/8",)))
        text = (
            f"print(fetch('http://127.0.0.2:{port}/')); print(fetch('http://127.0.0.2:1/'))\n"
            "print(call(0)); print(call(2)); print(sorted(os.listdir('/proc/self/fd')))"
        )
        task = job(
            python_image,
            *("/usr/bin/python3", "-c", FETCH + text),
            egress=Egress((f"127.0.0.2:{port}",), MIB),
            ports=(8080,),
            names=Names(1, 3),
        )
        events = await events_of(await executor.run("a-1", task, directory))
        await executor.sweep([])
        await executor.close()
    await keepers.close()
    said = output_of(events, "stdout").decode().splitlines()
    assert said[:3] == ["elsewhere", "HTTPError 403", "a-1 to 0:8080 hello"]
    assert said[3] == "ConnectionResetError"
    assert said[4] == "['0', '1', '2', '3']", "the last is of the listing itself: nothing that leads out was left"
    barred = Barred("127.0.0.2:1", "the job does not ask for it")
    assert [event.barred for event in events if isinstance(event, EgressRefused)] == [barred]
    told = output_of(events, "stderr").decode()
    assert f"dms: no connection to {barred.destination}: {barred.why}\n" in told
    assert "2.job.internal:8080 is away" in told
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.reason is EndReason.COMPLETED
    assert 0 < events[-1].ending.usage.egress_bytes < 2_000
