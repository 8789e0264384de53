"""One run in a sandbox, from the launch (or the adoption) to the last byte of its output.

The program and bubblewrap know nothing of the node: output goes to files, the exit code to the status file. The node only watches, so a run
survives it. A supervising task follows the processes and enforces what the kernel does not; `events` reads the files at the consumer's pace.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms.executors import job_directory
from dms.executors.disk_watch import DiskWatch
from dms.executors.limiter import Allowance, Group, Limiter, Reading, process_tree
from dms.executors.sandbox import verdict
from dms.executors.sandbox.process import Process
from dms.executors.sandbox.program import Judge
from dms.executors.sandbox.run_files import RunFiles, Status
from dms_actors.ports import ExecutorEvent, Exited, LogChunk, Started, UsageSample
from dms_proto.capability import Meter
from dms_proto.errors import DmsError
from dms_proto.work import Ending, EndReason, Usage

_logger: Final = logging.getLogger(__name__)

CHUNK: Final = 64 * 1024
"""Most bytes in one LogChunk."""
TICK_S: Final = 0.1
SAMPLE_S: Final = 1.0
FIRST_START_CHECK_S: Final = 0.01
START_CHECK_S: Final = 0.004
MAX_START_CHECKS: Final = 500
_LAUNCHER_NAME: Final = "bwrap"
KILL_WAIT_S: Final = 10.0
METER_WAIT_S: Final = 0.25
REMOVE_TRIES: Final = 40
STREAMS: Final = ("stdout", "stderr")


class Place(msgspec.Struct, frozen=True):
    """What a run owns: files, limits, directory, user. `uid` 0: it runs as the node's user."""

    files: RunFiles
    group: Group
    directory: Path
    uid: int
    allowance: Allowance
    limiter: Limiter
    judge: Judge | None = None


