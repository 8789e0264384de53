"""One run in a sandbox, from the launch (or the adoption) to the last byte of its output.

The program and bubblewrap know nothing of the node: output goes to files, the exit code to the status file. The node only watches, so a run
survives it. A supervising task leads the run through launch, following and end; `events` reads the files at the consumer's pace.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms.egress.starting import Companion
from dms.executors import job_directory
from dms.executors.limiter import Allowance, Group, Limiter, Reading, process_tree
from dms.executors.limiter.base import LEAST_MEMORY
from dms.executors.run_clock import RunClock
from dms.executors.sandbox import verdict
from dms.executors.sandbox.limit_watch import LimitWatch
from dms.executors.sandbox.process import Process
from dms.executors.sandbox.program import Judge
from dms.executors.sandbox.run_files import MOST_RESULT, RunFiles, Status
from dms_actors.ports import EgressRefused, ExecutorEvent, Exited, LogChunk, Started, UsageSample
from dms_proto.capability import Meter, Resources
from dms_proto.errors import DmsError, MachineError, UserError
from dms_proto.tunnels import Target
from dms_proto.units import format_bytes
from dms_proto.work import Ending, EndReason, Usage

_logger: Final = logging.getLogger(__name__)

CHUNK: Final = 64 * 1024
"""Most bytes in one LogChunk."""
FIRST_START_CHECK_S: Final = 0.015
START_CHECK_S: Final = 0.01
MAX_START_CHECKS: Final = 300
KILL_WAIT_S: Final = 10.0
METER_WAIT_S: Final = 0.25
REMOVE_TRIES: Final = 40
STREAMS: Final = ("stdout", "stderr")
_BWRAP_NAME: Final = "bwrap"


class Place(msgspec.Struct, frozen=True):
    """What a run owns: files, limits, directory, user. `uid` 0: it runs as the node's user."""

    files: RunFiles
    group: Group
    directory: Path
    uid: int
    allowance: Allowance
    limiter: Limiter
    judge: Judge | None = None
    overhead_bytes: int = 0
    """Memory that the run needs beside what its job has reserved."""


