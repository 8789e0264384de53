"""How long a run has run: by the clock, without the time for which it stood still."""

from __future__ import annotations

import time


class RunClock:
    """Begins to count when the run was started, which may have been by an earlier process."""

    def __init__(self, started_ms: int, frozen_ms: int = 0, frozen_at: int = 0) -> None:
        """Reads on.

        Args:
            started_ms: Unix time of the start.
            frozen_ms: for how long it has stood still since, a freeze that lasts not counted.
            frozen_at: Unix ms since which it stands still; 0 while it goes on.
        """
        self.frozen_ms = frozen_ms
        """For how long it has stood still, a freeze that lasts not counted."""
        self._began = time.monotonic() - max(0.0, time.time() - started_ms / 1000) + frozen_ms / 1000
        self._frozen_since = time.monotonic() - max(0.0, time.time() - frozen_at / 1000) if frozen_at else None

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still."""
        return self._frozen_since is not None

    @property
    def frozen_at(self) -> int:
        """Unix ms since which it stands still; 0 while it goes on."""
        if self._frozen_since is None:
            return 0
        return int((time.time() - (time.monotonic() - self._frozen_since)) * 1000)

    def seconds(self) -> float:
        """How long it has run."""
        return max(0.0, (time.monotonic() if self._frozen_since is None else self._frozen_since) - self._began)

    def millis(self) -> int:
        """The same in milliseconds."""
        return int(self.seconds() * 1000)

    def freeze(self) -> None:
        """It stands still from now on. Idempotent."""
        self._frozen_since = time.monotonic() if self._frozen_since is None else self._frozen_since

    def thaw(self) -> None:
        """It goes on. Idempotent."""
        if self._frozen_since is not None:
            stood, self._frozen_since = time.monotonic() - self._frozen_since, None
            self._began += stood
            self.frozen_ms += int(stood * 1000)

    def end_at(self, unix_s: float) -> None:
        """It was over at that time already."""
        self._began += max(0.0, time.time() - unix_s)
