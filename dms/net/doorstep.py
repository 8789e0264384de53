"""The doorstep: how long connections of one source wait before they are let in, one after the other. Pure: the time, in seconds, is an argument.

A new identity costs nothing, and each costs its handshake until it is muted. Of a source with muted peers newcomers come slowly, not never: who is
there already is served, and an honest neighbour gets in.
"""

from __future__ import annotations

from typing import Final

from dms_proto.recent import Recent

FOR_EACH_S: Final = 0.05
"""Wait of one connection for each peer of its source that is muted now."""
LONGEST_S: Final = 0.5
"""Wait of one connection at most."""
SOURCES: Final = 1_024
"""Sources remembered; of those that are forgotten, a connection comes in sooner."""


class Doorstep:
    """One per network process."""

    def __init__(self) -> None:
        self._last: Recent[str, float] = Recent(SOURCES)

    def wait(self, source: str, muted: int, now: float) -> float:
        """Seconds until a connection may come in, after all of its source that came before. `muted`: peers of the source that are muted."""
        if not muted:
            return 0.0
        enters = max(now, self._last.get(source) or now) + min(LONGEST_S, FOR_EACH_S * muted)
        self._last.keep(source, enters)
        return enters - now

    def __len__(self) -> int:
        return len(self._last)
