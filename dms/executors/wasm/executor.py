"""The executor for WebAssembly: a worker process in the sandbox of native commands, so that two independent walls stand around a module.

wasmtime meters it in fuel, which is exact and the same on every machine, and refuses memory beyond the reservation; the sandbox does the rest.
The interpreter that runs the worker is the node's own.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import py_compile
import shutil
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from dms.executors.sandbox import probe, profile, wanted
from dms.executors.sandbox.engine import Sandbox
from dms.executors.sandbox.interpreter import LIBRARY_PATH, own
from dms.executors.sandbox.program import Program
from dms.executors.sandbox.sandboxed import Sandboxed
from dms.executors.wasm import worker
from dms.executors.wasm.judge import judge_of
from dms_actors.ports import Run
from dms_proto.capability import ExecutorOffer, Isolation
from dms_proto.errors import MachineError
from dms_proto.secrets import OpenSecret
from dms_proto.units import MIB, format_bytes
from dms_proto.work import EndReason, Limits, Task

MAX_MODULE_BYTES: Final = 64 * MIB
WORKER_BYTES: Final = 64 * MIB
"""Memory of Python and wasmtime themselves; the job's reservation is for its linear memory."""
COMPILE_FACTOR: Final = 12
"""Memory the compiler was seen to need, per byte of module (231 MiB for 26 MB)."""
WORKER_PROCESSES: Final = 32
DEADLINE_MARGIN_S: Final = 0.02
"""The worker stops the module this long before the node's own clock kills the worker, so that fuel is still reported."""
_WORKER: Final = f"{worker.HOME}/worker.py"


class WorkerSpec(msgspec.Struct, frozen=True):
    """What the worker is told.

    Attributes:
        module: path inside.
        arguments: of the module, beginning with its name.
        environment: variables the module sees.
        directory: path inside of what it sees as "/".
        variables: names of files in `secrets` whose content becomes a variable of that name.
        secrets: path inside of a directory the module sees at the same path; empty for none.
        fuel: most instructions; 0 for no limit.
        memory_bytes: most linear memory.
        deadline: CLOCK_MONOTONIC seconds at which it is interrupted.
    """

    module: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    variables: tuple[str, ...]
    secrets: str
    fuel: int
    memory_bytes: int
    deadline: float


