"""Which chunks of a content are missing, and which of its holders is asked for which.

Each holder is asked for a run of chunks that follow each other, so that they come on one stream without a pause. The missing ones are dealt out in
equal parts. Who has sent its part takes over the second half of what the slowest still owes; the last chunk of a slow holder is asked of one more.
So a holder that drips delays nothing once another is idle, and what is sent twice is a chunk or two.

A holder whose connection ends gives back what it owed. One that sent a wrong chunk is asked for nothing more, and its name is kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

Holder = TypeVar("Holder", bound=Hashable)
SLOWEST_BYTES_PER_MS: Final = 64
"""How fast a content comes at the least, from all its holders together: half a megabit per second. Nobody waits for a slower one."""
LEAST_RUN: Final = 8
"""Chunks asked for at once, while so many are missing: each run costs a round trip."""
MOST_TWICE: Final = 2
"""Holders that are asked for the same chunk at a time."""


class Transfer(Generic[Holder]):
    """One content on its way from its holders. Not shared between threads.

    Args:
        missing: indexes of the chunks that are not here.
        holders: how many may be asked; at least 1.

    Attributes:
        wrong: the holders that sent a wrong chunk.
    """

    def __init__(self, missing: Iterable[int], holders: int) -> None:
        self.wrong: set[Holder] = set()
        self._missing = set(missing)
        self._holders = max(1, holders)
        self._owed: dict[Holder, range] = {}

    @property
    def is_whole(self) -> bool:
        """Nothing is missing."""
        return not self._missing

    def ask(self, holder: Holder) -> range:
        """The chunks that a holder is to send next, in place of what it was asked for before. Empty: nothing for now."""
        self._owed.pop(holder, None)
        if holder in self.wrong:
            return range(0)
        run = self._unasked() or self._taken_over()
        if run:
            self._owed[holder] = run
        return run

    def owes(self, holder: Holder) -> range:
        """What a holder was asked for and has not sent; it shrinks when another takes over a part."""
        return self._owed.get(holder, range(0))

    def arrived(self, index: int) -> None:
        """The first chunk of a run that is owed came, and is right. Who else owes it need not send it."""
        self._missing.discard(index)
        left = {each: run[1:] if run.start == index else run for each, run in self._owed.items()}
        self._owed = {each: run for each, run in left.items() if run}

    def ended(self, holder: Holder) -> None:
        """The holder's connection is over: others may be asked for what it owed, and so may it, later."""
        self._owed.pop(holder, None)

    def was_wrong(self, holder: Holder) -> None:
        """The holder sent bytes that are not what it was asked for."""
        self.wrong.add(holder)
        self.ended(holder)

    def _unasked(self) -> range:
        """The first run of missing chunks that nobody owes, at most a holder's part of all that is missing."""
        most = max(LEAST_RUN, -(-len(self._missing) // self._holders))
        owed = set().union(*self._owed.values()) if self._owed else set()
        start = min(self._missing - owed, default=None)
        if start is None:
            return range(0)
        end = start
        while end < start + most and end in self._missing and end not in owed:
            end += 1
        return range(start, end)

    def _taken_over(self) -> range:
        """The second half of the longest run that is owed; the only chunk of one where none is longer, unless two are asked for it already."""
        run = max(self._owed.values(), key=len, default=range(0))
        if len(run) > 1:
            (slow,) = [holder for holder, owed in self._owed.items() if owed is run]
            half = run.start + -(-len(run) // 2)
            self._owed[slow] = range(run.start, half)
            return range(half, run.stop)
        for once in self._owed.values():
            if sum(once == other for other in self._owed.values()) < MOST_TWICE:
                return once
        return range(0)
