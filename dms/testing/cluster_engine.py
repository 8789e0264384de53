"""A cluster of this machine alone: an engine whose jobs are processes. The twin of the engines of clusters, for tests."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

from dms.executors.cluster.engine import Capacity, EngineError, EngineJob, Machine, Order
from dms_proto.capability import Resources
from dms_proto.units import CORE, GIB

WHOLE = Resources(cpu_millicores=4 * CORE, memory_bytes=8 * GIB)


class ProcessEngine:
    """Implements `Engine`.

    Attributes:
        is_away: set to have it give no answer.
        holds: set to have jobs wait.
        orders: what was placed, by name.
    """

    name = "processes"

    def __init__(self) -> None:
        self.is_away = False
        self.holds = False
        self.orders: dict[str, Order] = {}
        self._waiting: set[str] = set()
        self._processes: dict[str, list[subprocess.Popen[bytes]]] = {}

    async def capacity(self) -> Capacity:
        """See `Engine.capacity`."""
        self._answer()
        return Capacity("processes 1", (Machine("here", WHOLE, WHOLE),))

    async def submit(self, name: str, order: Order) -> str:
        """See `Engine.submit`."""
        self._answer()
        self.orders[name] = order
        if self.holds:
            self._waiting.add(name)
        else:
            self.start(name)
        return name

    def start(self, name: str) -> None:
        """Starts a job, be it for the second time."""
        self._waiting.discard(name)
        order = self.orders[name]
        try:
            with (order.directory / "runner.log").open("ab") as log:
                started = subprocess.Popen(
                    order.command, cwd=order.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
        except OSError as error:
            raise EngineError(f"{order.command[0]}: {error.strerror}") from error
        self._processes.setdefault(name, []).append(started)

    async def jobs(self) -> Mapping[str, EngineJob]:
        """See `Engine.jobs`."""
        self._answer()
        running = [name for name in self._processes if self._alive(name)]
        waiting = {name: EngineJob(name, is_running=False, detail="Resources") for name in self._waiting}
        return waiting | {name: EngineJob(name, is_running=True, detail="here") for name in running}

    async def cancel(self, job_id: str) -> None:
        """See `Engine.cancel`."""
        self._answer()
        self._waiting.discard(job_id)
        self.signal(job_id, signal.SIGTERM)

    async def until_over(self, name: str) -> None:
        """Waits for the process that was started last for a job."""
        await asyncio.to_thread(self._processes[name][-1].wait)

    def signal(self, name: str, number: int) -> None:
        """Sends what was started for a job a signal."""
        for process in self._alive(name):
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    async def close(self) -> None:
        """Jobs go on."""

    def end(self) -> None:
        """Waits for what it has started, which has to end by itself by now."""
        for process in (process for processes in self._processes.values() for process in processes):
            process.wait(timeout=60)

    def _alive(self, name: str) -> list[subprocess.Popen[bytes]]:
        return [process for process in self._processes.get(name, ()) if process.poll() is None]

    def _answer(self) -> None:
        if self.is_away:
            raise EngineError("nobody answers")
