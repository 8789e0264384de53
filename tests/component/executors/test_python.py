"""Python beyond the contract: what programs find, and the worker that takes calls."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import venv
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import msgspec
import pytest

from dms.calls import worker
from dms.executors import ExecutorSettings, PythonExecutor, Sandbox
from dms.testing.executor_contract import PATIENCE_S, RunWatcher, events_of, output_of
from dms_actors.ports import Exited
from dms_proto.capability import Isolation
from dms_proto.errors import MachineError, UserError
from dms_proto.tunnels import ToCalls, ToPort
from dms_proto.work import EndReason, Limits, Task

THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"
CALLS = Task("python", limits=Limits(wall_ms=60_000, idle_ms=60_000))


@pytest.fixture
def executor(sandbox: Sandbox) -> PythonExecutor:
    return PythonExecutor(sandbox)


cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Caller:
    """One end of a tunnel."""

    opened: ClassVar[list[socket.socket]] = []

    def __init__(self, end: socket.socket) -> None:
        self.opened.append(end)
        end.setblocking(True)
        end.settimeout(PATIENCE_S)
        self.end = end

    async def read(self) -> bytes:
        return await asyncio.to_thread(worker.read_blob, self.end)

    async def ask(
        self, function: Any, *arguments: Any, codec: bytes = worker.PICKLE, shape: bytes = worker.ONE
    ) -> bytes:
        called = cloudpickle.dumps((function, arguments[0] if shape == worker.EACH else arguments, {}))
        self.end.sendall(worker.framed(codec, shape, called))
        return await self.read()

    async def result(self, function: Any, *arguments: Any, **how: bytes) -> Any:
        answer = await self.ask(function, *arguments, **how)
        assert answer[:1] == worker.RESULT, answer
        return json.loads(answer[1:]) if how.get("codec") == worker.JSON else cloudpickle.loads(answer[1:])

    async def failure(self, function: Any, *arguments: Any, **how: bytes) -> tuple[dict[str, str], bytes]:
        answer = await self.ask(function, *arguments, **how)
        assert answer[:1] == worker.FAILED, answer
        (size,) = worker.LENGTH.unpack(answer[1:5])
        return json.loads(answer[5 : 5 + size]), answer[5 + size :]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while Caller.opened:
        Caller.opened.pop().close()


@asynccontextmanager
async def worked(executor: PythonExecutor, directory: Path, task: Task = CALLS) -> AsyncIterator[RunWatcher]:
    watcher = RunWatcher(await executor.run("a-1", task, directory))
    await watcher.wait_started()
    yield watcher
    await watcher.run.stop(0)
    await watcher.ending()


async def let_in(watcher: RunWatcher) -> Caller:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                caller = Caller(await watcher.run.connect(ToCalls()))
            except UserError as error:
                if error.code != "not_listening":
                    raise
                await asyncio.sleep(0.01)
            else:
                said = json.loads(await caller.read())
                assert said["python"] == THIS
                assert said["cloudpickle"] == cloudpickle.__version__
                return caller


async def test_the_offer_says_what_was_proven_and_names_its_python(executor: PythonExecutor) -> None:
    offer = await executor.probe()
    assert offer.isolation is Isolation.NAMESPACES
    assert offer.version.startswith(f"{THIS}.")
    assert {"disk", "wall", "output"} <= set(offer.limits)
    assert executor.libraries == (f"python=={THIS}",)


async def test_functions_are_called_one_after_the_other_and_answered_in_order(
    executor: PythonExecutor, directory: Path
) -> None:
    async with worked(executor, directory) as watcher:
        caller = await let_in(watcher)
        seen: list[int] = []
        for number in range(3):  # all said before the first is answered
            called = cloudpickle.dumps((lambda x: (seen.append(x), list(seen))[1], (number,), {}))
            caller.end.sendall(worker.framed(worker.PICKLE, worker.ONE, called))
        answers = [cloudpickle.loads((await caller.read())[1:]) for _ in range(3)]
        assert answers == [[0], [1], [2]], "each call has its own copy of what it closes over"
        assert await caller.result(lambda x: x * 2, [[(1,)], [(2,)]][0], shape=worker.EACH) == [2]
        assert await caller.result(lambda: {"a": [1, None]}, codec=worker.JSON) == {"a": [1, None]}


async def test_what_a_function_prints_is_in_the_jobs_logs(executor: PythonExecutor, directory: Path) -> None:
    async with worked(executor, directory) as watcher:
        caller = await let_in(watcher)
        await caller.result(lambda: print("printed there"))
        await watcher.wait_output(b"printed there\n")


def broken_exception() -> Exception:
    class Stubborn(Exception):  # noqa: N818
        def __reduce__(self) -> Any:
            raise RuntimeError

        def __str__(self) -> str:
            raise RuntimeError

    return Stubborn()


def raise_(error: Any) -> None:
    raise error


def raises(kind: type[BaseException], *about: Any) -> Callable[[], None]:
    """Makes the error over there: a library that this process has loaded may pickle those with what is not there."""
    return lambda: raise_(kind(*about))


async def test_what_a_function_raises_comes_back_with_its_traceback(executor: PythonExecutor, directory: Path) -> None:
    async with worked(executor, directory) as watcher:
        caller = await let_in(watcher)
        about, pickled = await caller.failure(lambda x: x / 0, 1)
        assert about["type"] == "ZeroDivisionError"
        assert "in <lambda>" in about["traceback"]
        assert isinstance(cloudpickle.loads(pickled), ZeroDivisionError)
        about, pickled = await caller.failure(raises(SystemExit, 3))
        assert about["type"] == "SystemExit"
        about, pickled = await caller.failure(lambda: raise_(broken_exception()))
        assert (about["message"], pickled) == ("", b"")
        about, pickled = await caller.failure(raises(KeyError, "x"), codec=worker.JSON)
        assert (about["type"], pickled) == ("KeyError", b""), "who asks for JSON gets nothing to unpickle"
        about, _ = await caller.failure(object, codec=worker.JSON)
        assert "not JSON serializable" in about["message"]
        about, _ = await caller.failure(bytes, worker.MOST + 1)
        assert "at once" in about["message"]
        caller.end.sendall(worker.framed(b"garbage"))
        assert (await caller.read())[:1] == worker.FAILED
        assert await caller.result(lambda: 1) == 1, "and it goes on"


async def test_one_caller_at_a_time_and_the_next_when_it_has_left(executor: PythonExecutor, directory: Path) -> None:
    async with worked(executor, directory) as watcher:
        first = await let_in(watcher)
        with pytest.raises(UserError) as busy:
            await watcher.run.connect(ToCalls())
        assert (busy.value.code, busy.value.retryable) == ("not_listening", True)
        with pytest.raises(UserError) as port:
            await watcher.run.connect(ToPort(80))
        assert port.value.code == "bad_argument"
        assert await first.result(lambda: 1) == 1
        first.end.close()
        second = await let_in(watcher)
        second.end.sendall(worker.LENGTH.pack(worker.MOST + 1))
        with pytest.raises(EOFError):
            await second.read()
        assert await (await let_in(watcher)).result(lambda: 2) == 2


async def test_no_more_calls_is_the_end(executor: PythonExecutor, directory: Path) -> None:
    watcher = RunWatcher(await executor.run("a-1", CALLS, directory))
    await watcher.wait_started()
    caller = await let_in(watcher)
    caller.end.sendall(worker.framed())
    assert (await watcher.ending()).reason is EndReason.COMPLETED


@pytest.mark.parametrize("there", ["nobody", "a silent caller", "one that left in the middle of a call"])
async def test_a_worker_without_work_ends_by_itself(executor: PythonExecutor, directory: Path, there: str) -> None:
    task = msgspec.structs.replace(CALLS, limits=Limits(wall_ms=60_000, idle_ms=200))
    watcher = RunWatcher(await executor.run("a-1", task, directory))
    await watcher.wait_started()
    if there != "nobody":
        caller = await let_in(watcher)
        if there != "a silent caller":
            called = cloudpickle.dumps((__import__("time").sleep, (600,), {}))
            caller.end.sendall(worker.framed(worker.PICKLE, worker.ONE, called))
            caller.end.close()
    assert (await watcher.ending()).reason is EndReason.COMPLETED


async def test_a_worker_is_not_idle_in_the_middle_of_a_call(executor: PythonExecutor, directory: Path) -> None:
    task = msgspec.structs.replace(CALLS, limits=Limits(wall_ms=60_000, idle_ms=200))
    async with worked(executor, directory, task) as watcher:
        caller = await let_in(watcher)
        assert await caller.result(lambda: (__import__("time").sleep(1), "done")[1]) == "done"


async def test_an_adopted_worker_is_called_as_before(
    executor: PythonExecutor, directory: Path, sandbox: Sandbox, settings: ExecutorSettings
) -> None:
    watcher = RunWatcher(await executor.run("a-1", CALLS, directory))
    handle = await watcher.wait_started()
    caller = await let_in(watcher)
    watcher.abandon()
    await sandbox.close()
    again = Sandbox(settings)
    run = await PythonExecutor(again).adopt("a-1", CALLS, directory, handle)
    assert run is not None
    assert await caller.result(lambda: "still there") == "still there"
    caller.end.close()
    adopted = RunWatcher(run)
    await adopted.wait_started()
    assert await (await let_in(adopted)).result(lambda: 1) == 1
    await run.stop(0)
    await adopted.ending()
    await again.close()


async def test_a_program_finds_cloudpickle_and_what_lies_beside_it_and_nothing_of_the_node(
    executor: PythonExecutor, directory: Path
) -> None:
    (directory / "beside.py").write_text("word = 'beside'")
    (directory / "main.py").write_text(
        "import importlib.util, beside, cloudpickle, sys\n"
        "print(beside.word, sys.argv[1], *[n for n in ('msgspec', 'pykka', 'dms') if importlib.util.find_spec(n)])"
    )
    events = await events_of(await executor.run("a-1", Task("python", ("main.py", "argument")), directory))
    assert output_of(events, "stdout") == b"beside argument\n", output_of(events, "stderr")


@pytest.mark.skipif(sys.base_prefix == "/usr", reason="the node's own Python is the machine's, which every job sees")
async def test_what_is_installed_for_the_nodes_own_python_is_hidden(executor: PythonExecutor, directory: Path) -> None:
    text = "import sys, glob; print(glob.glob(sys.base_prefix + '/lib/python3*/site-packages/*'))"
    events = await events_of(await executor.run("a-1", Task("python", ("-c", text)), directory))
    assert output_of(events, "stdout") == b"[]\n", output_of(events, "stderr")


async def test_what_is_shown_to_a_program_cannot_be_changed(executor: PythonExecutor, directory: Path) -> None:
    text = """
