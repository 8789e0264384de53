"""What workbench, collector and renewals share: work on the loop, started from any thread, whose outcome is told to an actor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from dms_actors.loop_calls import LoopCalls

log = logging.getLogger(__name__)


class Hands:
    """Starts coroutines on the loop and keeps them until they end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, calls: LoopCalls) -> None:
        self._loop = loop
        self._calls = calls
        self._tasks: set[asyncio.Task[None]] = set()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls a function on the loop; from any thread, returns at once."""
        if not self._calls.call(function, *arguments):
            log.debug("the loop has ended; %s is not called", function)

    def start(self, build: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Starts a coroutine on the loop; from any thread, returns at once."""
        self.call(self._start, build, name)

    def _start(self, build: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        task = self._loop.create_task(build(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", task.get_name(), exc_info=task.exception())

    async def close(self) -> None:
        """Cancels what is under way and waits for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
