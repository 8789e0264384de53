"""The way out of a job, in real sandboxes: programs find it, it leads nowhere else, and it outlives the node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.executors import ExecutorSettings, PythonExecutor, Sandbox, SandboxExecutor
from dms.executors.limiter import process_tree
from dms.executors.sandbox.profile import CA_BUNDLES
from dms.testing.executor_contract import RunWatcher, ending_of, events_of, output_of, sweep_all
from dms.testing.market import until
from dms_actors.ports import EgressRefused, Exited
from dms_proto.capability import Resources
from dms_proto.egress import Barred, Egress
from dms_proto.errors import MachineError
from dms_proto.units import MIB
from dms_proto.work import PYTHON, EndReason, ExecBy, Limits, Task

pytestmark = pytest.mark.slow
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nelsewhere"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(ANSWER)
    await writer.drain()
    writer.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server on this machine, outside of any sandbox; not at an address for which programs look for no proxy."""
    async with await asyncio.start_server(_answer, "127.0.0.2", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def settings(tmp_path: Path, port: int) -> ExecutorSettings:
    egress = Egress((f"127.0.0.2:{port}", "127.0.0.2:1"), MIB)
    return ExecutorSettings(tmp_path / "state", egress=egress, egress_networks=("127.0.0.0/8",))


FETCH = """
import os, urllib.request
proxies = {"http": os.environ["HTTP_PROXY"]}
opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
def fetch(address):
    try:
        return opener.open(address, timeout=20).read().decode()
    except OSError as error:
        return f"{type(error).__name__} {getattr(error, 'code', '')}"
"""


def job(port: int, text: str, **changes: object) -> Task:
    """A program in Python of the machine's, that may connect to the server."""
    fields = {"limits": Limits(wall_ms=60_000), "egress": Egress((f"127.0.0.2:{port}",), MIB), **changes}
    return Task("sandbox", ("/usr/bin/python3", "-c", FETCH + text), **fields)  # type: ignore[arg-type]


async def test_a_job_reaches_what_it_asks_for_and_it_is_metered(sandbox: Sandbox, directory: Path, port: int) -> None:
    task = job(port, f"print(fetch('http://127.0.0.2:{port}/'))")
    events = await events_of(await SandboxExecutor(sandbox).run("a", task, directory))
    assert output_of(events, "stdout") == b"elsewhere\n"
    assert isinstance(events[-1], Exited)
    ending = events[-1].ending
    assert (ending.reason, ending.exit_code) == (EndReason.COMPLETED, 0)
    assert len(ANSWER) < ending.usage.egress_bytes < 2_000


async def test_what_is_refused_is_told_to_the_program_in_its_log_and_as_an_event(
    sandbox: Sandbox, directory: Path, port: int
) -> None:
    """The owner allows the first, and the job has not asked; the job asks for the second, which the owner does not allow."""
    task = job(
        port,
        "print(fetch('http://127.0.0.2:1/')); print(fetch('http://example.org/'))",
        egress=Egress((f"127.0.0.2:{port}", "example.org:80"), MIB),
    )
    events = await events_of(await SandboxExecutor(sandbox).run("a", task, directory))
    assert output_of(events, "stdout") == b"HTTPError 403\n" * 2
    barred = [
        Barred("127.0.0.2:1", "the job does not ask for it"),
        Barred("example.org:80", "the owner of this machine does not allow it"),
    ]
    assert [event.barred for event in events if isinstance(event, EgressRefused)] == barred
    log = "".join(f"dms: no connection to {each.destination}: {each.why}\n" for each in barred)
    assert output_of(events, "stderr") == log.encode()


async def test_the_sandbox_still_has_no_network_beside_it(sandbox: Sandbox, directory: Path, port: int) -> None:
    text = f"""
import socket
for address in (("127.0.0.2", {port}), ("192.0.2.1", 80)):
    try:
        socket.create_connection(address, timeout=5)
        print("reached", address)
    except OSError as error:
        print(type(error).__name__)
print(sorted(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else [])
print([name for name in os.listdir("/proc/self/fd")])
"""
    events = await events_of(await SandboxExecutor(sandbox).run("a", job(port, text), directory))
    refused, unreachable, _, descriptors = output_of(events, "stdout").decode().splitlines()
    assert (refused, unreachable) == ("ConnectionRefusedError", "OSError")
    assert descriptors == "['0', '1', '2', '3']", "the last is of the listing itself: nothing that leads out was left"


async def test_a_job_that_asks_for_nothing_has_neither_proxy_nor_variables(sandbox: Sandbox, directory: Path) -> None:
    task = Task("sandbox", ("/bin/sh", "-c", "env | grep -ci proxy"), limits=Limits(wall_ms=60_000))
    events = await events_of(await SandboxExecutor(sandbox).run("a", task, directory))
    assert output_of(events, "stdout") == b"0\n"


async def test_whom_this_machine_trusts_is_shown_to_those_alone_that_get_out(
    sandbox: Sandbox, directory: Path, port: int
) -> None:
    bundle = next((path for name in CA_BUNDLES if (path := Path("/etc", name)).is_file()), None)
    if bundle is None:
        pytest.skip("this machine has no bundle of certificates")
    text = "import os, sys; sys.stdout.buffer.write(open(os.environ['SSL_CERT_FILE'], 'rb').read())"
    task = job(port, text, limits=Limits(wall_ms=60_000))
    events = await events_of(await SandboxExecutor(sandbox).run("a", task, directory))
    assert output_of(events, "stdout") == bundle.read_bytes()
    task = Task("sandbox", ("/bin/ls", "/etc"), limits=Limits(wall_ms=60_000))
    shown = output_of(await events_of(await SandboxExecutor(sandbox).run("b", task, directory)), "stdout").split()
    assert not {b"ssl", b"pki"} & set(shown)


async def test_the_proxy_ends_with_the_run(sandbox: Sandbox, directory: Path, port: int) -> None:
    run = await SandboxExecutor(sandbox).run(
        "a", job(port, "print('up', flush=True); import time; time.sleep(600)"), directory
    )
    watcher = RunWatcher(run)
    await watcher.wait_output(b"up\n")
    assert len(proxies()) == 1
    await run.stop(0)
    await watcher.ending()
    assert not proxies()


async def test_the_variables_of_a_job_go_before_ours_and_its_own_port_is_left_to_it(
    sandbox: Sandbox, directory: Path, port: int
) -> None:
    text = f"""
import socket
print(os.environ["HTTPS_PROXY"], os.environ["NO_PROXY"])
socket.create_server(("127.0.0.1", 3128))
print(fetch('http://127.0.0.2:{port}/'))
"""
    task = job(port, text, environment={"NO_PROXY": "here"}, ports=(3128,), exec=ExecBy.REQUESTER)
    events = await events_of(await SandboxExecutor(sandbox).run("a", task, directory))
    assert output_of(events, "stdout") == b"http://127.0.0.1:3129 here\nelsewhere\n"


async def test_programs_of_the_executor_python_find_it_too(sandbox: Sandbox, directory: Path, port: int) -> None:
    (directory / "main.py").write_text(FETCH + f"print(fetch('http://127.0.0.2:{port}/'))")
    egress = Egress((f"127.0.0.2:{port}",), MIB)
    resources = Resources(memory_bytes=256 * MIB)
    task = Task(PYTHON, ("main.py",), limits=Limits(wall_ms=60_000), egress=egress, resources=resources)
    events = await events_of(await PythonExecutor(sandbox).run("a", task, directory))
    assert output_of(events, "stdout") == b"elsewhere\n"


async def test_a_command_that_is_none_is_still_said_to_be(sandbox: Sandbox, directory: Path, port: int) -> None:
    task = Task("sandbox", ("no-such-program",), egress=Egress((f"127.0.0.2:{port}",), MIB))
    ending = await ending_of(await SandboxExecutor(sandbox).run("a", task, directory))
    assert (ending.reason, ending.exit_code) == (EndReason.BAD_PROGRAM, 127)


async def test_the_way_out_the_figure_and_the_refusals_outlive_the_node(
    settings: ExecutorSettings, directory: Path, port: int
) -> None:
    first, second = Sandbox(settings), Sandbox(settings)
    try:
        first.start()
    except MachineError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    text = f"""
print(fetch('http://127.0.0.2:{port}/'), fetch('http://example.org/'), flush=True)
import time
while not os.path.exists("go"): time.sleep(0.01)
print(fetch('http://127.0.0.2:{port}/'))
"""
    task = job(port, text)
    run = await SandboxExecutor(first).run("a", task, directory)
    watcher = RunWatcher(run)
    await watcher.wait_output(b"elsewhere HTTPError 403\n")
    handle = await watcher.wait_started()
    watcher.abandon()
    await first.close()
    adopted = await SandboxExecutor(second).adopt("a", task, directory, handle)
    assert adopted is not None
    (directory / "go").touch()
    events = await events_of(adopted)
    assert output_of(events, "stdout") == b"elsewhere HTTPError 403\nelsewhere\n"
    assert [event.barred.destination for event in events if isinstance(event, EgressRefused)] == ["example.org:80"]
    assert isinstance(events[-1], Exited)
    assert events[-1].ending.usage.egress_bytes > 2 * len(ANSWER)
    await until(proxies, lambda found: not found)
    await second.close()
    await sweep_all(settings)


def proxies() -> list[int]:
    """Process ids of the proxies that this process has started and that run."""
    return [pid for pid in process_tree.children(os.getpid()) if b"dms.egress" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
