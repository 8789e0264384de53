"""One run in a container, from its image (or its adoption) to the last byte of its output.

The container and the engine know nothing of the node: output and exit code are kept by the engine, so a run survives the node. A supervising task
leads it through image, start, following and end; `events` gives what it learns, at the consumer's pace. The container stays until the consumer has
dealt with its end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms.executors import job_directory
from dms.executors.limiter import Allowance, Reading
from dms.executors.limiter.base import LEAST_MEMORY
from dms.executors.oci import config, faults
from dms.executors.oci.engine import Engine, EngineError, State
from dms.executors.oci.faults import RefusedError
from dms.executors.oci.freezing import Freezing
from dms.executors.oci.notes import Notes
from dms.executors.oci.output import Output
from dms.executors.oci.passage import Passage
from dms.executors.sandbox import verdict
from dms.executors.sandbox.limit_watch import LimitWatch
from dms_actors.ports import EgressRefused, ExecutorEvent, Exited, Preparing, Started, UsageSample
from dms_proto.capability import Meter, Resources
from dms_proto.errors import MachineError, UserError
from dms_proto.tunnels import Target
from dms_proto.units import format_bytes
from dms_proto.work import Ending, EndReason, Usage

_logger: Final = logging.getLogger(__name__)

QUEUED: Final = 64
"""Events that wait for a slow consumer; then the engine keeps the output."""
FIRST_POLL_S: Final = 0.2
POLL_S: Final = 1.0
RETRY_S: Final = 0.5
ENGINE_GONE_S: Final = 60.0
"""An engine that has not answered for so long has to be taken for gone."""


class Launched(msgspec.Struct, frozen=True):
    """A run's place, once there is a container, or one is to be made.

    Attributes:
        container: its name.
        directory: the job's.
        allowance: what it may use.
        meter: how far the engine's figures can be trusted.
        tells_oom: whether the engine tells that the kernel killed for memory.
        notes: what is noted of it while it stands still, and its name there.
        passage: what leads into it and out of it.
        follows: whether the engine's output can be followed; else it is read again and again.
        started_ms: Unix time; 0 before the container is made.
    """

    container: str
    directory: Path
    allowance: Allowance
    meter: Meter
    tells_oom: bool
    notes: tuple[Notes, str]
    passage: Passage
    follows: bool = True
    started_ms: int = 0


class Figures:
    """The last figures the engine gave."""

    def __init__(self) -> None:
        self._last = Reading()

    def take(self, reading: Reading) -> None:
        """Takes note of new ones; a container that has just ended shows zeros."""
        self._last = Reading(
            cpu_us=max(self._last.cpu_us, reading.cpu_us),
            memory_bytes=reading.memory_bytes,
            memory_peak_bytes=max(self._last.memory_peak_bytes, reading.memory_peak_bytes),
        )

    def read(self) -> Reading:
        """See `Watched.read`."""
        return self._last

    def processes(self) -> list[int]:
        """See `Watched.processes`; what is in a container is the engine's to know."""
        return []


