"""The executor for native commands: bubblewrap, a system call filter and the machine's limiter around one program."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from dms.executors.sandbox import bwrap, probe
from dms.executors.sandbox.agents import with_agents
from dms.executors.sandbox.engine import Sandbox
from dms.executors.sandbox.interpreter import SYSTEM, Interpreter, least
from dms.executors.sandbox.program import Program, environment_of, files_of
from dms.executors.sandbox.sandboxed import Sandboxed
from dms_proto.capability import ExecutorOffer, Isolation
from dms_proto.secrets import OpenSecret
from dms_proto.work import Task


class SandboxExecutor(Sandboxed):
    """Implements `dms_actors.ports.Executor`; lives on the node's loop."""

    name = "sandbox"

    def __init__(self, sandbox: Sandbox, system_python: Path = SYSTEM) -> None:
        """`system_python`: the machine's, if it has one there."""
        super().__init__(sandbox)
        self._system_python = system_python

    async def probe(self) -> ExecutorOffer:
        """See `Executor.probe`."""
        self._sandbox.start()
        limits = await probe.prove(self._sandbox)
        return ExecutorOffer(
            name=self.name,
            version=await asyncio.to_thread(bwrap.version, self._sandbox.binary),
            isolation=Isolation.NAMESPACES,
            limits=limits,
            meter=self._sandbox.limiter.meter,
        )

    async def sweep(self, keep: Sequence[str]) -> int:
        """See `Executor.sweep`. What trials have left goes, too."""
        await self._sandbox.sweep(probe.OWNER, [])
        return await super().sweep(keep)

    def _program(self, task: Task, _directory: Path, secrets: Sequence[OpenSecret] = ()) -> Program:
        program = Program(
            executor=self.name,
            command=task.command,
            environment=environment_of(task, secrets),
            secrets=files_of(secrets),
        )
        return with_agents(program, task, self._python)

    def _python(self) -> Interpreter:
        empty = self._sandbox.settings.state_directory / "empty"
        empty.mkdir(mode=0o755, parents=True, exist_ok=True)
        return least(empty, self._system_python)
