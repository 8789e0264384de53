"""Which containers go first, by what is known of their past: small strategies, as the textbooks have them.

=======  =======================================  ==================================================
         goes first                               looks at
=======  =======================================  ==================================================
FIFO     the oldest                               `number`
LRU      the one not used for longest             `hit_at`
LFU      the one used least since it came         `hits`; of equals the one not used for longest
CLOCK    the first the hand finds not used since  `position`, `referenced`; those that it passes get a
         it last came by                          second chance, at the end of the ring
=======  =======================================  ==================================================

The Clock is kept as a ring in the order of `position`: a hand that goes round a ring and a queue whose head goes to its end choose the same victims.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

Key = tuple[int, ...]


class Strategy(StrEnum):
    """How victims are chosen."""

    FIFO = "fifo"
    LRU = "lru"
    LFU = "lfu"
    CLOCK = "clock"


class Seat(msgspec.Struct, frozen=True):
    """What a strategy knows of a resident: of a container in the pool, or of a page in a frame.

    Attributes:
        name: whose it is.
        number: of its coming; later ones have higher numbers.
        position: in the ring of the Clock.
        hits: since it came.
        hit_at: of the last hit; any unit that grows.
        referenced: used since the Clock last passed it.
    """

    name: str
    number: int
    position: int
    hits: int
    hit_at: int
    referenced: bool = True


KEYS: Final[dict[Strategy, Callable[[Seat], Key]]] = {
    Strategy.FIFO: lambda seat: (seat.number,),
    Strategy.LRU: lambda seat: (seat.hit_at, seat.number),
    Strategy.LFU: lambda seat: (seat.hits, seat.hit_at, seat.number),
    Strategy.CLOCK: lambda seat: (seat.referenced, seat.position),
}
"""The seat with the lowest key goes first."""


def in_order(strategy: Strategy, seats: Iterable[Seat]) -> list[Seat]:
    """The seats, first to go first."""
    return sorted(seats, key=KEYS[strategy])


def spared(strategy: Strategy, seats: Sequence[Seat], victims: Collection[str]) -> tuple[str, ...]:
    """Whom the hand passed on its way to the victims, in the order in which they now go to the end of the ring.

    Where every seat was used, the hand goes round once and takes the first it came from.
    """
    if strategy is not Strategy.CLOCK or not victims:
        return ()
    ring = sorted(seats, key=lambda seat: seat.position)
    taken = [seat for seat in ring if seat.name in victims]
    last = len(ring) if any(seat.referenced for seat in taken) else max(ring.index(seat) for seat in taken)
    return tuple(seat.name for seat in ring[:last] if seat.referenced and seat.name not in victims)
