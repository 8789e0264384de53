r"""An executor without processes: its commands are small scripts it plays itself. The in-memory twin for tests, simulations and the no-op benchmark.

::

    ("print", "hello\\n", "exit", "0")          writes to stdout; exit is 0 when left out
    ("error", "oops\\n", "exit", "3")           writes to stderr
    ("sleep_ms", "50")                         takes time
    ("use", "1500")                            has used so many ms of CPU, and as many MiB, so far
    ("connect", "example.org:443")             is refused a connection to elsewhere: a script has none
    ("wait",)                                  runs until it is stopped
    ("ignore_stop", "wait")                    runs until it is killed
    ("on_stop", "7", "wait")                   exits with 7 when asked to stop
    ("signal", "9")                            dies by a signal
    ("write", "out/result.txt", "42")          leaves a file in its directory
    ("parts", "state", "3")                    adds a byte to a file, and exits with 85 until that has so many
    ("end", "out_of_memory")                   ends for any reason of `EndReason`
    ("cannot_start", "provider_fault")         ends for a reason without having started

Whoever connects to a declared port of a running script hears itself.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from dms.executors.run_clock import RunClock
from dms_actors.ports import EgressRefused, ExecutorEvent, Exited, LogChunk, OpenSecrets, Run, Started, UsageSample
from dms_proto.capability import ExecutorOffer, Isolation, Meter, Resources
from dms_proto.checkpoints import CHECKPOINT_EXIT
from dms_proto.egress import Barred
from dms_proto.errors import UserError
from dms_proto.secrets import OpenSecret
from dms_proto.tunnels import Target, check_target
from dms_proto.units import MIB, format_bytes, format_millis
from dms_proto.work import Ending, EndReason, Task, Usage

SIGNAL_BASE: Final = 128
_OPERANDS: Final = {
    "print": 1,
    "error": 1,
    "exit": 1,
    "sleep_ms": 1,
    "use": 1,
    "connect": 1,
    "wait": 0,
    "ignore_stop": 0,
    "on_stop": 1,
    "signal": 1,
    "write": 2,
    "parts": 2,
    "end": 1,
    "cannot_start": 1,
}
Sleep = Callable[[float], Awaitable[None]]


class ScriptedExecutor:
    """Implements `dms_actors.ports.Executor`.

    Runs outlive whoever started them, as processes do: a restarted node adopts them from the same object.
    """

    name = "scripted"
    libraries: tuple[str, ...] = ()

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        """Nothing runs yet.

        Args:
            sleep: how time passes in scripts; tests pass their own clock's.
        """
        self._sleep = sleep
        self._runs: dict[str, ScriptedRun] = {}
        self._started = 0
        self.giving_way: set[str] = set()
        """Allocations that were started as such that give way."""

    async def probe(self) -> ExecutorOffer:
        """Always available; no isolation, since nothing of the machine is used."""
        limits = ("wall", "output")
        return ExecutorOffer(name=self.name, version="1", isolation=Isolation.NONE, limits=limits, meter=Meter.WALL)

    async def run(
        self,
        allocation_id: str,
        task: Task,
        directory: Path,
        secrets: Sequence[OpenSecret] = (),
        *,
        gives_way: bool = False,
    ) -> Run:
        """See `Executor.run`."""
        self._started += 1
        if gives_way:
            self.giving_way.add(allocation_id)
        run = self._runs[allocation_id] = ScriptedRun(task, directory, f"scripted:{self._started}", self._sleep)
        return run

    async def adopt(
        self, allocation_id: str, task: Task, directory: Path, handle: str, secrets: OpenSecrets = tuple
    ) -> Run | None:
        """See `Executor.adopt`."""
        run = self._runs.get(allocation_id)
        return run if run is not None and run.handle == handle else None

    async def sweep(self, keep: Sequence[str]) -> int:
        """See `Executor.sweep`."""
        gone = [name for name in self._runs if name not in keep]
        removed = 0
        for name in gone:
            run = self._runs.pop(name)
            removed += not run.has_ended
            await run.stop(0)
        return removed


class ScriptedRun:
    """Implements `dms_actors.ports.Run`. Remembers its events, so that who adopts it sees them all."""

    def __init__(self, task: Task, directory: Path, handle: str, sleep: Sleep) -> None:
        self.handle = handle
        self._task = task
        self._directory = directory
        self._sleep = sleep
        self._clock = RunClock(int(time.time() * 1000))
        self._moving = asyncio.Event()
        self._moving.set()
        self._history: list[ExecutorEvent] = []
        self._offsets = {"stdout": 0, "stderr": 0}
        self._news = asyncio.Event()
        self._stop_code: int | None = SIGNAL_BASE + signal.SIGTERM
        self._timers: list[asyncio.TimerHandle] = []
        self._echoes: set[asyncio.Task[None]] = set()
        self._player = asyncio.get_running_loop().create_task(self._play())
        self._wall = self._wall_timer()

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return bool(self._history) and isinstance(self._history[-1], Exited)

    async def events(self) -> AsyncIterator[ExecutorEvent]:
        """See `Run.events`: all of them, from the first, for every caller."""
        place = 0
        while True:
            while place < len(self._history):
                event = self._history[place]
                place += 1
                yield event
                if isinstance(event, Exited):
                    return
            self._news.clear()
            await self._news.wait()

    async def stop(self, grace_ms: int) -> None:
        """See `Run.stop`."""
        if self.has_ended:
            return
        await self.thaw()
        if grace_ms <= 0:
            self._kill()
        elif self._stop_code is not None:
            self._finish(self._ending(EndReason.CANCELLED, self._stop_code, "stopped on request"))
        else:
            self._timers.append(asyncio.get_running_loop().call_later(grace_ms / 1000, self._kill))

    async def freeze(self, until_ms: int) -> None:
        """See `Run.freeze`: the script is played on once it is thawed."""
        if not self.has_ended:
            self._clock.freeze()
            self._moving.clear()
            self._wall.cancel()

    async def thaw(self) -> None:
        """See `Run.thaw`."""
        if self._clock.is_frozen:
            self._clock.thaw()
            self._moving.set()
            self._wall = self._wall_timer()

    async def resize(self, resources: Resources) -> None:
        """See `Run.resize`. What it uses is what its script says."""
        if self.has_ended or not self._history:
            raise UserError("not_running", "the script does not run")
        used = max((e.usage.memory_peak_bytes for e in self._history if isinstance(e, UsageSample)), default=0)
        if used > resources.memory_bytes:
            raise UserError("not_resizable", f"{format_bytes(used)} of memory are in use")

    async def connect(self, target: Target) -> socket.socket:
        """See `Run.connect`: to an echo."""
        if self.has_ended or not self._history:
            raise UserError("not_running", "the script does not run")
        check_target(target, self._task)
        given, kept = socket.socketpair()
        echo = asyncio.create_task(_echo(kept))
        self._echoes.add(echo)
        echo.add_done_callback(self._echoes.discard)
        echo.add_done_callback(lambda _task: kept.close())
        return given

    async def _play(self) -> None:
        try:
            steps = list(_parse(self._task.command))
        except ValueError as error:
            self._finish(self._ending(EndReason.BAD_PROGRAM, 127, str(error)))
            return
        if steps and steps[0][0] == "cannot_start":
            self._finish(self._ending(EndReason(steps[0][1]), -1, "as the script says"))
            return
        self._tell(Started(self.handle))
        for word, *operands in steps:
            await self._step(word, operands)
            await self._moving.wait()
            if self.has_ended:
                return
        self._exit(0)

    async def _step(self, word: str, operands: list[str]) -> None:  # noqa: C901, PLR0912 - one case per word
        match word, operands:
            case ("print" | "error") as stream, [text]:
                self._write("stdout" if stream == "print" else "stderr", text.encode())
            case "sleep_ms", [millis]:
                await self._sleep(int(millis) / 1000)
            case "use", [amount]:
                wall_ms = self._clock.millis() + 1
                self._tell(UsageSample(Usage(wall_ms, int(amount) * 1000, int(amount) * MIB)))
            case "connect", [destination]:
                self._tell(EgressRefused(Barred(destination, "a script has no way out")))
            case "wait", []:
                await asyncio.Event().wait()
            case "ignore_stop", []:
                self._stop_code = None
            case "on_stop", [code]:
                self._stop_code = int(code)
            case "write", [path, text]:
                self._append(path, text, anew=True)
            case "parts", [path, wanted]:
                if self._append(path, "x") < int(wanted):
                    self._exit(CHECKPOINT_EXIT)
            case "exit", [code]:
                self._exit(int(code))
            case "signal", [number]:
                died = SIGNAL_BASE + int(number)
                self._finish(self._ending(EndReason.KILLED_BY_SIGNAL, died, f"killed by signal {number}"))
            case "end", [reason]:
                self._finish(self._ending(EndReason(reason), SIGNAL_BASE + signal.SIGKILL, "as the script says"))

    def _append(self, path: str, text: str, *, anew: bool = False) -> int:
        """Writes to a file; gives how many bytes it has then."""
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w" if anew else "a") as file:
            file.write(text)
            return file.tell()

    def _write(self, stream: str, data: bytes) -> None:
        limit = self._task.limits.log_bytes
        room = limit - sum(self._offsets.values())
        if kept := data[:room]:
            self._tell(LogChunk(stream, self._offsets[stream], kept))
            self._offsets[stream] += len(kept)
        if len(data) > room:
            detail = f"output limit {format_bytes(limit)}, wrote {format_bytes(limit + len(data) - room)}"
            self._finish(self._ending(EndReason.OUTPUT_LIMIT, SIGNAL_BASE + signal.SIGKILL, detail))

    def _exit(self, code: int) -> None:
        reason = EndReason.EXIT_NONZERO if code else EndReason.COMPLETED
        self._finish(self._ending(reason, code, f"exit code {code}" if code else ""))

    def _kill(self) -> None:
        self._finish(self._ending(EndReason.CANCELLED, SIGNAL_BASE + signal.SIGKILL, "stopped on request"))

    def _wall_timer(self) -> asyncio.TimerHandle:
        left_s = max(0.0, self._task.limits.wall_ms / 1000 - self._clock.seconds())
        return asyncio.get_running_loop().call_later(left_s, self._on_wall_time)

    def _on_wall_time(self) -> None:
        detail = f"wall time limit {format_millis(self._task.limits.wall_ms)} reached"
        self._finish(self._ending(EndReason.WALL_TIME, SIGNAL_BASE + signal.SIGKILL, detail))

    def _ending(self, reason: EndReason, code: int, detail: str) -> Ending:
        return Ending(reason, code, detail, Usage(wall_ms=self._clock.millis()))

    def _finish(self, ending: Ending) -> None:
        if self.has_ended:
            return
        if not self._history and ending.exit_code >= SIGNAL_BASE:
            self._tell(Started(self.handle))  # it was stopped before its first step; it did run
        self._tell(Exited(ending))
        for timer in (self._wall, *self._timers):
            timer.cancel()
        for echo in self._echoes:
            echo.cancel()
        if asyncio.current_task() is not self._player:
            self._player.cancel()

    def _tell(self, event: ExecutorEvent) -> None:
        self._history.append(event)
        self._news.set()


async def _echo(end: socket.socket) -> None:
    end.setblocking(False)
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(end, 65_536):
        await loop.sock_sendall(end, data)
    end.shutdown(socket.SHUT_WR)


def _parse(command: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Words with their operands.

    Raises:
        ValueError: not a script; the message says where.
    """
    if not command:
        raise ValueError("the command is empty")
    place = 0
    while place < len(command):
        word = command[place]
        operands = command[place + 1 : place + 1 + _OPERANDS.get(word, 0)]
        if word not in _OPERANDS or len(operands) < _OPERANDS[word]:
            raise ValueError(f"{word}: not a word of a script, or too few operands (word {place + 1})")
        _check_operands(word, operands)
        yield (word, *operands)
        place += 1 + len(operands)


def _check_operands(word: str, operands: tuple[str, ...]) -> None:
    if word in ("exit", "signal", "sleep_ms", "on_stop"):
        int(operands[0])
    elif word in ("end", "cannot_start"):
        EndReason(operands[0])
    elif word in ("write", "parts"):
        path = PurePosixPath(operands[0])
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{operands[0]}: not below the job's directory")
