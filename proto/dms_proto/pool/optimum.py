"""Reference strings replayed over frames: by a strategy, and by one that knows the future. For measuring, and for the textbooks' examples.

Every reference is to one page; a page that is in no frame is a *fault* and takes a free frame, or that of a victim. No strategy has fewer faults than
`optimal` (Belady, 1966), which gives up the page that is wanted again last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from dms_proto.pool.replacement import KEYS, Seat, Strategy, spared


class Replay(NamedTuple):
    """What became of a reference string.

    Attributes:
        references: how many there were.
        faults: how many of them found no frame with their page.
        victims: the pages that went, in order.
    """

    references: int
    faults: int
    victims: tuple[str, ...]

    @property
    def hit_ratio(self) -> float:
        """The share of references that were no faults; 0 for none."""
        return 1 - self.faults / self.references if self.references else 0.0


def replayed(pages: Sequence[str], frames: int, strategy: Strategy) -> Replay:
    """What a strategy makes of a reference string with `frames` frames, at least 1."""
    seats: dict[str, Seat] = {}
    victims: list[str] = []
    faults = position = 0
    for at, page in enumerate(pages):
        seat = seats.get(page)
        if seat is not None:
            seats[page] = msgspec.structs.replace(seat, hits=seat.hits + 1, hit_at=at, referenced=True)
            continue
        faults += 1
        if len(seats) == frames:
            victim = min(seats.values(), key=KEYS[strategy]).name
            for name in spared(strategy, list(seats.values()), {victim}):
                seats[name] = msgspec.structs.replace(seats[name], position=position, referenced=False)
                position += 1
            del seats[victim]
            victims.append(victim)
        seats[page] = Seat(page, at, position, 1, at)
        position += 1
    return Replay(len(pages), faults, tuple(victims))


def optimal(pages: Sequence[str], frames: int) -> Replay:
    """The fewest faults there can be; of pages that are not wanted again, the one that came first goes."""
    again = _next_uses(pages)
    seats: dict[str, int] = {}
    """Per page in a frame, when it is wanted next."""
    victims: list[str] = []
    faults = 0
    for at, page in enumerate(pages):
        if page not in seats:
            faults += 1
            if len(seats) == frames:
                victim = max(seats, key=seats.__getitem__)  # of equals the first: dictionaries keep the order of coming
                del seats[victim]
                victims.append(victim)
        seats[page] = again[at]
    return Replay(len(pages), faults, tuple(victims))


def _next_uses(pages: Sequence[str]) -> list[int]:
    """For each reference, when its page is referenced next; past the end if it is not."""
    seen: dict[str, int] = {}
    uses = [0] * len(pages)
    for at in range(len(pages) - 1, -1, -1):
        uses[at] = seen.get(pages[at], len(pages))
        seen[pages[at]] = at
    return uses