class SandboxRun:
    """Implements `dms_actors.ports.Run`; lives on the node's loop."""

    def __init__(self, place: Place, clock: RunClock) -> None:
        self.place = place
        self._clock = clock
        self._limits = LimitWatch(place.group, place.limiter.poll_s, place.allowance, place.directory)
        self._status = Status()
        self._monitor: Process | None = None
        self._inner: Process | None = None
        self._handle = ""
        self._is_following = False
        self._is_settled = False
        self._is_gone = False
        self._killed: tuple[EndReason, str] | None = None
        self._must_kill = False
        self._freeze_until = 0
        self._ending: Ending | None = None
        self._sample: Usage | None = None
        self._failure: OSError | None = None
        self._written = 0
        self._over = asyncio.Event()
        self._news = asyncio.Event()
        self._start_check: asyncio.TimerHandle | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._block = -1
        self._companions: list[Companion] = []
        self._let_go: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------------------ for the engine

    def supervise(self, launch: Callable[[SandboxRun], Awaitable[None]], done: Callable[[], None]) -> None:
        """Starts following the run. `launch` brings its processes into being; `done` is called when nothing of it is left."""
        self._task = asyncio.get_running_loop().create_task(self._supervise(launch, done))

    def look(self) -> None:
        """Takes note of what has changed: its files grew, or a process of it ended."""
        if not self._is_following:
            return
        try:
            self._look()
        except OSError as error:
            self._failure = error
        if self._failure is not None or self._is_over():
            self._over.set()

    @property
    def processes(self) -> tuple[int, ...]:
        """The outermost processes of the run that are known: all others are below one of them."""
        return tuple(process.pid for process in (self._monitor, self._inner) if process is not None)

    def set_monitor(self, monitor: Process) -> None:
        """Says which process is the outer bubblewrap."""
        self._monitor = monitor

    @property
    def monitor_fd(self) -> int:
        """The pidfd of the outer bubblewrap."""
        assert self._monitor is not None
        return self._monitor.fileno()

    def add_companion(self, companion: Companion) -> socket.socket:
        """Says who leads out of it, whose end is part of the run's. Gives the end of its socket that is for the starter inside."""
        self._companions.append(companion)
        return companion.inner

    def set_inner(self, inner: Process) -> None:
        """Says which process is the first inside, for a run that has been going on for a while."""
        self._inner = inner
        self._handle = handle_of(inner.pid)
        self._is_settled = True
        self.place.group.attach(inner.pid)
        if self._must_kill:
            inner.kill()
        elif self._freeze_until and not self._clock.is_frozen:
            self._freeze(self._freeze_until)

    def set_gone(self, handle: str) -> None:
        """Says that its processes ended before anybody could hold them; their files tell how, and when."""
        self._handle = handle
        self._is_settled = self._is_gone = True
        self._clock.end_at(self.place.files.modified("status"))

    def keep_until_started(self, let_go: Callable[[], None]) -> None:
        """Calls `let_go` when the order to start has been carried out: it holds what tells the process that this node lives."""
        self._let_go = let_go

    def set_block(self, fd: int) -> None:
        """Gives it the pipe on which the sandbox waits until its limits are set. Takes over the descriptor."""
        self._block = fd

    def detach(self) -> None:
        """Stops following it and leaves it running."""
        if self._task is not None:
            self._task.cancel()
        for companion in self._companions:
            companion.let_go()
        self._release()
        self.place.files.close()

    # ---------------------------------------------------------------------------------------------------- for the consumer

    async def events(self) -> AsyncIterator[ExecutorEvent]:
        """See `Run.events`. After an adoption the output comes from its first byte again: `offset` tells what is new."""
        offsets = dict.fromkeys(STREAMS, 0)
        announced, told = False, 0
        while True:
            self._news.clear()
            over = self._ending is not None
            if not announced and self._has_started():
                announced = True
                yield Started(self._handle)
            if announced:
                for chunk in self._new_output(offsets):
                    yield chunk
                for barred in self.place.files.barred()[told:]:
                    told += 1
                    yield EgressRefused(barred)
            if announced and not over and self._sample is not None:
                sample, self._sample = self._sample, None
                yield UsageSample(sample)
            if over:
                break
            await self._news.wait()
        assert self._ending is not None
        yield Exited(self._ending)
        # The consumer has come back for more, so it has dealt with the end: now the files may go.
        if self._task is not None:
            await self._task
        self.place.files.close()
        self.place.files.remove()

    async def stop(self, grace_ms: int) -> None:
        """See `Run.stop`. A second call with a shorter grace shortens it."""
        if self._ending is not None or self._status.exit_code is not None:
            return
        self._killed = self._killed or (EndReason.CANCELLED, "stopped on request")
        self._freeze_until = 0
        if not self._is_settled or self._inner is None or grace_ms <= 0:
            self._kill_now()
            return
        self._thaw()
        self.place.group.hurry()
        self._inner.terminate_all()
        loop = asyncio.get_running_loop()
        at = loop.time() + grace_ms / 1000
        if self._grace is None or at < self._grace.when():
            self._cancel(self._grace)
            self._grace = loop.call_at(at, self._kill_now)

    async def freeze(self, until_ms: int) -> None:
        """See `Run.freeze`."""
        if self._is_over() or self._ending is not None or self._killed is not None:
            return
        self._freeze_until = until_ms
        if self._inner is not None and not self._clock.is_frozen:
            self._freeze(until_ms)

    async def thaw(self) -> None:
        """See `Run.thaw`."""
        self._freeze_until = 0
        self._thaw()

    async def resize(self, resources: Resources) -> None:
        """See `Run.resize`."""
        if self._ending is not None or not self._is_settled:
            raise UserError("not_running", f"{self.place.files.name} does not run")
        before, memory = self.place.allowance, max(LEAST_MEMORY, resources.memory_bytes + self.place.overhead_bytes)
        after = msgspec.structs.replace(before, cpu_millicores=resources.cpu_millicores, memory_bytes=memory)
        used = self.place.group.read().memory_bytes
        if used > memory:
            raise UserError(
                "not_resizable", f"{format_bytes(used)} of memory are in use, more than {format_bytes(memory)}"
            )
        if memory > before.memory_bytes and "memory" not in self.place.limiter.enforces:
            raise UserError("not_resizable", "without control groups what runs here cannot be given more memory")
        try:
            self.place.group.limit(after)
        except OSError as error:
            with suppress(OSError):
                self.place.group.limit(before)
            raise UserError(
                "not_resizable", f"its limits could not be set: {error.strerror} ({error.filename})"
            ) from error
        self.place = msgspec.structs.replace(self.place, allowance=after)
        self._limits.allow(after)

    async def connect(self, target: Target) -> socket.socket:
        """See `Run.connect`."""
        return await self.place.files.connect(target)

    # ----------------------------------------------------------------------------------------------------------- following

    async def _supervise(self, launch: Callable[[SandboxRun], Awaitable[None]], done: Callable[[], None]) -> None:
        try:
            await launch(self)
            del launch  # it holds the program, and with it the job's secrets
            self._is_following = True
            self._limits.start(self._clock.seconds(), self._kill, self._on_sample)
            if self._clock.is_frozen:
                self._limits.freeze_clock()
            self.look()
            await self._over.wait()
            await self._end()
        except (DmsError, OSError) as error:
            _logger.warning("run %s: %s", self.place.files.name, error)
            await self._give_up(str(error))
        await self._remove_group()
        for companion in self._companions:
            await companion.wait_ended()
        self._release()
        done()

    def _look(self) -> None:
        files = self.place.files
        self._status = files.status()
        if not self._handle and self._status.child_pid is not None:
            self._meet_inner(self._status.child_pid)
        written = files.written()
        if written != self._written:
            self._written = written
            self._limits.check_output(written)
            self._news.set()

    def _meet_inner(self, pid: int) -> None:
        """The first process of the sandbox is known: holds it, limits it, lets it go on."""
        # Its parent is the bubblewrap we hold, which cannot be confused with another process.
        assert self._monitor is not None
        self._inner = Process.find(pid, self.look, parent=self._monitor.pid)
        self._handle = handle_of(pid)
        self.place.group.attach(pid)
        self._unblock()
        self._let_go()
        self._start_check = asyncio.get_running_loop().call_later(FIRST_START_CHECK_S, self._check_started, 1)
        if self._must_kill:
            self._kill_now()

    def _check_started(self, count: int) -> None:
        """Bubblewrap names its process before it executes the program, and never says that it did: the kernel does."""
        if self._inner is None or self._is_over():
            return
        names = [process_tree.name(child) for child in process_tree.children(self._inner.pid)]
        if (names and _BWRAP_NAME not in names) or count > MAX_START_CHECKS:
            self._is_settled = True
            self._news.set()
        else:
            self._start_check = asyncio.get_running_loop().call_later(START_CHECK_S, self._check_started, count + 1)

    def _has_started(self) -> bool:
        return bool(self._handle) and (self._is_settled or self._status.exit_code is not None)

    def _is_over(self) -> bool:
        return (
            self._is_gone
            or self._status.exit_code is not None
            or (self._monitor is not None and self._monitor.is_known_ended)
            or (self._inner is not None and self._inner.is_known_ended)
        )

    def _kill(self, reason: EndReason, detail: str) -> None:
        self._killed = self._killed or (reason, detail)
        self._kill_now()

    def _kill_now(self) -> None:
        """Kills the first process inside, and with it all others; as soon as it is known which one that is."""
        self._must_kill = True
        self.place.group.hurry()
        if self._inner is not None:
            self._inner.kill()

    def _freeze(self, until_ms: int) -> None:
        """Its new deadline is written down first: if this node dies now, the launcher bears it until then, and not for longer."""
        self._clock.freeze()
        self._limits.freeze_clock()
        try:
            self._note_freeze(int(time.time() * 1000), until_ms)
            self.place.group.freeze()
        except OSError as error:
            self._thaw()
            raise MachineError("sandbox_failed", f"it cannot be frozen: {error.strerror or error}") from error

    def _thaw(self) -> None:
        if not self._clock.is_frozen or self._ending is not None:
            return
        self._clock.thaw()
        self._limits.thaw_clock(self._clock.seconds())
        try:
            self.place.group.thaw()
            self._note_freeze(0, int(time.time() * 1000))
        except OSError as error:
            self._failure = error
            self._over.set()

    def _note_freeze(self, frozen_at: int, goes_on_at: int) -> None:
        left_ms = max(0, self.place.allowance.wall_ms - self._clock.millis())
        self.place.files.note_freeze(frozen_at, self._clock.frozen_ms, goes_on_at + left_ms)

    def _on_sample(self, reading: Reading) -> None:
        self._sample = self._usage(reading)
        self._news.set()

    # ------------------------------------------------------------------------------------------------------------- the end

    async def _end(self) -> None:
        """Makes sure that nothing is left running, takes the last figures, and says how it ended."""
        if self._failure is not None:
            raise self._failure
        self._limits.stop()
        self.place.group.hurry()
        if self._inner is not None:
            self._inner.kill()  # for what the program left behind; its own exit code is known by now or never will be
        if self._clock.is_frozen:
            self.place.group.thaw()  # bubblewrap stands still as well, and is to end
        for process in (self._inner, self._monitor):
            if process is not None and not await process.wait(KILL_WAIT_S):
                _logger.error("run %s: process %d does not die", self.place.files.name, process.pid)
                process.kill()
        self._status = self.place.files.status()
        if self.place.limiter.meter is not Meter.EXACT:
            await self._wait_for_meter()
        if not job_directory.is_empty(self.place.directory):
            await self._limits.check_left()
        ending = self._judged()
        await self._take_back()
        self._conclude(ending)

    async def _give_up(self, why: str) -> None:
        """The sandbox could not be set up or followed: ends it with what is known."""
        self.place.group.kill()
        if self._inner is not None:
            self._inner.kill()
            await self._inner.wait(KILL_WAIT_S)
        await self._take_back()
        self._conclude(Ending(EndReason.PROVIDER_FAULT, -1, f"the sandbox failed: {why}", self._usage(Reading())))

    def _judged(self) -> Ending:
        reading, files = self._last_reading(), self.place.files
        never_ran = self._status.exit_code is None
        complaint = files.read("stderr", 0, 4096).decode(errors="replace") if never_ran else ""
        seen = verdict.Observed(self._status.exit_code, self._killed, self._status.overdue, complaint, reading)
        ending = verdict.judge(seen, self.place.allowance, self._usage(reading))
        return (
            self.place.judge(ending, files.read("result", 0, MOST_RESULT)) if self.place.judge is not None else ending
        )

    async def _take_back(self) -> None:
        if job_directory.is_empty(self.place.directory):
            job_directory.take_back_empty(self.place.directory)
        else:
            await asyncio.to_thread(job_directory.take_back, self.place.directory)

    async def _wait_for_meter(self) -> None:
        """The launcher reports the CPU time of the whole sandbox when it has reaped it, a moment after its death."""
        deadline = time.monotonic() + METER_WAIT_S
        while self._status.cpu_us is None and self._inner is not None and time.monotonic() < deadline:
            await asyncio.sleep(0.002)
            self._status = self.place.files.status()

    async def _remove_group(self) -> None:
        for attempt in range(REMOVE_TRIES):
            if self.place.group.remove():
                return
            self.place.group.kill()
            await asyncio.sleep(0.001 * (attempt + 1))  # the kernel lets go of dead members in its own time
        _logger.error("run %s: its cgroup cannot be removed yet", self.place.files.name)

    def _conclude(self, ending: Ending) -> None:
        self._ending = ending
        self._news.set()

    def _release(self) -> None:
        self._is_following = False
        self._limits.stop()
        self._cancel(self._start_check)
        self._cancel(self._grace)
        for process in (self._inner, self._monitor):
            if process is not None:
                process.close()
        self._unblock()
        self._let_go()

    def _unblock(self) -> None:
        if self._block >= 0:
            os.close(self._block)
            self._block = -1

    @staticmethod
    def _cancel(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()

    # ------------------------------------------------------------------------------------------------------------- figures

    def _new_output(self, offsets: dict[str, int]) -> Iterator[LogChunk]:
        for stream in STREAMS:
            while (room := self.place.allowance.log_bytes - sum(offsets.values())) > 0:
                data = self.place.files.read(stream, offsets[stream], min(CHUNK, room))
                if not data:
                    break
                yield LogChunk(stream, offsets[stream], data)
                offsets[stream] += len(data)

    def _last_reading(self) -> Reading:
        reading = self.place.group.read()
        return Reading(
            cpu_us=max(reading.cpu_us, self._status.cpu_us or 0),
            memory_bytes=reading.memory_bytes,
            memory_peak_bytes=max(reading.memory_peak_bytes, self._status.max_rss or 0),
            oom_kills=reading.oom_kills,
        )

    def _usage(self, reading: Reading) -> Usage:
        return Usage(
            wall_ms=self._clock.millis(),
            cpu_us=reading.cpu_us,
            memory_peak_bytes=reading.memory_peak_bytes,
            egress_bytes=self.place.files.egress_bytes(),
            meter=self.place.limiter.meter,
        )


def handle_of(pid: int) -> str:
    """The first process of a sandbox, as `Started` names it: number and start time."""
    return f"{pid}:{process_tree.start_time(pid)}"
