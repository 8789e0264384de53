"""How durably each kind of event is written: a promise survives a power cut, an observation may be lost with the last second.

A transaction holding at least one FULL event is synced to the disk before anyone learns of it (``PRAGMA synchronous=FULL``); one with
only NORMAL events is handed to the operating system, survives the death of the process, and reaches the disk with the next FULL one or
checkpoint, in order. Neither can be torn or reordered. The pragma is set between transactions, where SQLite allows it; that costs about
2 µs and no I/O, which is why one connection serves both.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final


class Durability(IntEnum):
    """The value is that of ``PRAGMA synchronous``."""

    NORMAL = 1
    FULL = 2


KINDS: Final[dict[str, Durability]] = {}
"""Kinds with a level of their own. A kind that is not listed is FULL: forgetting an entry costs time, never a promise."""


class DurabilityTable:
    """Looks up levels. Immutable.

    Args:
        relaxed: kinds written NORMAL, in addition to `KINDS`: those that state an observation and bind nobody.
    """

    def __init__(self, relaxed: frozenset[str] = frozenset()) -> None:
        self._levels = KINDS | dict.fromkeys(relaxed, Durability.NORMAL)

    def of(self, kinds: Iterable[str]) -> Durability:
        """The level of a transaction with these kinds: the strictest of them, FULL when there are none."""
        return max((self._levels.get(kind, Durability.FULL) for kind in kinds), default=Durability.FULL)
