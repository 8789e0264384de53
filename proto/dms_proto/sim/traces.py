"""Reference strings as services see them: what is called next, from a seed.

==========  ==========================================================================================
zipf        a few are called often, many seldom, and that stays so
scan        the same, but now and then somebody goes through all of them once
loop        one after the other, round and round: more of them than there are frames
shifting    a few are called nearly always, and every so often others are the few
==========  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Final

from dms_proto.sim.chance import chance

PAGES: Final = 100
SKEW: Final = 0.9
"""Exponent of the Zipf distribution."""
SCAN_EVERY: Final = 1_000
LOOPED: Final = 24
FEW: Final = 12
SHIFT_EVERY: Final = 500
ELSEWHERE: Final = 0.1
"""Share of the calls in `shifting` that are not for one of the few."""


def _zipf(rng: Random, length: int) -> list[str]:
    weights = list(accumulate(1 / (rank + 1) ** SKEW for rank in range(PAGES)))
    return [str(page) for page in rng.choices(range(PAGES), cum_weights=weights, k=length)]


def _scan(rng: Random, length: int) -> list[str]:
    string = _zipf(rng, length)
    for at in range(SCAN_EVERY, length - PAGES, SCAN_EVERY):
        string[at : at + PAGES] = map(str, range(PAGES))
    return string


def _loop(_rng: Random, length: int) -> list[str]:
    return [str(at % LOOPED) for at in range(length)]


def _shifting(rng: Random, length: int) -> list[str]:
    string: list[str] = []
    while len(string) < length:
        few = rng.sample(range(PAGES), FEW)
        drawn = (rng.choice(few) if rng.random() >= ELSEWHERE else rng.randrange(PAGES) for _ in range(SHIFT_EVERY))
        string += map(str, drawn)
    return string[:length]


TRACES: Final[dict[str, Callable[[Random, int], list[str]]]] = {
    "zipf": _zipf,
    "scan": _scan,
    "loop": _loop,
    "shifting": _shifting,
}


def trace(name: str, length: int, seed: int) -> list[str]:
    """A reference string of a kind of `TRACES`."""
    return TRACES[name](chance("trace", name, seed), length)
