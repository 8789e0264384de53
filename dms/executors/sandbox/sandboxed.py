"""What the executors share whose runs are programs in the sandbox: each says which program a task is."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path

from dms.executors.sandbox.engine import Sandbox
from dms.executors.sandbox.program import Program
from dms.executors.sandbox.refused import RefusedRun
from dms_actors.ports import OpenSecrets, Run
from dms_proto.secrets import OpenSecret
from dms_proto.work import Ending, EndReason, Task


class Sandboxed(abc.ABC):
    """Implements `dms_actors.ports.Executor` but for the probe; lives on the node's loop."""

    name: str
    libraries: tuple[str, ...] = ()

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    @abc.abstractmethod
    def _program(self, task: Task, directory: Path, secrets: Sequence[OpenSecret] = ()) -> Program:
        """What runs for a task, in its directory.

        Raises:
            MachineError: `executor_unavailable`.
        """

    def _fault(self, _task: Task, _directory: Path) -> str:
        """Why this task can never be started here, beside what holds for every program; or ""."""
        return ""

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
        if fault := self._fault(task, directory):
            return RefusedRun(Ending(EndReason.BAD_PROGRAM, -1, fault))
        program = self._program(task, directory, secrets)
        return await self._sandbox.run(allocation_id, task, program, directory, gives_way=gives_way)

    async def adopt(
        self, allocation_id: str, task: Task, directory: Path, handle: str, secrets: OpenSecrets = tuple
    ) -> Run | None:
        """See `Executor.adopt`. A run that ended while no node was there is adopted too, for its output and its end."""
        return await self._sandbox.adopt(allocation_id, task, self._program(task, directory), directory, handle)

    async def sweep(self, keep: Sequence[str]) -> int:
        """See `Executor.sweep`."""
        return await self._sandbox.sweep(self.name, keep)
