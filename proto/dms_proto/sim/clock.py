"""Virtual time: a queue of calls, each at a time, performed in order. Time jumps from one to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

_Entry = tuple[int, int, Callable[..., None], tuple[Any, ...]]


class Clock:
    """The one clock of a simulated world, in milliseconds from 0. Calls of the same time come in the order they were asked for."""

    __slots__ = ("_asked", "_queue", "now", "performed")

    def __init__(self) -> None:
        self.now = 0
        self.performed = 0
        self._asked = 0
        self._queue: list[_Entry] = []

    def at(self, time: int, call: Callable[..., None], *arguments: Any) -> None:
        """Performs `call` at `time`; at once if that is past."""
        self._asked += 1
        heapq.heappush(self._queue, (max(time, self.now), self._asked, call, arguments))

    def after(self, span: int, call: Callable[..., None], *arguments: Any) -> None:
        """Performs `call` after `span` milliseconds."""
        self.at(self.now + span, call, *arguments)

    def step(self) -> bool:
        """Performs the next call. False: there is none."""
        if not self._queue:
            return False
        self.now, _, call, arguments = heapq.heappop(self._queue)
        self.performed += 1
        call(*arguments)
        return True

    def run_until(self, time: int) -> None:
        """Performs everything up to and including `time`."""
        queue = self._queue
        while queue and queue[0][0] <= time:
            self.now, _, call, arguments = heapq.heappop(queue)
            self.performed += 1
            call(*arguments)
        self.now = max(self.now, time)
