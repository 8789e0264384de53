"""What every executor owes the node, as one test class. Each implementation subclasses it and says how its programs are written."""

# ruff: noqa: D102 - a test is named after the behaviour it shows

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import pytest

from dms.executors import ExecutorSettings, PythonExecutor, Sandbox, SandboxExecutor, WasmExecutor
from dms_actors.ports import Executor, ExecutorEvent, Exited, LogChunk, Run, Started
from dms_proto.errors import MachineError, UserError
from dms_proto.tunnels import ToPort
from dms_proto.work import Ending, EndReason, Limits, Task

PATIENCE_S = 60.0
"""A test that waits longer than this has failed; the machine may be slow and busy."""
PORT = 8_080
ECHO = """
import socketserver

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)

socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", PORT), Echo).serve_forever()
"""
"""A program that echoes what it is sent, for Python; PORT stands for the port."""


FAR: Final = 1 << 42
"""A time that does not come."""


async def can_freeze(run: Run) -> bool:
    """Freezes a run; False: it cannot be."""
    try:
        await run.freeze(FAR)
    except MachineError:
        return False
    return True


async def events_of(run: Run) -> list[ExecutorEvent]:
    """All events of a run."""
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in run.events()]


async def ending_of(run: Run) -> Ending:
    """How a run ended."""
    last = (await events_of(run))[-1]
    assert isinstance(last, Exited)
    return last.ending


def output_of(events: list[ExecutorEvent], stream: str) -> bytes:
    """What was written to one stream, after checking that offsets have neither gaps nor overlaps."""
    data = b""
    for event in events:
        if isinstance(event, LogChunk) and event.stream == stream:
            assert event.offset == len(data)
            assert event.data
            data += event.data
    return data


async def sweep_all(settings: ExecutorSettings) -> None:
    """Ends every run below a state directory that no sandbox follows any more."""
    sandbox = Sandbox(settings)
    for executor in ("sandbox", "wasm", "python", "probe"):
        await sandbox.sweep(executor, [])
    await sandbox.close()


