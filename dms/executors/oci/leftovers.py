"""What an engine that failed has not removed: asked for again until it is done, so that no container runs on with nobody to end it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from dms.executors.oci.engine import EngineError

RETRY_S: Final = 2.0
Removal = Callable[[], Awaitable[object]]
"""Raises EngineError while the engine fails."""
_logger: Final = logging.getLogger(__name__)


class Leftovers:
    """Lives on the node's loop. While it lives, it is who ends them; after it the warden, at their deadlines."""

    def __init__(self) -> None:
        self._removals: dict[str, Removal] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, name: str, removal: Removal) -> None:
        """Removes it as soon as the engine can.

        Args:
            name: of what is left.
            removal: takes the place of an earlier one of that name.
        """
        self._removals[name] = removal
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._remove_all(), name="removing leftovers")

    def forget(self, name: str) -> None:
        """Leaves that name alone: something new has it now."""
        self._removals.pop(name, None)

    async def close(self) -> None:
        """Tries no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _remove_all(self) -> None:
        while self._removals:
            await asyncio.sleep(RETRY_S)
            for name, removal in list(self._removals.items()):
                await self._remove(name, removal)
        self._task = None

    async def _remove(self, name: str, removal: Removal) -> None:
        if self._removals.get(name) is not removal:
            return
        try:
            await removal()
        except EngineError as error:
            _logger.debug("%s is still not removed: %s", name, error)
            return
        if self._removals.get(name) is removal:
            del self._removals[name]
            _logger.info("%s is removed", name)