class SandboxRun:
    """Implements `dms_actors.ports.Run`; lives on the node's loop."""

    def __init__(self, place: Place, started_ms: int) -> None:
        self.place = place
        self._started = time.monotonic() - max(0.0, time.time() - started_ms / 1000)
        self._status = Status()
        self._status_size = -1
        self._monitor: Process | None = None
        self._inner: Process | None = None
        self._handle = ""
        self._settled = False
        self._gone = False
        self._killed: tuple[EndReason, str] | None = None
        self._must_kill = False
        self._ending: Ending | None = None
        self._sample: Usage | None = None
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._disk = DiskWatch(place.directory, place.allowance.disk_bytes)
        self._disk_check: asyncio.Task[None] | None = None
        self._block = -1
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------------------ for the engine

    def supervise(self, launch: Callable[[SandboxRun], Awaitable[None]], done: Callable[[], None]) -> None:
        """Starts following the run. `launch` brings its processes into being; `done` is called when nothing of it is left."""
        self._task = asyncio.get_running_loop().create_task(self._supervise(launch, done))

    def look(self) -> None:
        """Something about it has changed; looks when the loop comes round."""
        self._wake.set()

    def set_monitor(self, monitor: Process) -> None:
        """Says which process is the outer bubblewrap."""
        self._monitor = monitor

    def set_inner(self, inner: Process) -> None:
        """Says which process is the first inside, for a run that has been going on for a while."""
        self._inner = inner
        self._handle = handle_of(inner.pid)
        self._settled = True
        self.place.group.attach(inner.pid)
        if self._must_kill:
            inner.kill()

    def set_gone(self, handle: str) -> None:
        """Says that its processes ended before anybody could hold them; their files tell how."""
        self._handle = handle
        self._settled = self._gone = True

    def set_block(self, fd: int) -> None:
        """Gives it the pipe on which the sandbox waits until its limits are set. Takes over the descriptor."""
        self._block = fd

    def detach(self) -> None:
        """Stops following it and leaves it running."""
        if self._task is not None:
            self._task.cancel()
        self._release()
        self.place.files.close()

    # ------------------------------------------------------------------------------------------------------ for the consumer

    async def events(self) -> AsyncIterator[ExecutorEvent]:
        """See `Run.events`. After an adoption the output comes from its first byte again: `offset` tells what is new."""
        offsets = dict.fromkeys(STREAMS, 0)
        announced = False
        while True:
            self._news.clear()
            over = self._ending is not None
            if not announced and self._has_started():
                announced = True
                yield Started(self._handle)
            if announced:
                for chunk in self._new_output(offsets):
                    yield chunk
            if not over and announced and self._sample is not None:
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
        if not self._settled or self._inner is None or grace_ms <= 0:
            self._kill_now()
            return
        self._inner.terminate_group()
        self._after(grace_ms / 1000, self._kill_now)

    # ------------------------------------------------------------------------------------------------------------ following

    async def _supervise(self, launch: Callable[[SandboxRun], Awaitable[None]], done: Callable[[], None]) -> None:
        try:
            await launch(self)
            await self._follow()
            await self._end()
        except (DmsError, OSError) as error:
            _logger.warning("run %s: %s", self.place.files.name, error)
            await self._give_up(str(error))
        await self._remove_group()
        self._release()
        done()

    async def _follow(self) -> None:
        """Returns when the program has ended or was killed."""
        self._after(self.place.allowance.wall_ms / 1000 - self._age_s(), self._on_wall_time)
        self._after(TICK_S, self._on_tick, 1)
        self._look()
        while not self._is_over():
            await self._wake.wait()
            self._wake.clear()
            self._look()

    def _look(self) -> None:
        """Takes note of what the files say."""
        self._read_status()
        if not self._handle and self._status.child_pid is not None:
            self._meet_inner()
        written = sum(self.place.files.size(stream) for stream in STREAMS)
        if written > self.place.allowance.log_bytes:
            self._kill(EndReason.OUTPUT_LIMIT, verdict.over_output(self.place.allowance, written))
        self._news.set()

    def _read_status(self) -> None:
        size = self.place.files.size("status")
        if size != self._status_size:
            self._status_size = size
            _, self._status = self.place.files.status()

    def _meet_inner(self) -> None:
        """The first process of the sandbox is known: holds it, limits it, lets it go on."""
        pid = self._status.child_pid
        assert pid is not None
        # Its parent is the bubblewrap we hold, which cannot be confused with another process.
        self._inner = Process.find(pid, self.look, parent=self._monitor.pid if self._monitor else 0)
        self._handle = handle_of(pid)
        self.place.group.attach(pid)
        if self._block >= 0:
            os.close(self._block)
            self._block = -1
        self._after(FIRST_START_CHECK_S, self._check_started, 1)
        if self._must_kill:
            self._kill_now()

    def _check_started(self, count: int) -> None:
        """Bubblewrap names its process before it executes the program, and never says that it did: the kernel does."""
        if self._inner is None or self._is_over():
            return
        names = [process_tree.name(child) for child in process_tree.children(self._inner.pid)]
        if (names and _LAUNCHER_NAME not in names) or count > MAX_START_CHECKS:
            self._settled = True
            self._news.set()
        else:
            self._after(START_CHECK_S, self._check_started, count + 1)

    def _has_started(self) -> bool:
        return bool(self._handle) and (self._settled or self._status.exit_code is not None)

    def _is_over(self) -> bool:
        return (
            self._gone
            or self._status.exit_code is not None
            or (self._monitor is not None and self._monitor.has_ended)
            or (self._inner is not None and self._inner.has_ended)
        )

    # ------------------------------------------------------------------------------------------------------------- limits

    def _kill(self, reason: EndReason, detail: str) -> None:
        self._killed = self._killed or (reason, detail)
        self._kill_now()

    def _kill_now(self) -> None:
        """Kills the first process inside, and with it all others; as soon as it is known which one that is."""
        self._must_kill = True
        if self._inner is not None:
            self._inner.kill()

    def _on_wall_time(self) -> None:
        self._kill(EndReason.WALL_TIME, verdict.over_time(self.place.allowance))

    def _on_tick(self, count: int) -> None:
        if self._is_over():
            return
        self._after(TICK_S, self._on_tick, count + 1)
        seconds = count * TICK_S
        if self.place.limiter.poll_s <= TICK_S or _crosses(seconds, SAMPLE_S):
            reading = self.place.group.read()
            if reading.oom_kills:
                self._kill(EndReason.OUT_OF_MEMORY, verdict.over_memory(self.place.allowance, reading))
            if _crosses(seconds, SAMPLE_S):
                self._sample = self._usage(reading)
                self._news.set()
        if (self._disk_check is None or self._disk_check.done()) and self._disk.is_due():
            self._disk_check = asyncio.get_running_loop().create_task(self._check_disk())

    async def _check_disk(self) -> None:
        used = await asyncio.to_thread(self._disk.measure, self.place.group.processes())
        if used > self.place.allowance.disk_bytes:
            self._kill(EndReason.DISK_LIMIT, verdict.over_disk(self.place.allowance, used))

    # ------------------------------------------------------------------------------------------------------------- the end

    async def _end(self) -> None:
        """Makes sure that nothing is left running, takes the last figures, and says how it ended."""
        self._look()
        for process in (self._inner, self._monitor):
            if process is self._inner and process is not None:
                process.kill()  # what the program left behind; the exit code is already known or was never to be
            if process is not None and not await process.wait(KILL_WAIT_S):
                _logger.error("run %s: process %d does not die", self.place.files.name, process.pid)
                process.kill()
        self._read_status()
        if self.place.limiter.meter is not Meter.EXACT:
            await self._wait_for_meter()
        ending = self._judged()
        await self._take_back()
        self._conclude(ending)

    async def _give_up(self, why: str) -> None:
        """The sandbox could not be set up or followed: ends it with what is known."""
        self.place.group.kill()
        if self._inner is not None:
            self._inner.kill()
        await self._take_back()
        self._conclude(Ending(EndReason.PROVIDER_FAULT, -1, f"the sandbox failed: {why}", self._usage(Reading())))

    async def _take_back(self) -> None:
        if not job_directory.is_empty(self.place.directory):
            await asyncio.to_thread(job_directory.take_back, self.place.directory)
        elif self.place.uid:
            job_directory.take_back(self.place.directory)

    def _judged(self) -> Ending:
        reading = self._last_reading()
        stderr = (
            self.place.files.read("stderr", 0, 4096).decode(errors="replace") if self._status.exit_code is None else ""
        )
        seen = verdict.Observed(self._status.exit_code, self._killed, self._status.overdue, stderr, reading)
        ending = verdict.judge(seen, self.place.allowance, self._usage(reading))
        if self.place.judge is not None:
            return self.place.judge(ending, self.place.files.read("result", 0, CHUNK))
        return ending

    async def _wait_for_meter(self) -> None:
        """The launcher reports the CPU time of the whole sandbox when it has reaped it, a moment after its death."""
        deadline = time.monotonic() + METER_WAIT_S
        while self._status.cpu_us is None and self._inner is not None and time.monotonic() < deadline:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(METER_WAIT_S):
                    await self._wake.wait()
            self._read_status()

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
        for timer in self._timers.values():
            timer.cancel()
        for process in (self._inner, self._monitor):
            if process is not None:
                process.close()
        if self._block >= 0:
            os.close(self._block)
            self._block = -1

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
            wall_ms=int(self._age_s() * 1000),
            cpu_us=reading.cpu_us,
            memory_peak_bytes=reading.memory_peak_bytes,
            meter=self.place.limiter.meter,
        )

    def _age_s(self) -> float:
        return time.monotonic() - self._started

    def _after(self, seconds: float, call: Callable[..., None], *arguments: object) -> None:
        """Calls later; of two timers for the same call the earlier one stays."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max(0.0, seconds)
        earlier = self._timers.get(call.__name__)
        if earlier is not None and not earlier.cancelled() and loop.time() < earlier.when() <= at:
            return
        if earlier is not None:
            earlier.cancel()
        self._timers[call.__name__] = loop.call_at(at, call, *arguments)


def handle_of(pid: int) -> str:
    """The first process of a sandbox, as `Started` names it: number and start time."""
    return f"{pid}:{process_tree.start_time(pid)}"


def _crosses(seconds: float, period: float) -> bool:
    """Whether a multiple of `period` lies within the tick that ends at `seconds`."""
    return int(seconds / period + 1e-6) > int((seconds - TICK_S) / period + 1e-6)
