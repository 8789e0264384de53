"""Freezing a container: its engine pauses it, its time stands still with it, and that is noted for the warden and the next node.

What was asked last holds, also where what was asked before is still being done. What is to stand still is noted first, so that nobody ends it too
early. What is to go on is noted twice: before its engine is asked, so that a node that finds it going on knows since when; and after that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from dms.executors.oci.engine import Engine, EngineError
from dms.executors.oci.notes import Noted, Notes
from dms.executors.run_clock import RunClock
from dms.executors.sandbox.limit_watch import LimitWatch
from dms_proto.errors import MachineError

RETRY_S: Final = 0.5
_logger: Final = logging.getLogger(__name__)


class Freezing:
    """Of one container that was started. Lives on the node's loop."""

    def __init__(self, engine: Engine, notes: Notes, name: str, limits: LimitWatch, wall_ms: int) -> None:
        """Is told of the container by `meet`.

        Args:
            engine: whose container it is.
            notes: where it is noted.
            name: of its run.
            limits: of its run, whose clock stands still with it.
            wall_ms: how long it may run.
        """
        self.clock = RunClock(int(time.time() * 1000))
        self._engine = engine
        self._notes = notes
        self._name = name
        self._limits = limits
        self._wall_ms = wall_ms
        self._container = ""
        self._is_asked = False
        self._until_ms = 0
        self._is_over = False
        self._turn = asyncio.Lock()

    def meet(self, container: str, started_ms: int, *, is_paused: bool) -> None:
        """Says which container it is, and whether it stands still: one that was started long ago may, or may have, which was noted."""
        noted, now = self._notes.read(self._name), int(time.time() * 1000)
        stood_ms = noted.frozen_ms
        if noted.frozen_at and not is_paused:
            stood_ms += max(
                0, (noted.let_go_at or now) - noted.frozen_at
            )  # until now at most, where somebody else let it go on
        self.clock = RunClock(started_ms, stood_ms, (noted.frozen_at or now) if is_paused else 0)
        self._container = container
        self._is_asked = self._is_asked or is_paused  # it stays as it is found, until somebody says more

    def end(self) -> None:
        """It is over: nothing is asked of its engine any more."""
        self._is_over = True

    async def freeze(self, until_ms: int) -> None:
        """See `Run.freeze`; before there is a container: once there is.

        Raises:
            MachineError: `sandbox_failed`: its engine does not pause it.
        """
        self._is_asked, self._until_ms = True, until_ms
        await self.follow()

    async def thaw(self) -> None:
        """See `Run.thaw`."""
        self._is_asked = False
        await self.follow()

    async def follow(self) -> None:
        """Does what was asked last.

        Raises:
            MachineError: `sandbox_failed`: its engine does not pause it.
        """
        async with self._turn:
            if not self._container or self._is_over or self._is_asked == self.clock.is_frozen:
                return
            if self._is_asked:
                await self._freeze(self._until_ms)
            else:
                await self._thaw()

    async def _freeze(self, until_ms: int) -> None:
        self.clock.freeze()
        self._limits.freeze_clock()
        try:
            self._note(self.clock.frozen_at, until_ms)
            await self._engine.pause(self._container)
        except (EngineError, OSError) as error:
            self._is_asked = False
            await self._thaw()
            if not await self._has_ended():
                raise MachineError("sandbox_failed", f"it cannot be frozen: {error}") from error

    async def _has_ended(self) -> bool:
        try:
            state = await self._engine.state(self._container)
        except EngineError:
            return False
        return state is None or not state.running

    async def _thaw(self) -> None:
        while not self._is_over:
            self._note_going_on(is_asked=True)
            try:
                await self._engine.unpause(self._container)
            except EngineError as error:
                _logger.warning("run %s: it does not go on yet: %s", self._name, error)
                await asyncio.sleep(RETRY_S)
            else:
                break
        self.clock.thaw()
        self._limits.thaw_clock(self.clock.seconds())
        self._note_going_on()

    def _note_going_on(self, *, is_asked: bool = False) -> None:
        """That it goes on, or that its engine is about to be asked for that."""
        now = int(time.time() * 1000)
        try:
            self._note(self.clock.frozen_at if is_asked else 0, now, now if is_asked else 0)
        except OSError as error:  # noted as it was before: it has more time at the warden than it needs
            _logger.warning("run %s: that it goes on could not be noted: %s", self._name, error)

    def _note(self, frozen_at: int, goes_on_at: int, let_go_at: int = 0) -> None:
        left_ms = max(0, self._wall_ms - self.clock.millis())
        self._notes.write(self._name, Noted(frozen_at, self.clock.frozen_ms, goes_on_at + left_ms, let_go_at))
