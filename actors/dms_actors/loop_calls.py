"""Calls from the actors' thread to functions on the asyncio loop: in order, not waited for, one wake-up of the loop for as many as there are.

Waking the loop costs a system call and a switch of threads, several times what most of the calls cost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class LoopCalls:
    """One per loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._is_woken = False

    def call(self, function: Callable[..., object], *arguments: object) -> bool:
        """Has the loop call `function`. False: the loop has ended, and nothing is called any more."""
        self._calls.append((function, arguments))
        if not self._is_woken:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                return False
        return True

    def _run(self) -> None:
        # Before the calls are taken: one that comes meanwhile wakes the loop again, at worst in vain, and waits for what else the loop has to do.
        self._is_woken = False
        for _ in range(len(self._calls)):
            function, arguments = self._calls.popleft()
            try:
                function(*arguments)
            except Exception:
                log.exception("%s failed on the loop", function)
