"""What waits for all peers together is bounded: those that take nothing are let go, the one with most first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import trio

from dms.net.link import Link
from dms_proto.units import MIB

MAX_QUEUED: Final = 8 * MIB
"""Bytes that may wait for all peers together, before those that take nothing are let go."""
LOOK_EVERY: Final = 32
"""Frames queued between two looks at it."""
IMPATIENT_S: Final = 1.0
"""Pause before those that take nothing are let go when too much waits; so that it is no hiccup, they have taken nothing for half of it."""


class Relief:
    """Lives on the trio thread."""

    def __init__(
        self,
        links: Callable[[], Iterable[Link]],
        later: Callable[[float, Callable[[], None]], None],
        let_go: Callable[[Link], None],
    ) -> None:
        """`links`: with all peers; `later` calls after so many seconds; `let_go` ends a link."""
        self._links = links
        self._later = later
        self._let_go = let_go
        self._queued_since_look = 0
        self._is_relieving = False

    def on_queued(self) -> None:
        """A frame waits for a peer. Looks now and then at what waits in all."""
        self._queued_since_look += 1
        if self._queued_since_look >= LOOK_EVERY and not self._is_relieving:
            self._queued_since_look = 0
            self._relieve_later()

    def _relieve_later(self) -> None:
        self._is_relieving = self._waiting() > MAX_QUEUED
        if self._is_relieving:
            self._later(IMPATIENT_S, self._relieve)

    def _relieve(self) -> None:
        """Lets go until no more waits than may."""
        waiting, now = self._waiting(), trio.current_time()
        for link in sorted(self._links(), key=lambda link: -link.queued_bytes):
            if waiting > MAX_QUEUED and link.is_stuck(IMPATIENT_S / 2, now):
                waiting -= link.queued_bytes
                self._let_go(link)
        self._relieve_later()

    def _waiting(self) -> int:
        return sum(link.queued_bytes for link in self._links())