import os, sys
for place in (*sys.path, sys.base_prefix, "/opt/dms/worker.py", "/opt"):
    for path in (place, os.path.join(place, "new")):
        if place and place != "/job":
            try:
                open(path, "a").close()
            except OSError:
                continue
            print("written:", path)
"""
    events = await events_of(await executor.run("a-1", Task("python", ("-c", text)), directory))
    assert (output_of(events, "stdout"), output_of(events, "stderr")) == (b"", b"")


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment of an owner, with a package, and one in editable form."""
    root = tmp_path_factory.mktemp("owners") / "venv"
    venv.create(root, with_pip=False)
    site = root / f"lib/python{THIS}/site-packages"
    for name, module, editable in (("Small_Sums", "small_sums", False), ("secret-plans", "", True)):
        about = site / f"{name.replace('-', '_')}-1.5.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        if editable:
            (about / "direct_url.json").write_text('{"dir_info": {"editable": true}, "url": "file:///home"}')
        else:
            (site / f"{module}.py").write_text("def add(a, b):\n    return a + b\n")
    return root / "bin/python"


async def test_an_owners_packages_are_offered_and_found(sandbox: Sandbox, directory: Path, owners: Path) -> None:
    sandbox.settings = msgspec.structs.replace(sandbox.settings, python=str(owners))
    executor = PythonExecutor(sandbox)
    await executor.probe()
    assert executor.libraries == (f"python=={THIS}", "small-sums==1.5")
    events = await events_of(
        await executor.run("a-1", Task("python", ("-c", "import small_sums; print(small_sums.add(2, 3))")), directory)
    )
    assert output_of(events, "stdout") == b"5\n", output_of(events, "stderr")
    async with worked(executor, directory, CALLS) as watcher:
        caller = await let_in(watcher)
        assert await caller.result(lambda: __import__("small_sums").add(1, 1)) == 2


