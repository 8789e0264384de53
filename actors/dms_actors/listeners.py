"""Listeners: answers that no actor waits for go to whoever asked, such as a call of the owner."""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.ids import PeerId
from dms_proto.messages import AnyMessage

Hear = Callable[[PeerId, AnyMessage], None]
"""Called on the actors' thread with each answer and who gave it; returns at once."""


class Listeners:
    """One per node; lives on the actors' thread. Any number listen for the same: two calls may read one log at once."""

    def __init__(self) -> None:
        self._hearing: dict[str, list[Hear]] = {}

    def begin(self, key: str, hear: Hear) -> None:
        """From now on `hear` is called with what comes for `key`."""
        self._hearing.setdefault(key, []).append(hear)

    def end(self, key: str, hear: Hear) -> None:
        """What `begin` began is over; nothing where it was never begun, or ended already."""
        left = [other for other in self._hearing.pop(key, []) if other != hear]
        if left:
            self._hearing[key] = left

    def pass_on(self, key: str, peer: PeerId, message: AnyMessage) -> bool:
        """Tells all that listen for `key`; returns whether anybody does."""
        hearing = self._hearing.get(key, [])
        for hear in hearing:
            hear(peer, message)
        return bool(hearing)
