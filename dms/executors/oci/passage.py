"""What leads into a container and out of it, as it does for a sandbox: the same agents inside, and the same proxy and keeper outside.

::

    DIRECTORY/NAME.node     where its starter finds the node (`descriptors_start`); it is gone once that was given what the agents need
    DIRECTORY/NAME.door     the way in, for a job that declares ports (`door`)
    DIRECTORY/NAME.exec     likewise, for a job that lets commands be run beside it
    DIRECTORY/NAME.egress   what went through the proxy, for a job that may connect to elsewhere

An engine passes no descriptors on to what it starts. So the container shows a socket, and its first program takes them there from the node.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from dms.egress.meter import read_barred, read_total
from dms.egress.starting import Companion
from dms.executors.oci import descriptors_start, own_python
from dms.executors.oci.config import Image
from dms.executors.oci.faults import RefusedError
from dms.executors.oci.outcome import Outcome
from dms.executors.sandbox import agent_start, door, exec_agent, port_agent, ports_start, wanted
from dms.executors.sandbox.agents import text_of, with_agents
from dms.executors.sandbox.interpreter import Interpreter
from dms.executors.sandbox.program import Program
from dms.executors.sandbox.run_files import METER
from dms.executors.sandbox.wanted import Outside
from dms.executors.settings import ExecutorSettings
from dms_proto.egress import Barred
from dms_proto.errors import MachineError
from dms_proto.siblings import hosts_of
from dms_proto.tunnels import Target
from dms_proto.work import Ending, EndReason, Task, Usage, wants_company

NODE: Final = "/run/dms/node"
"""Where the socket is seen in a container."""
START_S: Final = 30.0
"""Seconds in which the first program of a container has to ask for its descriptors."""
KEPT_OUT: Final = (
    "what leads into the container does not start in it: its engine or its runtime keeps it from the node's socket"
)
"""Told of a container whose first program has ended, or has asked, without handing its log over."""
_NODE: Final = "node"
_SUFFIXES: Final = (_NODE, METER, door.SUFFIX, door.EXEC_SUFFIX)
_FIRST: Final = 32
"""Number of the first descriptor that is passed in; those below are what a program may find open."""
_Metered = TypeVar("_Metered")
_APPENDING: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class Shown(msgspec.Struct, frozen=True):
    """What a container is made with, besides what its job says.

    Attributes:
        command: in place of the job's.
        environment: variables.
        binds: as the engine takes them.
        hosts: as the engine takes them, for /etc/hosts.
    """

    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    binds: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class Passages:
    """Those of one node.

    Attributes:
        is_proven: whether what leads into a container has started in one here, since it was last tried.
    """

    def __init__(self, settings: ExecutorSettings, directory: Path) -> None:
        """Touches nothing yet.

        Args:
            settings: of all executors.
            directory: for these files alone.
        """
        self.settings = settings
        self.directory = directory
        self.is_proven = False
        self.python: Interpreter
        self.home: Path
        self._preparing = threading.Lock()

    async def of(self, name: str, task: Task) -> Passage:
        """That of a run.

        Raises:
            MachineError: `executor_unavailable`: what the agents need cannot be made here.
        """
        if wants_company(task):
            await asyncio.to_thread(self._prepare)
        return Passage(self, name, task)

    def _prepare(self) -> None:
        """Makes the directory, and the Python for the agents: not before a job wants them, for it takes a second."""
        texts = [text_of(agent_start, agent) for agent in (port_agent, exec_agent, ports_start)]
        try:
            with self._preparing:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.home, self.python = own_python.lay_out(self.directory.parent, [*texts, text_of(descriptors_start)])
        except OSError as error:
            raise MachineError("executor_unavailable", f"{self.directory} cannot be used: {error}") from error

    def remove(self, name: str) -> None:
        """Takes away what a run has left. Idempotent."""
        for suffix in _SUFFIXES:
            (self.directory / f"{name}.{suffix}").unlink(missing_ok=True)

    def sweep(self, keep: Collection[str]) -> None:
        """Takes away what all runs but these have left."""
        for name in {path.stem for path in self.directory.glob("*.*")} - set(keep):
            self.remove(name)


class Passage:
    """Of one run. Lives on the node's loop.

    Attributes:
        name: of the run.
        program: the job's command with all that is started before it, and what that needs; its words name descriptors.
    """

    def __init__(self, of: Passages, name: str, task: Task) -> None:
        self._of = of
        self.name = name
        self._task = task
        self._uid = 0
        self._listener: socket.socket | None = None
        self._companions: list[Companion] = []
        self._outcome: Outcome | None = None
        self.program = self._program(task.command, task.environment)

    @property
    def is_wanted(self) -> bool:
        """Whether anything leads into it or out of it."""
        return bool(wanted.wanted(self.program))

    @property
    def is_half_open(self) -> bool:
        """Whether it was about to start when its node ended: it waits for what nobody will give it."""
        return self._path(_NODE).exists()

    # ---------------------------------------------------------------------------------------------------------- the start

    def open(self, image: Image, command: Sequence[str], environment: Mapping[str, str], uid: int) -> Shown:
        """Makes what the container has to show.

        Args:
            image: in which the job runs.
            command: the job's; empty: the image's.
            environment: its variables.
            uid: who the job is on this machine; 0: the node's own user.

        Raises:
            OSError: no room or no permission.
        """
        command = tuple(command) or (*image.entrypoint, *image.command)
        if not self.is_wanted or not command:  # without one it is not started: the engine says so
            return Shown(command, environment)
        own = dict(pair.split("=", 1) for pair in image.environment if "=" in pair)
        self._of.remove(self.name)
        self._uid = uid
        self.program = self._program(command, {**own, **environment})
        numbers = {word: _FIRST + index for index, word in enumerate(wanted.wanted(self.program))}
        given = ",".join(map(str, numbers.values()))
        start = (*self._of.python.command, "-c", text_of(descriptors_start), NODE, given)
        self._listener = door.listen(self._of.directory, self.name, _NODE)
        self._path(_NODE).chmod(0o666)  # for the job's user; nobody else sees its directory
        return Shown(
            command=(*start, *wanted.filled(self.program.command, numbers)),
            environment=self.program.environment,
            binds=(f"{self._of.home}:{own_python.PLACE}:ro,z", f"{self._path(_NODE)}:{NODE}:ro,z"),
            hosts=tuple(
                f"{name}:{address}" for address, name in map(str.split, hosts_of(self._task.names).splitlines())
            ),
        )

    async def give(self, process: int, ended: Callable[[], Awaitable[object]]) -> None:
        """Gives a container that was started what its agents need.

        Args:
            process: its first, on this machine.
            ended: returns when the container has ended.

        Raises:
            RefusedError: nobody asks for it as the starter does, though on this machine it can: the time until then is the job's.
            MachineError: `sandbox_failed`: nobody asks for it, or this machine cannot give it.
            EngineError: the engine went away.
        """
        if self._listener is None:
            return
        began = time.monotonic()
        listener, self._listener = self._listener, None
        try:
            with listener:
                connection = await self._first(listener, ended)
            with connection:
                await asyncio.to_thread(self._lead, connection, process)
        except _NotAskedError as error:
            if self._of.is_proven:
                raise RefusedError(_kept_by_image(str(error), time.monotonic() - began)) from error
            raise MachineError("sandbox_failed", str(error), hint="dms doctor") from error
        except OSError as error:
            raise MachineError(
                "sandbox_failed", f"what leads into the container could not be given to it: {error}"
            ) from error
        self._of.is_proven = True
        self._path(_NODE).unlink()

    def drop(self) -> None:
        """It does not start."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._forget_outcome()

    @staticmethod
    async def _first(listener: socket.socket, ended: Callable[[], Awaitable[object]]) -> socket.socket:
        """The connection of who starts the job.

        Raises:
            EngineError: the engine went away.
        """
        listener.setblocking(False)
        asking = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(listener))
        ending = asyncio.ensure_future(ended())
        try:
            await asyncio.wait({asking, ending}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asking, ending):
                task.cancel()
            await asyncio.gather(asking, ending, return_exceptions=True)
        if not asking.cancelled():
            return asking.result()[0]
        if ending.cancelled():
            raise _NotAskedError(f"what leads into the container has not started in it within {START_S:.0f} s")
        ending.result()
        raise _NotAskedError(KEPT_OUT)

    def _lead(self, connection: socket.socket, process: int) -> None:
        """One message there, one back; who asks may be a stranger's program, so not for ever."""
        connection.settimeout(door.ANSWER_S)
        with ExitStack() as opened:
            with _by_who_asks():
                logs = socket.recv_fds(connection, 1, 1)[1]
                opened.callback(_close, logs)
                if not logs:
                    raise _NotAskedError(KEPT_OUT)
                run = os.pidfd_open(process)
            opened.callback(os.close, run)
            outside = Outside(self.name, run, logs[0], self._uid, self._of.settings)
            makers: dict[str, Callable[[], int]] = {
                wanted.RESULT: lambda: self._result(opened),
                wanted.DOOR: lambda: self._door(door.SUFFIX, opened),
                wanted.EXEC: lambda: self._door(door.EXEC_SUFFIX, opened),
                wanted.EGRESS: lambda: self._joined(outside.proxy(self.program, self._meter(opened)), opened),
                wanted.NAMES: lambda: self._joined(outside.keeper(self.program), opened),
            }
            given = [makers[word]() for word in wanted.wanted(self.program)]
            with _by_who_asks():
                socket.send_fds(connection, [b"\0"], given)

    def _result(self, opened: ExitStack) -> int:
        outcome = Outcome()
        given = os.dup(outcome.descriptor)  # the run may be let go of while this one is on its way
        opened.callback(os.close, given)
        self._outcome = outcome
        return given

    def _door(self, suffix: str, opened: ExitStack) -> int:
        return opened.enter_context(door.listen(self._of.directory, self.name, suffix)).fileno()

    def _meter(self, opened: ExitStack) -> int:
        meter = os.open(self._path(METER), _APPENDING, 0o600)
        opened.callback(os.close, meter)
        return meter

    def _joined(self, companion: Companion, opened: ExitStack) -> int:
        self._companions.append(companion)
        return opened.enter_context(companion.inner).fileno()

    # ------------------------------------------------------------------------------------------------------------ the run

    async def connect(self, target: Target) -> socket.socket:
        """See `door.connect`."""
        return await door.connect(self._of.directory, self.name, target)

    def judged(self, ending: Ending) -> Ending:
        """How it ended, by what its starter has said as well: to the node that started it, and to no later one."""
        if self.program.judge is None or self._outcome is None:
            return ending
        return self.program.judge(ending, self._outcome.read())

    def egress_bytes(self) -> int:
        """What went through the proxy by now."""
        return self._metered(read_total, 0)

    def barred(self) -> tuple[Barred, ...]:
        """What the proxy has refused by now."""
        return self._metered(read_barred, ())

    async def wait_ended(self) -> None:
        """Waits for what goes on beside it, once the run is over."""
        self._forget_outcome()
        for companion in self._companions:
            await companion.wait_ended()

    def let_go(self) -> None:
        """Leaves what goes on beside it, for as long as the run does."""
        self._forget_outcome()
        for companion in self._companions:
            companion.let_go()

    def _forget_outcome(self) -> None:
        if self._outcome is not None:
            self._outcome.close()
            self._outcome = None

    def _metered(self, read: Callable[[int], _Metered], nothing: _Metered) -> _Metered:
        try:
            descriptor = os.open(self._path(METER), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return nothing
        try:
            return read(descriptor)
        finally:
            os.close(descriptor)

    def _program(self, command: Sequence[str], environment: Mapping[str, str]) -> Program:
        bare = Program("oci", tuple(command), dict(environment))
        return with_agents(bare, self._task, lambda: self._of.python, certificates="")

    def _path(self, suffix: str) -> Path:
        return self._of.directory / f"{self.name}.{suffix}"


class _NotAskedError(Exception):
    """Whoever should ask does not, or not as the starter does."""


@contextmanager
def _by_who_asks() -> Iterator[None]:
    """That the other end is silent or gone is no fault of this machine's."""
    try:
        yield
    except TimeoutError as error:
        raise _NotAskedError(f"what starts in the container said nothing within {door.ANSWER_S:g} s") from error
    except (ConnectionError, ProcessLookupError) as error:
        raise _NotAskedError(KEPT_OUT) from error


def _kept_by_image(why: str, after_s: float) -> Ending:
    """The end of a run whose starter did not ask, where others have: what else runs before it is of the image."""
    if why == KEPT_OUT:
        why = "what leads into the container does not start in it, as it does in others here: its image keeps it from that"
    return Ending(EndReason.BAD_PROGRAM, -1, why, Usage(wall_ms=max(1, int(after_s * 1000))))


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
