"""What providers say that they are doing before a program can start: "pulling its image, 40 MiB of 120 MiB".

A line for a person, of an allocation that this node has asked for. The next one replaces it; nothing rests on it, and it is not stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms.telemetry.logs import one_line
from dms_proto.ids import AllocationId
from dms_proto.messages import Phase

MAX_CHARS: Final = 200
BEFORE_RUNNING: Final = (Phase.COMMITTED, Phase.PREPARING)
"""In these phases such a line is of use; one that comes later says nothing."""


class Doings:
    """The latest line of each allocation. Lives on the loop; `forget` from any thread."""

    def __init__(self) -> None:
        self._lines: dict[AllocationId, str] = {}
        self._listeners: dict[AllocationId, Callable[[str], None]] = {}

    def said(self, allocation_id: AllocationId, line: bytes) -> None:
        """Takes a line from its provider, whatever bytes it consists of; one that says nothing new is passed over."""
        text = one_line(line[: 4 * MAX_CHARS].decode(errors="replace"))[:MAX_CHARS]
        if text == self.line(allocation_id):
            return
        self._lines[allocation_id] = text
        if (listener := self._listeners.get(allocation_id)) is not None:
            listener(text)

    def line(self, allocation_id: AllocationId) -> str:
        """The latest; empty: none."""
        return self._lines.get(allocation_id, "")

    def listen(self, allocation_id: AllocationId, heard: Callable[[str], None]) -> None:
        """Has `heard` called with each line from now on; one listener per allocation."""
        self._listeners[allocation_id] = heard

    def unlisten(self, allocation_id: AllocationId) -> None:
        """Ends `listen`."""
        self._listeners.pop(allocation_id, None)

    def forget(self, allocation_id: AllocationId) -> None:
        """Its request is over."""
        self._lines.pop(allocation_id, None)
