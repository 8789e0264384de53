"""The descriptors that a sandbox is started with: numbered 0, 1, 2, … as bubblewrap gets them."""

from __future__ import annotations

import os


class Descriptors:
    """Of one sandbox. Those that were opened for it are closed with this; the others stay their owner's."""

    def __init__(self, *shared: int) -> None:
        self.all = list(shared)
        self._opened: list[int] = []

    def share(self, fd: int) -> int:
        """Adds one that is its owner's; gives its number."""
        self.all.append(fd)
        return len(self.all) - 1

    def give(self, fd: int) -> int:
        """Adds one that was opened for this; gives its number."""
        self._opened.append(fd)
        return self.share(fd)

    def close(self) -> None:
        """Closes those that were opened for this."""
        for fd in self._opened:
            os.close(fd)
