"""Shares: how many of something each peer, and all peers of one source together, hold at a time. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class TakenError(Exception):
    """There is no place for this peer now."""


class Shares:
    """Places of one kind. Who holds none takes no memory."""

    def __init__(self, of_source: int, most: float = math.inf) -> None:
        """`of_source`: places that one source has, and so at most one peer; `most`: places of all."""
        self._of_source = of_source
        self._most = most
        self._held = 0
        self._held_by: Counter[str] = Counter()

    @contextmanager
    def place(self, peer: str, source: str) -> Iterator[None]:
        """Holds a place. A peer that comes again from elsewhere still has those it held.

        Raises:
            TakenError: the peer, its source or all have theirs already.
        """
        holders = (peer, source)
        if self._held >= self._most or any(self._held_by[holder] >= self._of_source for holder in holders):
            raise TakenError("all places are taken; try again")
        self._held += 1
        self._held_by.update(holders)
        try:
            yield
        finally:
            self._held -= 1
            self._held_by.subtract(holders)
            for holder in holders:
                if not self._held_by[holder]:
                    del self._held_by[holder]

    def __len__(self) -> int:
        return len(self._held_by)
