"""A few processes kept ready, each in a cgroup of its own, so that neither the fork nor the joining of the group is on a job's way."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from dms.executors.limiter import Group, Limiter
from dms.executors.sandbox.launcher import Launcher, Spare
from dms_proto.errors import MachineError

_logger: Final = logging.getLogger(__name__)

SIZE: Final = 2
"""A run of jobs is served at the rate at which spares are made; more of them would only cost memory (about 4 MB each)."""
REFILL_AFTER_S: Final = 0.02
"""The job that was just started goes first."""
END_WAIT_S: Final = 2.0


class SparePool:
    """Lives on the node's loop."""

    def __init__(self, launcher: Launcher, limiter: Limiter) -> None:
        self._launcher = launcher
        self._limiter = limiter
        self._ready: list[Spare] = []
        self._making: list[Group] = []
        self._made = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refilling: asyncio.Task[None] | None = None

    def groups(self) -> list[Group]:
        """The groups of spares that are ready or being made."""
        return [spare.group for spare in self._ready] + list(self._making)

    def refill_soon(self, seconds: float = REFILL_AFTER_S) -> None:
        """Makes what is missing a little later."""
        if self._timer is None and (self._refilling is None or self._refilling.done()):
            self._timer = asyncio.get_running_loop().call_later(seconds, self._refill)

    async def take(self, *, gives_way: bool = False) -> Spare:
        """A spare for a run; made now if none is ready. For one that gives way none is: it can wait.

        Raises:
            MachineError: `sandbox_failed`.
        """
        if gives_way:
            return await self._make(gives_way=True)
        self.refill_soon()
        while self._ready:
            spare = self._ready.pop(0)
            if not spare.process.has_ended:
                return spare
            await self._discard(spare)
        return await self._make()

    async def close(self) -> None:
        """Lets all spares end. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.gather(self._refilling, return_exceptions=True)
        ready, self._ready = self._ready, []
        for spare in ready:
            spare.dismiss()
        for spare in ready:
            await self._discard(spare)

    def _refill(self) -> None:
        self._timer = None
        self._refilling = asyncio.get_running_loop().create_task(self._make_missing())

    async def _make_missing(self) -> None:
        try:
            while len(self._ready) < SIZE:
                self._ready.append(await self._make())
        except MachineError as error:
            _logger.warning("no spare process: %s", error)

    async def _make(self, *, gives_way: bool = False) -> Spare:
        self._made += 1
        group = self._limiter.prepare(f"run-{os.getpid()}-{self._made}", gives_way=gives_way)
        self._making.append(group)
        try:
            return await self._launcher.spare(group)
        except BaseException:
            group.remove()
            raise
        finally:
            self._making.remove(group)

    async def _discard(self, spare: Spare) -> None:
        spare.dismiss()
        if not await spare.process.wait(END_WAIT_S):
            spare.process.kill()
            await spare.process.wait(END_WAIT_S)
        spare.process.close()
        spare.group.remove()
