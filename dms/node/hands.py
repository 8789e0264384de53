"""What workbench, collector and renewals share: work on the loop, started from any thread, whose outcome is told to an actor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from dms.tasks import Tasks
from dms_actors.loop_calls import LoopCalls

log = logging.getLogger(__name__)


class Hands:
    """Starts coroutines on the loop and keeps them until they end."""

    def __init__(self, calls: LoopCalls) -> None:
        self._calls = calls
        self._tasks = Tasks()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls a function on the loop; from any thread, returns at once."""
        if not self._calls.call(function, *arguments):
            log.debug("the loop has ended; %s is not called", function)

    def start(self, build: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Starts a coroutine on the loop; from any thread, returns at once."""
        self.call(lambda: self._tasks.start(build(), name))

    async def close(self) -> None:
        """Cancels what is under way and waits for it."""
        await self._tasks.close()
