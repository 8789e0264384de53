"""What leads into a run on a cluster, and out of it, by its runner's tether: on an engine whose jobs are processes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from dms.executors.cluster.tether import Place, Tied, connect, keep_place, place_in
from dms.executors.sandbox.keeper_main import break_off
from dms.tasks import Tasks
from dms.testing.beside import Beside, let_go
from dms.testing.executor_contract import ECHO, RunWatcher, ending_of, events_of, output_of, reached
from dms_actors.ports import EgressRefused
from dms_proto.egress import Egress
from dms_proto.errors import UserError
from dms_proto.siblings import Names, Way
from dms_proto.tunnels import ToPort
from dms_proto.units import MIB
from dms_proto.work import EndReason, ExecBy, Limits, Task

from .conftest import OnProcesses

pytestmark = pytest.mark.slow
PORT = 8_080


@pytest.fixture(autouse=True)
async def _let_go() -> AsyncIterator[None]:
    yield
    await let_go()


def python(text: str, **changes: object) -> Task:
    return Task("sandbox", ("/usr/bin/python3", "-c", text), limits=Limits(wall_ms=60_000), **changes)  # type: ignore[arg-type]


async def echoed(run: RunWatcher, said: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(sock=await reached(run.run, PORT))
    writer.write(said)
    writer.write_eof()
    back = await reader.read()
    writer.close()
    return back


async def test_a_command_runs_beside_the_job_in_its_sandbox(there: OnProcesses, directory: Path) -> None:
    executor = await there.proven_node()
    task = python("print('up', flush=True); import time; time.sleep(600)", exec=ExecBy.REQUESTER)
    watcher = RunWatcher(await executor.run("a-1", task, directory))
    await watcher.wait_output(b"up")

    command = await Beside.run(watcher, "/bin/sh", "-c", "cat; pwd; exit 3")

    assert await command.over(b"given ") == (3, "given /job\n", "")
    await watcher.run.stop(0)
    assert (await watcher.ending()).reason is EndReason.CANCELLED


async def test_the_next_node_is_led_in_too(there: OnProcesses, directory: Path) -> None:
    executor = await there.proven_node()
    task = python(ECHO.replace("PORT", str(PORT)), ports=(PORT,))
    first = RunWatcher(await executor.run("a-1", task, directory))
    await first.wait_started()
    assert await echoed(first, b"one") == b"one"
    before = place_in(there.cluster.runs_directory.parent)
    first.abandon()
    await there.cluster.close()

    run = await (await there.proven_node()).adopt("a-1", task, directory, "")
    assert run is not None
    second = RunWatcher(run)
    await second.wait_started()

    assert place_in(there.cluster.runs_directory.parent) != before
    assert await echoed(second, b"two") == b"two"
    await run.stop(0)
    await second.ending()


async def test_what_the_job_does_not_listen_at_is_said_as_on_the_nodes_own_machine(
    there: OnProcesses, directory: Path
) -> None:
    executor = await there.proven_node()
    task = python("print('up', flush=True); import time; time.sleep(600)", ports=(PORT,))
    watcher = RunWatcher(await executor.run("a-1", task, directory))
    await watcher.wait_output(b"up")

    with pytest.raises(UserError, match=f"nothing in the job listens at port:{PORT}") as nobody:
        await watcher.run.connect(ToPort(PORT))
    assert (nobody.value.code, nobody.value.retryable) == ("not_listening", True)
    await watcher.run.stop(0)
    await watcher.ending()
    with pytest.raises(UserError) as over:
        await watcher.run.connect(ToPort(PORT))
    assert over.value.code == "not_running"


CALL = """
import socket
def call(index):
    try:
        with socket.create_connection((f"{index}.job.internal", 8080), timeout=20) as way:
            way.sendall(b"hello")
            way.shutdown(socket.SHUT_WR)
            return way.makefile("rb").read().decode()
    except OSError as error:
        return type(error).__name__
