"""The executor for Python, on top of the sandbox of native commands: a program, or where the task names none, a worker that takes calls.

The worker stands at the door itself, so between a caller's tunnel and a function there is nothing but it. Nothing of what is called, or comes back,
is opened by the node: to it these are bytes between two sockets.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from dms.calls import worker
from dms.executors.python.installation import ASK_S, Installation, Shown, ask, show
from dms.executors.sandbox import probe, wanted
from dms.executors.sandbox.agents import letting_exec, letting_out
from dms.executors.sandbox.engine import Sandbox
from dms.executors.sandbox.program import Program, environment_of, files_of
from dms.executors.sandbox.sandboxed import Sandboxed
from dms_actors.ports import Run
from dms_proto.capability import ExecutorOffer, Isolation
from dms_proto.errors import MachineError
from dms_proto.secrets import OpenSecret
from dms_proto.units import SECOND
from dms_proto.work import PYTHON, EndReason, ExecBy, Limits, Task, takes_calls

HOME: Final = "/opt/dms"
"""Where the worker, and cloudpickle, lie inside."""
LIBRARIES: Final = "LD_LIBRARY_PATH"
PATH: Final = "PYTHONPATH"
_TRIAL: Final = Task(PYTHON, ("-c", "import cloudpickle"), limits=Limits(wall_ms=30_000))


class PythonExecutor(Sandboxed):
    """Implements `dms_actors.ports.Executor`; lives on the node's loop."""

    name = PYTHON

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox)
        self._home = sandbox.settings.state_directory / "python"
        self._found: Installation | None = None
        self._shown: Shown

    async def probe(self) -> ExecutorOffer:
        """See `Executor.probe`: besides the sandbox's own walls, its Python has to run in there."""
        self._sandbox.start()
        found = await asyncio.to_thread(self._prepared)
        limits = await probe.prove(self._sandbox)

        async def start(directory: Path) -> Run:
            return await self.run("probe-python", _TRIAL, directory)

        ending = await probe.trial(self._sandbox, "probe-python", start)
        if ending.reason is not EndReason.COMPLETED:
            why = f"{found.executable} does not run in the sandbox: {ending.reason.value}, {ending.detail}"
            raise MachineError("executor_unavailable", why, hint="dms doctor")
        return ExecutorOffer(
            name=self.name,
            version=found.release,
            isolation=Isolation.NAMESPACES,
            limits=limits,
            meter=self._sandbox.limiter.meter,
        )

    def _program(self, task: Task, _directory: Path, secrets: Sequence[OpenSecret] = ()) -> Program:
        self._prepared()
        interpreter, path = self._shown.interpreter, (*self._shown.path, HOME)
        environment = environment_of(task, secrets)
        if takes_calls(task):
            spec = {"path": path, "idle_s": task.limits.idle_ms / SECOND}
            command = (*interpreter.command, f"{HOME}/worker.py", wanted.DOOR, msgspec.json.encode(spec).decode())
        else:
            # Not isolated (-I): a program finds its own modules beside it, and its variables mean what they say.
            command = (interpreter.command[0], "-S", *task.command)
            environment[PATH] = ":".join(filter(None, (environment.get(PATH), *path)))
        if interpreter.library_path:
            environment[LIBRARIES] = ":".join(filter(None, (interpreter.library_path, environment.get(LIBRARIES))))
        program = Program(
            executor=self.name,
            command=command,
            environment=environment,
            secrets=files_of(secrets),
            binds=(*interpreter.binds, (self._home / "shown", HOME)),
            opens_door=takes_calls(task),
        )
        if task.exec is not ExecBy.NOBODY:
            program = letting_exec(program, interpreter)
        if task.egress.destinations:
            program = letting_out(program, task.egress, (), interpreter)
        return program

    def _prepared(self) -> Installation:
        """Asks the interpreter, and puts the worker where it can be shown. Once.

        Raises:
            MachineError: `executor_unavailable`.
        """
        if self._found is not None:
            return self._found
        chosen = self._sandbox.settings.python
        found = ask(chosen or sys.executable, with_packages=bool(chosen))
        empty = self._home / "empty"
        try:
            empty.mkdir(mode=0o755, parents=True, exist_ok=True)
            _furnish(self._home / "shown", chosen or sys.executable)
        except (OSError, subprocess.SubprocessError) as error:
            raise MachineError("executor_unavailable", f"{self._home} cannot be written: {error}") from error
        self._shown = show(found, empty)
        self.libraries = self._shown.libraries
        self._found = found
        return found


def _furnish(home: Path, executable: str) -> None:
    """Puts the worker and cloudpickle into a directory, with their compiled form for that Python. cloudpickle is copied, not imported.

    Raises:
        OSError: no room or no permission.
        subprocess.SubprocessError: they could not be compiled.
        MachineError: `executor_unavailable`: there is no cloudpickle.
    """
    spec = importlib.util.find_spec("cloudpickle")
    if spec is None or not spec.submodule_search_locations:
        raise MachineError("executor_unavailable", "cloudpickle is not installed", hint="pip install cloudpickle")
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    source = Path(spec.submodule_search_locations[0])
    shutil.copytree(source, home / "cloudpickle", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(worker.__file__, home / "worker.py")
    command = [executable, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(home)]
    subprocess.run(command, env={}, capture_output=True, timeout=ASK_S, check=True)
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