class ContainerRun:
    """Implements `dms_actors.ports.Run`; lives on the node's loop."""

    def __init__(self, engine: Engine, launched: Launched) -> None:
        self._engine = engine
        self._what = launched
        self._figures = Figures()
        self._limits = LimitWatch(self._figures, POLL_S, launched.allowance, launched.directory)
        self._freezing = Freezing(engine, *launched.notes, self._limits, launched.allowance.wall_ms)
        self._events: asyncio.Queue[ExecutorEvent] = asyncio.Queue(QUEUED)
        most, follows = launched.allowance.log_bytes, launched.follows
        self._output = Output(engine, self._limits, self._events, most, follows=follows)
        self._killed: tuple[EndReason, str] | None = None
        self._ending: Ending | None = None
        self._id = ""
        self._pid = 0
        self._told = 0
        self._grace: asyncio.TimerHandle | None = None
        self._preparing: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._signals: set[asyncio.Task[None]] = set()
        self._tidy: Callable[[], Awaitable[object]] | None = None

    # ---------------------------------------------------------------------------------------------------- for the executor

    def begin(
        self,
        prepare: Callable[[], Awaitable[None]],
        launch: Callable[[int], Awaitable[State]],
        done: Callable[[], None],
        tidy: Callable[[], Awaitable[object]],
    ) -> None:
        """Starts the run.

        Args:
            prepare: brings the image; may be cancelled.
            launch: makes and starts the container, told the Unix time in ms, and says what became of it.
            done: called when nothing of it runs any more.
            tidy: called when its end has been dealt with.
        """
        self._tidy = tidy
        self._task = asyncio.get_running_loop().create_task(self._supervise(prepare, launch, done))

    def adopt(self, state: State, done: Callable[[], None], tidy: Callable[[], Awaitable[object]]) -> None:
        """Follows a container that an earlier node started."""
        self._tidy = tidy
        self._id, self._pid = state.id, state.pid

        async def nothing() -> None:
            """Its image is there."""

        async def found(_started_ms: int) -> State:
            return state

        self._task = asyncio.get_running_loop().create_task(self._supervise(nothing, found, done))

    def say(self, detail: str) -> None:
        """Tells the consumer what is being done before the program starts."""
        self._offer(Preparing(detail))

    @property
    def process(self) -> int:
        """The container's first process on this machine; 0 while there is none."""
        return self._pid

    async def detach(self) -> None:
        """Stops following it and leaves it running."""
        self._release()
        self._what.passage.let_go()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------------- for the consumer

    async def events(self) -> AsyncIterator[ExecutorEvent]:
        """See `Run.events`. After an adoption the output comes from its first byte again."""
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Exited):
                break
        # The consumer has come back for more, so it has dealt with the end: now the container may go.
        if self._tidy is not None:
            await self._tidy()

    async def stop(self, grace_ms: int) -> None:
        """See `Run.stop`. A second call with a shorter grace shortens it."""
        if self._ending is not None:
            return
        self._killed = self._killed or (EndReason.CANCELLED, "stopped on request")
        if not self._id:
            if self._preparing is not None:
                self._preparing.cancel()
            return
        if grace_ms <= 0:
            self._kill()
            return
        self._signal("SIGTERM")
        loop = asyncio.get_running_loop()
        at = loop.time() + grace_ms / 1000
        if self._grace is None or at < self._grace.when():
            self._cancel_grace()
            self._grace = loop.call_at(at, self._kill)

    async def freeze(self, until_ms: int) -> None:
        """See `Run.freeze`."""
        if self._ending is None and self._killed is None:
            await self._freezing.freeze(until_ms)

    async def thaw(self) -> None:
        """See `Run.thaw`."""
        await self._freezing.thaw()

    async def resize(self, resources: Resources) -> None:
        """See `Run.resize`."""
        if self._ending is not None or not self._id:
            raise UserError("not_running", f"{self._what.container} does not run")
        memory = max(LEAST_MEMORY, resources.memory_bytes + self._what.passage.program.overhead_bytes)
        after = msgspec.structs.replace(
            self._what.allowance, cpu_millicores=resources.cpu_millicores, memory_bytes=memory
        )
        try:
            used = (await self._engine.reading(self._id)).memory_bytes
            if used > memory:  # not left to the engine: with cgroup v2 the kernel would kill for it
                held, wanted = format_bytes(used), format_bytes(memory)
                raise UserError("not_resizable", f"{held} of memory are in use, more than {wanted}")
            await self._engine.update(self._id, config.size(after))
        except EngineError as error:
            raise UserError("not_resizable", f"its engine does not change its size: {error.message}") from error
        self._what = msgspec.structs.replace(self._what, allowance=after)
        self._limits.allow(after)

    async def connect(self, target: Target) -> socket.socket:
        """See `Run.connect`."""
        return await self._what.passage.connect(target)

    # ---------------------------------------------------------------------------------------------------------- supervising

    async def _supervise(
        self,
        prepare: Callable[[], Awaitable[None]],
        launch: Callable[[int], Awaitable[State]],
        done: Callable[[], None],
    ) -> None:
        try:
            ending = await self._prepared(prepare) or await self._launched(launch) or await self._followed()
        except EngineError as error:
            ending = self._lost(error)
        self._release()
        self._freezing.end()
        await self._what.passage.wait_ended()
        await self._take_back()
        self._ending = ending
        done()
        await self._events.put(Exited(ending))

    async def _prepared(self, prepare: Callable[[], Awaitable[None]]) -> Ending | None:
        """Brings the image; or says why the run ends here."""
        self._preparing = asyncio.ensure_future(prepare())
        try:
            await asyncio.wait({self._preparing})
        finally:
            self._preparing.cancel()
        if self._preparing.cancelled() or self._killed is not None:
            reason, detail = self._killed or (EndReason.CANCELLED, "stopped on request")
            return Ending(reason, -1, detail)
        error = self._preparing.exception()
        if isinstance(error, RefusedError):
            return error.ending
        if error is not None:
            raise error
        return None

    async def _launched(self, launch: Callable[[int], Awaitable[State]]) -> Ending | None:
        """Makes and starts the container; or says why the run ends here."""
        if not self._what.started_ms:  # the wall time begins here: bringing the image is no part of it
            self._what = msgspec.structs.replace(self._what, started_ms=int(time.time() * 1000))
        try:
            state = await launch(self._what.started_ms)
        except RefusedError as error:
            if error.ending.usage.wall_ms:  # its container ran, though not as far as its program
                await self._events.put(Started(self._what.container))
            return error.ending
        except MachineError as error:
            return Ending(EndReason.PROVIDER_FAULT, -1, error.message)
        self._id, self._pid = state.id, state.pid
        self._freezing.meet(state.id, self._what.started_ms, is_paused=state.paused)
        with suppress(MachineError):  # whoever asked for it before there was a container asks again
            await self._freezing.follow()
        if self._killed is not None:
            self._kill()
        await self._events.put(Started(self._id))
        return None

    async def _followed(self) -> Ending:
        """Follows the container to its end, and says how it ended."""
        loop = asyncio.get_running_loop()
        output, figures = loop.create_task(self._output.read(self._id)), loop.create_task(self._read_figures())
        self._limits.start(self._freezing.clock.seconds(), self._breach, self._on_sample)
        if self._freezing.clock.is_frozen:
            self._limits.freeze_clock()
        try:
            state = await self._until_exited()
            figures.cancel()
            await self._output.drain(output)
            await self._tell_barred()
        finally:
            for task in (output, figures):
                task.cancel()
            await asyncio.gather(output, figures, return_exceptions=True)
        self._limits.stop()
        if not job_directory.is_empty(self._what.directory):
            await self._limits.check_left()
        ending = self._judged(state)
        if self._output.held:
            ending = faults.init_failed(self._output.held, state.exit_code) or ending
            if ending.reason is not EndReason.BAD_PROGRAM:
                await self._output.give_held()
        return ending

    async def _until_exited(self) -> State:
        """Waits for its end, over restarts of the engine too.

        Raises:
            EngineError: the engine is gone.
        """
        answered = time.monotonic()
        while True:
            try:
                await self._engine.until_exited(self._id)
                state = await self._engine.state(self._id)
            except EngineError as error:
                if time.monotonic() - answered > ENGINE_GONE_S:
                    raise
                _logger.warning("run %s: %s", self._what.container, error)
                await asyncio.sleep(RETRY_S)
                continue
            if state is None:
                raise EngineError(404, "somebody removed the container")
            if not state.running:
                return state
            answered = time.monotonic()
            await asyncio.sleep(RETRY_S)

    async def _read_figures(self) -> None:
        """Asks for them about once a second, the first time sooner: most jobs are short."""
        pause = FIRST_POLL_S
        while True:
            await asyncio.sleep(pause)
            pause = POLL_S
            await self._tell_barred()
            try:
                self._figures.take(await self._engine.reading(self._id))
            except EngineError as error:  # it may just be ending
                _logger.debug("run %s: no figures: %s", self._what.container, error)

    async def _tell_barred(self) -> None:
        """Says to where it was not let out, each once."""
        for barred in self._what.passage.barred()[self._told :]:
            self._told += 1
            await self._events.put(EgressRefused(barred))

    # ------------------------------------------------------------------------------------------------------------- the end

    def _judged(self, state: State) -> Ending:
        last = self._figures.read()
        if state.oom_killed:  # swap is off: it was at its limit, whatever was seen of it
            peak = max(last.memory_peak_bytes, self._what.allowance.memory_bytes)
            last = msgspec.structs.replace(last, memory_peak_bytes=peak, oom_kills=1)
        clock = self._freezing.clock
        if state.finished_ms and not clock.is_frozen:
            clock.end_at(state.finished_ms / 1000)
        overdue = state.exit_code == verdict.KILLED and clock.millis() >= self._what.allowance.wall_ms
        seen = verdict.Observed(state.exit_code, self._killed, overdue, "", last)
        ending = self._what.passage.judged(verdict.judge(seen, self._what.allowance, self._usage(last)))
        if (
            ending.reason is EndReason.KILLED_BY_SIGNAL
            and state.exit_code == verdict.KILLED
            and not self._what.tells_oom
        ):
            doubt = "perhaps for memory: this engine does not tell"
            ending = msgspec.structs.replace(ending, detail=f"{ending.detail}, {doubt}")
        return ending

    def _usage(self, reading: Reading) -> Usage:
        return Usage(
            wall_ms=self._freezing.clock.millis(),
            cpu_us=reading.cpu_us,
            memory_peak_bytes=reading.memory_peak_bytes,
            egress_bytes=self._what.passage.egress_bytes(),
            meter=self._what.meter,
        )

    def _lost(self, error: EngineError) -> Ending:
        _logger.error("run %s: the engine: %s", self._what.container, error)
        wall_ms = self._freezing.clock.millis() if self._id else 0
        return Ending(
            EndReason.PROVIDER_FAULT, -1, f"the engine failed: {error}", Usage(wall_ms=wall_ms, meter=self._what.meter)
        )

    async def _take_back(self) -> None:
        if job_directory.is_empty(self._what.directory):
            job_directory.take_back_empty(self._what.directory)
        else:
            await asyncio.to_thread(job_directory.take_back, self._what.directory)

    # ----------------------------------------------------------------------------------------------------------- signalling

    def _breach(self, reason: EndReason, detail: str) -> None:
        self._killed = self._killed or (reason, detail)
        self._kill()

    def _kill(self) -> None:
        self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        """Sends it once it goes on: what stands still hears nothing."""
        if self._id:
            task = asyncio.get_running_loop().create_task(self._send(name))
            self._signals.add(task)
            task.add_done_callback(self._signals.discard)

    async def _send(self, name: str) -> None:
        """Until the engine has heard it."""
        while self._ending is None:
            try:
                await self._freezing.thaw()
                await self._engine.signal(self._id, name)
            except EngineError as error:
                _logger.warning("run %s: %s was not sent: %s", self._what.container, name, error)
                await asyncio.sleep(RETRY_S)
            else:
                return

    def _on_sample(self, reading: Reading) -> None:
        self._offer(UsageSample(self._usage(reading)))

    def _offer(self, event: ExecutorEvent) -> None:
        """For what the next of its kind replaces: a consumer that is behind does without."""
        if not self._events.full():
            self._events.put_nowait(event)

    def _release(self) -> None:
        self._limits.stop()
        self._cancel_grace()

    def _cancel_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