class RunWatcher:
    """Reads a run's events in the background, so that a test can wait for one and go on."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.events: list[ExecutorEvent] = []
        self._changed = asyncio.Condition()
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def wait_for(self, condition: Callable[[list[ExecutorEvent]], bool], patience_s: float = PATIENCE_S) -> None:
        """Returns when `condition` holds for the events so far."""
        try:
            async with asyncio.timeout(patience_s), self._changed:
                await self._changed.wait_for(lambda: condition(self.events))
        except TimeoutError:
            raise AssertionError(f"within {patience_s} s there was nothing but {self.events}") from None

    async def wait_started(self) -> str:
        """The handle, once the program runs."""
        await self.wait_for(bool)
        assert isinstance(self.events[0], Started)
        return self.events[0].handle

    async def wait_output(self, data: bytes) -> None:
        """Returns when stdout contains `data`."""
        await self.wait_for(lambda events: data in output_of(events, "stdout"))

    async def ending(self, patience_s: float = PATIENCE_S) -> Ending:
        """How it ended."""
        await self.wait_for(lambda events: bool(events) and isinstance(events[-1], Exited), patience_s)
        await self._task
        last = self.events[-1]
        assert isinstance(last, Exited)
        return last.ending

    def abandon(self) -> None:
        """Stops reading, as a node does that dies."""
        self._task.cancel()

    async def _read(self) -> None:
        async for event in self.run.events():
            async with self._changed:
                self.events.append(event)
                self._changed.notify_all()


class ExecutorContract:
    """Subclasses give the executor, its restarted self, and programs; None for a behaviour that kind of program cannot have."""

    @pytest.fixture
    async def executor(self) -> AsyncIterator[Executor]:
        """The executor under test; nothing of it may be left afterwards."""
        raise NotImplementedError
        yield  # noqa: PT022 - the subclass cleans up after it

    async def restarted(self, executor: Executor) -> Executor:
        """The executor of the next node process on the same home, while its runs go on."""
        raise NotImplementedError

    def prints(self, directory: Path, stdout: str, stderr: str, code: int) -> Task:
        """Writes both texts and exits."""
        raise NotImplementedError

    def waits(self, directory: Path, stdout: str = "") -> Task:
        """Writes and runs until it is stopped."""
        raise NotImplementedError

    def ignores_stop(self, directory: Path) -> Task | None:
        """Writes "ready", and runs on when asked to stop."""
        raise NotImplementedError

    def dies_by(self, directory: Path, signum: int) -> Task | None:
        """Kills itself with a signal."""
        raise NotImplementedError

    def broken(self, directory: Path) -> Task:
        """Is no program."""
        raise NotImplementedError

    def echoes(self, directory: Path, port: int) -> Task | None:
        """Declares a port and echoes there what it is sent, until its client ends."""
        raise NotImplementedError

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        """A job's directory, as the node makes it."""
        directory = tmp_path / "jobs" / "one"
        directory.mkdir(mode=0o700, parents=True)
        return directory

    async def test_started_comes_first_and_exactly_one_exited_last(self, executor: Executor, directory: Path) -> None:
        events = await events_of(await executor.run("a-1", self.prints(directory, "hi", "", 0), directory))
        assert isinstance(events[0], Started)
        assert isinstance(events[-1], Exited)
        assert [type(event) for event in events].count(Started) == 1
        assert [type(event) for event in events].count(Exited) == 1
        assert events[0].handle

    async def test_output_arrives_byte_for_byte(self, executor: Executor, directory: Path) -> None:
        out, err = "line\r\n\x00é\n" * 20_000, "warning ☃\n"
        events = await events_of(await executor.run("a-1", self.prints(directory, out, err, 0), directory))
        assert output_of(events, "stdout") == out.encode()
        assert output_of(events, "stderr") == err.encode()

    @pytest.mark.parametrize("code", [0, 1, 3, 77, 125])
    async def test_exit_code_is_the_programs_own(self, executor: Executor, directory: Path, code: int) -> None:
        ending = await ending_of(await executor.run("a-1", self.prints(directory, "", "", code), directory))
        assert ending.exit_code == code
        assert ending.reason is (EndReason.EXIT_NONZERO if code else EndReason.COMPLETED)

    async def test_death_by_signal_is_128_and_its_number(self, executor: Executor, directory: Path) -> None:
        task = self.dies_by(directory, 9)
        if task is None:
            pytest.skip("these programs cannot get signals")
        ending = await ending_of(await executor.run("a-1", task, directory))
        assert ending.reason is EndReason.KILLED_BY_SIGNAL
        assert ending.exit_code == 128 + 9

    async def test_what_is_no_program_ends_as_bad_program(self, executor: Executor, directory: Path) -> None:
        events = await events_of(await executor.run("a-1", self.broken(directory), directory))
        assert isinstance(events[-1], Exited)
        assert events[-1].ending.reason is EndReason.BAD_PROGRAM
        assert events[-1].ending.detail
        assert not [event for event in events if isinstance(event, LogChunk)]

    async def test_output_is_seen_while_the_program_runs(self, executor: Executor, directory: Path) -> None:
        watcher = RunWatcher(await executor.run("a-1", self.waits(directory, "ready"), directory))
        await watcher.wait_output(b"ready")
        await watcher.run.stop(0)
        await watcher.ending()

    async def test_stop_ends_it_as_cancelled(self, executor: Executor, directory: Path) -> None:
        watcher = RunWatcher(await executor.run("a-1", self.waits(directory), directory))
        await watcher.wait_started()
        await watcher.run.stop(30_000)
        ending = await watcher.ending()
        assert ending.reason is EndReason.CANCELLED

    async def test_stop_without_grace_kills(self, executor: Executor, directory: Path) -> None:
        watcher = RunWatcher(await executor.run("a-1", self.waits(directory), directory))
        await watcher.wait_started()
        await watcher.run.stop(0)
        ending = await watcher.ending()
        assert ending.reason is EndReason.CANCELLED
        assert ending.exit_code == 128 + 9

    async def test_stop_before_the_start_ends_it(self, executor: Executor, directory: Path) -> None:
        run = await executor.run("a-1", self.waits(directory), directory)
        await run.stop(30_000)
        assert (await ending_of(run)).reason is EndReason.CANCELLED

    async def test_who_ignores_the_request_to_stop_is_killed_after_the_grace(
        self, executor: Executor, directory: Path
    ) -> None:
        task = self.ignores_stop(directory)
        if task is None:
            pytest.skip("these programs cannot ignore a request to stop")
        watcher = RunWatcher(await executor.run("a-1", task, directory))
        await watcher.wait_output(b"ready")
        await watcher.run.stop(200)
        ending = await watcher.ending()
        assert ending.reason is EndReason.CANCELLED
        assert ending.exit_code == 128 + 9

    async def test_stop_can_be_said_twice_and_after_the_end(self, executor: Executor, directory: Path) -> None:
        watcher = RunWatcher(await executor.run("a-1", self.waits(directory), directory))
        await watcher.wait_started()
        await watcher.run.stop(30_000)
        await watcher.run.stop(0)
        await watcher.ending()
        await watcher.run.stop(0)
        assert [type(event) for event in watcher.events].count(Exited) == 1

    async def test_wall_time_is_enforced(self, executor: Executor, directory: Path) -> None:
        task = msgspec.structs.replace(self.waits(directory), limits=Limits(wall_ms=700))
        ending = await ending_of(await executor.run("a-1", task, directory))
        assert ending.reason is EndReason.WALL_TIME
        assert "limit" in ending.detail
        assert ending.usage.wall_ms >= 600

    async def test_output_beyond_the_limit_ends_the_run_and_is_not_delivered(
        self, executor: Executor, directory: Path
    ) -> None:
        task = self.prints(directory, "x" * 60_000, "y" * 60_000, 0)
        task = msgspec.structs.replace(task, limits=Limits(log_bytes=50_000))
        events = await events_of(await executor.run("a-1", task, directory))
        assert isinstance(events[-1], Exited)
        assert events[-1].ending.reason is EndReason.OUTPUT_LIMIT
        assert "limit" in events[-1].ending.detail
        assert len(output_of(events, "stdout")) + len(output_of(events, "stderr")) == 50_000

    async def test_usage_says_how_long_it_took_and_who_measured(self, executor: Executor, directory: Path) -> None:
        offer = await executor.probe()
        ending = await ending_of(await executor.run("a-1", self.prints(directory, "", "", 0), directory))
        assert ending.usage.meter is offer.meter
        assert 0 <= ending.usage.wall_ms < PATIENCE_S * 1000

    async def test_runs_do_not_disturb_each_other(self, executor: Executor, tmp_path: Path) -> None:
        directories = [tmp_path / f"job-{number}" for number in range(8)]
        runs = []
        for number, directory in enumerate(directories):
            directory.mkdir(mode=0o700)
            task = self.prints(directory, f"output of {number}", "", number)
            runs.append(await executor.run(f"a-{number}", task, directory))
        for number, events in enumerate(await asyncio.gather(*map(events_of, runs))):
            assert output_of(events, "stdout") == f"output of {number}".encode()
            assert isinstance(events[-1], Exited)
            assert events[-1].ending.exit_code == number

    async def test_a_restarted_node_adopts_what_goes_on(self, executor: Executor, directory: Path) -> None:
        task = self.waits(directory, "before ")
        first = RunWatcher(await executor.run("a-1", task, directory))
        handle = await first.wait_started()
        await first.wait_output(b"before ")
        first.abandon()
        executor = await self.restarted(executor)
        run = await executor.adopt("a-1", task, directory, handle)
        assert run is not None
        second = RunWatcher(run)
        assert await second.wait_started() == handle
        await second.wait_output(b"before ")
        await run.stop(0)
        assert (await second.ending()).reason is EndReason.CANCELLED

    async def test_the_time_of_a_run_stands_still_with_it(self, executor: Executor, tmp_path: Path) -> None:
        watchers = []
        for name in ("a-1", "a-2"):
            (tmp_path / name).mkdir(mode=0o700)
            task = msgspec.structs.replace(self.waits(tmp_path / name), limits=Limits(wall_ms=2_000))
            watchers.append(RunWatcher(await executor.run(name, task, tmp_path / name)))
        frozen, other = watchers
        await frozen.wait_started()
        if not await can_freeze(frozen.run):
            await frozen.run.stop(0)
            pytest.skip("these programs cannot be frozen")
        assert (await other.ending()).reason is EndReason.WALL_TIME
        assert not isinstance(frozen.events[-1], Exited)
        await frozen.run.freeze(FAR)  # once more, which changes nothing
        await frozen.run.thaw()
        await frozen.run.thaw()
        ending = await frozen.ending()
        assert ending.reason is EndReason.WALL_TIME
        assert 1_900 <= ending.usage.wall_ms < 10_000, ending

    @pytest.mark.parametrize("grace_ms", [30_000, 0])
    async def test_what_stands_still_can_be_stopped(self, executor: Executor, directory: Path, grace_ms: int) -> None:
        watcher = RunWatcher(await executor.run("a-1", self.waits(directory), directory))
        await watcher.wait_started()
        if not await can_freeze(watcher.run):
            await watcher.run.stop(0)
            pytest.skip("these programs cannot be frozen")
        await watcher.run.stop(grace_ms)
        ending = await watcher.ending()
        assert ending.reason is EndReason.CANCELLED
        assert (ending.exit_code == 128 + 9) == (grace_ms == 0)
        await watcher.run.freeze(FAR)  # it is over: nothing to do
        await watcher.run.thaw()

    async def test_a_restarted_node_adopts_what_stands_still(self, executor: Executor, directory: Path) -> None:
        task = msgspec.structs.replace(self.waits(directory, "before "), limits=Limits(wall_ms=60_000))
        first = RunWatcher(await executor.run("a-1", task, directory))
        handle = await first.wait_started()
        await first.wait_output(b"before ")
        if not await can_freeze(first.run):
            await first.run.stop(0)
            pytest.skip("these programs cannot be frozen")
        first.abandon()
        executor = await self.restarted(executor)
        run = await executor.adopt("a-1", task, directory, handle)
        assert run is not None
        second = RunWatcher(run)
        await second.wait_started()
        await run.thaw()
        await run.stop(30_000)
        ending = await second.ending()
        assert (ending.reason, ending.exit_code == 128 + 9) == (EndReason.CANCELLED, False)

    async def test_an_unknown_run_is_not_adopted(self, executor: Executor, directory: Path) -> None:
        assert await executor.adopt("a-9", self.waits(directory), directory, "1:1") is None

    async def test_sweep_ends_what_is_not_kept(self, executor: Executor, tmp_path: Path) -> None:
        watchers = {}
        for name in ("a-1", "a-2"):
            (tmp_path / name).mkdir(mode=0o700)
            task = self.waits(tmp_path / name)
            watchers[name] = RunWatcher(await executor.run(name, task, tmp_path / name))
        handles = {name: await watcher.wait_started() for name, watcher in watchers.items()}
        for watcher in watchers.values():
            watcher.abandon()
        executor = await self.restarted(executor)
        assert await executor.sweep(["a-1"]) == 1
        assert await executor.sweep(["a-1"]) == 0
        gone = await executor.adopt("a-2", self.waits(tmp_path / "a-2"), tmp_path / "a-2", handles["a-2"])
        assert gone is None
        kept = await executor.adopt("a-1", self.waits(tmp_path / "a-1"), tmp_path / "a-1", handles["a-1"])
        assert kept is not None
        await kept.stop(0)
        await ending_of(kept)

    async def test_a_declared_port_is_reached_by_many_at_once_each_direction_ending_by_itself(
        self, executor: Executor, directory: Path
    ) -> None:
        watcher = RunWatcher(await executor.run("a-1", self._echo(directory), directory))
        await watcher.wait_started()
        ends = [await reached(watcher.run, PORT) for _ in range(20)]
        data = bytes(range(256)) * 4_000

        async def through(end: socket.socket) -> bytes:
            reader, writer = await asyncio.open_connection(sock=end)
            sending = asyncio.create_task(_send_all(writer, data))
            back = await reader.read()
            await sending
            writer.close()
            return back

        async with asyncio.timeout(PATIENCE_S):
            assert set(await asyncio.gather(*map(through, ends))) == {data}
        await watcher.run.stop(0)
        await watcher.ending()

    async def test_an_undeclared_port_and_a_run_that_is_over_are_not_reached(
        self, executor: Executor, directory: Path
    ) -> None:
        watcher = RunWatcher(await executor.run("a-1", self._echo(directory), directory))
        await watcher.wait_started()
        (await reached(watcher.run, PORT)).close()
        with pytest.raises(UserError) as undeclared:
            await watcher.run.connect(ToPort(PORT + 1))
        assert undeclared.value.code == "bad_argument"
        end = await reached(watcher.run, PORT)
        reader, writer = await asyncio.open_connection(sock=end)
        await watcher.run.stop(0)
        await watcher.ending()
        async with asyncio.timeout(PATIENCE_S):
            with suppress(OSError):
                assert not await reader.read()
        writer.close()
        with pytest.raises(UserError) as over:
            await watcher.run.connect(ToPort(PORT))
        assert over.value.code == "not_running"

    async def test_an_adopted_run_is_reached_as_before(self, executor: Executor, directory: Path) -> None:
        task = self._echo(directory)
        first = RunWatcher(await executor.run("a-1", task, directory))
        handle = await first.wait_started()
        (await reached(first.run, PORT)).close()
        first.abandon()
        executor = await self.restarted(executor)
        run = await executor.adopt("a-1", task, directory, handle)
        assert run is not None
        (await reached(run, PORT)).close()
        await run.stop(0)
        await ending_of(run)

    def _echo(self, directory: Path) -> Task:
        task = self.echoes(directory, PORT)
        if task is None:
            pytest.skip("these programs cannot listen")
        return task