class WasmExecutor(Sandboxed):
    """Implements `dms_actors.ports.Executor`; lives on the node's loop."""

    name = "wasm"

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox)
        self._interpreter: tuple[str, ...] = ()
        self._binds: tuple[tuple[Path, str], ...] = ()

    async def probe(self) -> ExecutorOffer:
        """See `Executor.probe`: besides the sandbox's own walls, fuel and memory limits are run into."""
        self._sandbox.start()
        await asyncio.to_thread(self._prepare)
        trials = [asyncio.create_task(self._prove(number)) for number in range(len(_TRIALS))]
        try:
            limits = await probe.prove(self._sandbox)
        finally:
            outcomes = await asyncio.gather(*trials, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return ExecutorOffer(
            name=self.name,
            version=importlib.metadata.version("wasmtime"),
            isolation=Isolation.WASM,
            # A module has one thread, and wasmtime itself refuses it memory, whatever the limiter can do.
            limits=tuple(dict.fromkeys((*limits, "memory", "processes"))),
            meter=self._sandbox.limiter.meter,
        )

    def _fault(self, task: Task, directory: Path) -> str:
        return module_fault(task, directory)

    def _program(self, task: Task, directory: Path, secrets: Sequence[OpenSecret] = ()) -> Program:
        self._prepare()
        memory = task.resources.memory_bytes or self._sandbox.settings.unreserved.memory_bytes
        spec = WorkerSpec(
            module=f"/job/{task.module}",
            arguments=(task.module, *task.command),
            environment=task.environment,
            directory="/job",
            # As files even these: in the worker's own environment a name such as LD_PRELOAD would mean something.
            variables=tuple(secret.name for secret in secrets if secret.variable),
            secrets=profile.SECRETS if secrets else "",
            fuel=task.limits.fuel,
            memory_bytes=memory,
            deadline=time.monotonic() + task.limits.wall_ms / 1000 - DEADLINE_MARGIN_S,
        )
        return Program(
            executor=self.name,
            command=(*self._interpreter, _WORKER, wanted.RESULT, msgspec.json.encode(spec).decode()),
            environment={"RAYON_NUM_THREADS": "2", "LD_LIBRARY_PATH": LIBRARY_PATH},
            secrets={secret.name: secret.value for secret in secrets},
            binds=self._binds,
            overhead_bytes=WORKER_BYTES + COMPILE_FACTOR * _size(directory / task.module),
            overhead_processes=WORKER_PROCESSES,
            judge=judge_of(memory, task.limits.fuel),
        )

    def _prepare(self) -> None:
        """Finds the interpreter and wasmtime, and compiles wasmtime's Python files once. Idempotent.

        Raises:
            MachineError: `executor_unavailable`.
        """
        if self._interpreter:
            return
        spec = importlib.util.find_spec("wasmtime")
        if spec is None or not spec.submodule_search_locations:
            raise MachineError("executor_unavailable", "wasmtime is not installed", hint="pip install wasmtime")
        package = Path(spec.submodule_search_locations[0])
        home = self._sandbox.settings.state_directory / "wasm"
        try:
            _furnish(home, package)
        except OSError as error:
            raise MachineError("executor_unavailable", f"{home} cannot be written: {error}") from error
        python = own()
        self._binds = (
            *python.binds,
            (package, f"{worker.SITE}/wasmtime"),
            (home, worker.HOME),
        )
        self._interpreter = python.command

    async def _prove(self, number: int) -> None:
        text, reason = _TRIALS[number]
        task = Task(self.name, module="probe.wat", limits=Limits(wall_ms=20_000, fuel=1_000_000))

        async def start(directory: Path) -> Run:
            (directory / task.module).write_text(text)
            return await self.run(f"probe-wasm-{number}", task, directory)

        ending = await probe.trial(self._sandbox, f"probe-wasm-{number}", start)
        if ending.reason is not reason:
            detail = f"{ending.reason.value} instead of {reason.value}: {ending.detail}"
            raise MachineError("executor_unavailable", f"the WebAssembly worker does not hold its limits: {detail}")


_TRIALS: Final = (
    # For ever; fuel must end it.
    ('(module (func (export "_start") (loop br 0)))', EndReason.OUT_OF_FUEL),
    # Asks for 4 GiB, more than any reservation here: traps when it gets them.
    (
        '(module (memory 1) (func (export "_start") '
        "(if (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))))",
        EndReason.COMPLETED,
    ),
)


def module_fault(task: Task, directory: Path) -> str:
    """Why this task names no module that could be run, or ""."""
    path = PurePosixPath(task.module)
    if not task.module or path.is_absolute() or ".." in path.parts:
        return f"the module's path must be relative to the job's directory: {task.module!r}"
    try:
        status = os.lstat(directory / path)
    except (OSError, ValueError) as error:
        return f"the module {task.module!r} is not there: {error}"
    if not stat.S_ISREG(status.st_mode):
        return f"the module {task.module!r} is not a regular file"
    if status.st_size > MAX_MODULE_BYTES:
        return f"the module has {format_bytes(status.st_size)}, the limit is {format_bytes(MAX_MODULE_BYTES)}"
    return ""


def _size(path: Path) -> int:
    try:
        return min(path.lstat().st_size, MAX_MODULE_BYTES)
    except OSError:
        return 0


def _furnish(home: Path, package: Path) -> None:
    """Puts the worker's program where it can be shown to it, and the compiled form of wasmtime's modules, which an installation may lack."""
    inside = home / Path(worker.PYCACHE).name / worker.SITE.lstrip("/") / "wasmtime"
    inside.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(worker.__file__, home / "worker.py")
    for source in package.glob("*.py"):
        target = inside / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(
            str(source), str(target), f"{worker.SITE}/wasmtime/{source.name}", True, invalidation_mode=mode
        )
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
