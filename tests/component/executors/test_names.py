"""Names of siblings, in real sandboxes: programs find their ports, each connection comes out, and they outlive the node."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor
from dms.executors.limiter import process_tree
from dms.executors.sandbox.keeper import Keepers
from dms.executors.sandbox.keeper_main import break_off
from dms.testing.executor_contract import RunWatcher, ending_of, events_of, output_of, sweep_all
from dms.testing.market import until
from dms_proto.egress import Egress
from dms_proto.errors import MachineError, UserError
from dms_proto.siblings import Names, Way
from dms_proto.units import MIB
from dms_proto.work import EndReason, ExecBy, Limits, Task

pytestmark = pytest.mark.slow

CALL = """
import os, socket
def call(index, port=8080):
    try:
        with socket.create_connection((f"{index}.job.internal", port), timeout=20) as way:
            way.sendall(b"hello")
            way.shutdown(socket.SHUT_WR)
            return way.makefile("rb").read().decode()
    except OSError as error:
        return type(error).__name__
"""


class Elsewhere:
    """In place of the node: siblings that say who was called by whom, and then what they heard; number 2 is never there."""

    def __init__(self, state: Path) -> None:
        self.keepers = Keepers(self._lead)
        self.keepers.listen(state)

    async def _lead(self, name: str, way: Way, end: socket.socket) -> None:
        if way.to == 2:
            break_off(end)
            raise UserError("not_running", f"{way.destination} is away")
        reader, writer = await asyncio.open_connection(sock=end)
        writer.write(f"{name} to {way.to}:{way.port} ".encode() + await reader.read())
        await writer.drain()
        writer.close()


@pytest.fixture
async def elsewhere(sandbox: Sandbox) -> AsyncIterator[Elsewhere]:
    found = Elsewhere(sandbox.settings.state_directory)
    yield found
    await found.keepers.close()


def job(text: str, **changes: object) -> Task:
    """The second of three allocations, a program in Python of the machine's."""
    fields = {"limits": Limits(wall_ms=60_000), "ports": (8080, 9090), "names": Names(1, 3), **changes}
    return Task("sandbox", ("/usr/bin/python3", "-c", CALL + text), **fields)  # type: ignore[arg-type]


async def printed(sandbox: Sandbox, directory: Path, task: Task) -> str:
    events = await events_of(await SandboxExecutor(sandbox).run("a-1", task, directory))
    return output_of(events, "stdout").decode()


@pytest.mark.usefixtures("elsewhere")
async def test_a_program_reaches_each_port_of_its_siblings_and_its_own(sandbox: Sandbox, directory: Path) -> None:
    text = """
import threading
own = socket.create_server(("127.0.0.1", 8080))
def answer():
    with own.accept()[0] as way:
        way.recv(100)
        way.sendall(b"myself")
threading.Thread(target=answer).start()
print(call(0), call(0, 9090), call(1), sep="; ")
"""
    assert await printed(sandbox, directory, job(text)) == "a-1 to 0:8080 hello; a-1 to 0:9090 hello; myself\n"


@pytest.mark.usefixtures("elsewhere")
async def test_a_sibling_that_is_not_there_breaks_off_and_the_log_says_why_once(
    sandbox: Sandbox, directory: Path
) -> None:
    events = await events_of(await SandboxExecutor(sandbox).run("a-1", job("print(call(2), call(2))"), directory))
    assert output_of(events, "stdout") == b"ConnectionResetError ConnectionResetError\n"
    assert output_of(events, "stderr") == b"dms: no connection to 2.job.internal:8080: 2.job.internal:8080 is away\n"


async def test_without_a_node_connections_are_broken_off(sandbox: Sandbox, directory: Path) -> None:
    assert await printed(sandbox, directory, job("print(call(0))")) == "ConnectionResetError\n"


@pytest.mark.usefixtures("elsewhere")
async def test_nothing_else_leads_out_and_nothing_of_it_stays_inside(sandbox: Sandbox, directory: Path) -> None:
    text = """
print(call(0, 22), call(3), call("a"))
print([name for name in os.listdir("/proc/self/fd")])
try:
    open("/etc/hosts", "a")
    print("written")
except OSError:
    print("as it was")
"""
    task = job(text, ports=(8080,))
    refused, descriptors, hosts = (await printed(sandbox, directory, task)).splitlines()
    assert refused == "ConnectionRefusedError gaierror gaierror"
    assert descriptors == "['0', '1', '2', '3']", "the last is of the listing itself"
    assert hosts == "as it was"


async def test_a_job_without_names_knows_none(sandbox: Sandbox, directory: Path) -> None:
    assert await printed(sandbox, directory, job("print(call(0))", names=Names())) == "gaierror\n"


@pytest.mark.usefixtures("elsewhere")
async def test_it_goes_with_commands_and_connections_to_elsewhere(sandbox: Sandbox, directory: Path) -> None:
    text = "print(call(0), os.environ['NO_PROXY'])"
    task = job(text, exec=ExecBy.REQUESTER, egress=Egress(("example.org:443",), MIB))
    assert await printed(sandbox, directory, task) == "a-1 to 0:8080 hello localhost,127.0.0.1,.job.internal\n"


async def test_a_command_that_is_none_is_still_said_to_be(sandbox: Sandbox, directory: Path) -> None:
    task = Task("sandbox", ("no-such-program",), ports=(8080,), names=Names(0, 2))
    ending = await ending_of(await SandboxExecutor(sandbox).run("a-1", task, directory))
    assert (ending.reason, ending.exit_code) == (EndReason.BAD_PROGRAM, 127)


@pytest.mark.parametrize("task", [job("", ports=()), job("", names=Names(0, 251))], ids=["no ports", "too many"])
async def test_a_stranger_cannot_ask_for_names_that_lead_nowhere_or_for_too_many(
    sandbox: Sandbox, directory: Path, task: Task
) -> None:
    ending = await ending_of(await SandboxExecutor(sandbox).run("a-1", task, directory))
    assert ending.reason is EndReason.BAD_PROGRAM
    assert "cannot have names" in ending.detail


async def test_names_outlive_the_node_and_end_with_the_run(settings: ExecutorSettings, directory: Path) -> None:
    first, second = Sandbox(settings), Sandbox(settings)
    try:
        first.start()
    except MachineError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    node = Elsewhere(settings.state_directory)
    text = """
import time
print(call(0), flush=True)
while not os.path.exists("gone"): time.sleep(0.01)
print(call(0), flush=True)
while not os.path.exists("back"): time.sleep(0.01)
print(call(0))
"""
    run = await SandboxExecutor(first).run("a-1", job(text), directory)
    watcher = RunWatcher(run)
    await watcher.wait_output(b"a-1 to 0:8080 hello\n")
    handle = await watcher.wait_started()
    watcher.abandon()
    await node.keepers.close()
    await first.close()
    adopted = await SandboxExecutor(second).adopt("a-1", job(text), directory, handle)
    assert adopted is not None
    (directory / "gone").touch()
    watcher = RunWatcher(adopted)
    await watcher.wait_output(b"ConnectionResetError\n")
    node = Elsewhere(settings.state_directory)
    (directory / "back").touch()
    await watcher.wait_output(b"ConnectionResetError\na-1 to 0:8080 hello\n")
    await watcher.ending()
    await until(keepers, lambda found: not found)
    await node.keepers.close()
    await second.close()
    await sweep_all(settings)


def keepers() -> list[int]:
    """Process ids of the keepers that this process has started and that run."""
    return [pid for pid in process_tree.children(os.getpid()) if b"keeper_main" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