async def reached(run: Run, port: int) -> socket.socket:
    """A connection to a port, once something listens there."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await run.connect(ToPort(port))
            except UserError as error:
                if error.code != "not_listening":
                    raise
            await asyncio.sleep(0.01)


async def _send_all(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
    writer.write_eof()


class InSandboxContract(ExecutorContract):
    """For executors whose runs are a sandbox's. Subclasses name the class, and the limiters where not any will do."""

    kind: type[SandboxExecutor | WasmExecutor | PythonExecutor]
    limiters: tuple[str, ...] = ()

    @pytest.fixture
    async def executor(self, tmp_path: Path) -> AsyncIterator[Executor]:
        self.settings = ExecutorSettings(tmp_path / "state", limiters=self.limiters)
        self.sandboxes = [Sandbox(self.settings)]
        try:
            self.sandboxes[0].start()
        except MachineError as error:
            pytest.skip(f"no sandbox on this machine: {error}")
        yield self.kind(self.sandboxes[0])
        for sandbox in self.sandboxes:
            await sandbox.close()
        await sweep_all(self.settings)

    async def restarted(self, executor: Executor) -> Executor:
        await self.sandboxes[-1].close()
        self.sandboxes.append(Sandbox(self.settings))
        return self.kind(self.sandboxes[-1])