print(call(0), call(2), call(2))
"""


async def test_a_program_calls_its_siblings_by_name_and_hears_who_is_away(there: OnProcesses, directory: Path) -> None:
    async def sibling(said: str, end: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=end)
        writer.write(said.encode() + await reader.read())
        writer.close()

    async def lead(name: str, way: Way, end: socket.socket) -> None:
        if way.to == 2:
            break_off(end)
            raise UserError("not_running", f"{way.destination} is away")
        siblings.start(sibling(f"{name} to {way.to}:{way.port} ", end), "sibling")

    siblings = Tasks()
    executor = await there.proven_node()
    there.cluster.lead_out_by(lead)

    events = await events_of(await executor.run("a-1", python(CALL, ports=(PORT,), names=Names(1, 3)), directory))

    assert output_of(events, "stdout") == b"a-1 to 0:8080 hello ConnectionResetError ConnectionResetError\n"
    assert output_of(events, "stderr") == b"dms: no connection to 2.job.internal:8080: 2.job.internal:8080 is away\n"


FETCH = """
import os, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": os.environ["HTTP_PROXY"]}))
for port in PORTS:
    try:
        print(opener.open(f"http://127.0.0.2:{port}/", timeout=20).read().decode())
    except OSError as error:
        print(error.code)
"""


async def test_a_job_connects_to_where_the_owner_lets_it_and_what_is_refused_is_told(
    there: OnProcesses, directory: Path
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nelsewhere")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.2", 0) as server:
        port = server.sockets[0].getsockname()[1]
        allowed = Egress((f"127.0.0.2:{port}",), MIB)
        networks = ("127.0.0.0/8",)
        there.settings = msgspec.structs.replace(there.settings, egress=allowed, egress_networks=networks)
        wanted = Egress((f"127.0.0.2:{port}", "127.0.0.2:1"), MIB)
        task = python(FETCH.replace("PORTS", f"({port}, 1)"), egress=wanted)
        events = await events_of(await (await there.proven_node()).run("a-1", task, directory))

    assert output_of(events, "stdout") == b"elsewhere\n403\n"
    (barred,) = [event.barred for event in events if isinstance(event, EgressRefused)]
    assert (barred.destination, barred.why) == ("127.0.0.2:1", "the owner of this machine does not allow it")


async def parrot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with what it was shown, without having the key."""
    writer.write(bytes(32))
    made_up_and_shown = await reader.readexactly(64)
    writer.write(made_up_and_shown[32:])
    writer.close()


async def test_a_machine_that_does_not_reach_the_node_runs_nothing_that_wants_company(
    there: OnProcesses, directory: Path
) -> None:
    executor = await there.proven_node()
    async with await asyncio.start_server(parrot, "127.0.0.1", 0) as another:
        port = another.sockets[0].getsockname()[1]
        keep_place(there.cluster.runs_directory.parent, Place("127.0.0.1", port, b"k" * 32))
        ending = await ending_of(await executor.run("a-1", python("print(1)", ports=(PORT,)), directory))

    assert ending.reason is EndReason.PROVIDER_FAULT
    assert "cannot be led into: 127.0.0.1" in ending.detail


async def test_who_does_not_know_the_key_is_turned_away_and_who_is_not_the_node_is_found_out(
    there: OnProcesses,
) -> None:
    await there.proven_node()
    place = place_in(there.cluster.runs_directory.parent)
    assert place is not None
    (await connect(place, Tied("a-1"))).close()

    with pytest.raises(OSError, match="the other side has ended it"):
        await connect(msgspec.structs.replace(place, key=b"k" * 32), Tied("a-1"))

    async with await asyncio.start_server(parrot, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match="is not the node"):
            await connect(msgspec.structs.replace(place, port=port), Tied("a-1"))


def test_nobody_but_its_user_reads_where_the_node_is(tmp_path: Path) -> None:
    keep_place(tmp_path, Place("127.0.0.1", 7_400, b"k" * 32))
    assert (tmp_path / "tether").stat().st_mode & 0o777 == 0o600
    assert "k" * 32 not in repr(place_in(tmp_path))