@pytest.mark.parametrize("chosen", ["/no/such/python", "/bin/false", "/bin/echo"])
async def test_what_is_no_python_is_said_with_the_setting(sandbox: Sandbox, chosen: str) -> None:
    sandbox.settings = msgspec.structs.replace(sandbox.settings, python=chosen)
    with pytest.raises(MachineError) as refused:
        await PythonExecutor(sandbox).probe()
    assert refused.value.code == "executor_unavailable"
    assert chosen in refused.value.message
    assert "executors.python" in refused.value.hint


async def test_a_worker_that_ends_itself_has_ended_the_job(executor: PythonExecutor, directory: Path) -> None:
    watcher = RunWatcher(await executor.run("a-1", CALLS, directory))
    await watcher.wait_started()
    caller = await let_in(watcher)
    with pytest.raises(EOFError):
        await caller.ask(__import__("os")._exit, 3)
    ending = await watcher.ending()
    assert (ending.reason, ending.exit_code) == (EndReason.EXIT_NONZERO, 3)


def test_cloudpickle_is_opened_in_no_process_of_the_node() -> None:
    loaded = "import sys, dms.node.up, dms.executors, dms.net.service; print('cloudpickle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


async def test_its_ending_is_the_programs_own(executor: PythonExecutor, directory: Path) -> None:
    events = await events_of(await executor.run("a-1", Task("python", ("no-such.py",)), directory))
    last = events[-1]
    assert isinstance(last, Exited)
    assert (last.ending.reason, last.ending.exit_code) == (EndReason.EXIT_NONZERO, 2)
    assert b"no-such.py" in output_of(events, "stderr")
