"""The patterns that name a job's outputs: `*` and `?` stay within one level of a path, `**` spans levels."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

_SPECIAL: Final = frozenset("*?[")


def is_match(path: str, pattern: str) -> bool:
    """Whether a relative path matches; in time proportional to path times pattern, however many `**` there are."""
    steps = _steps(pattern)
    places = _skip_spans({0}, steps)
    for part in _steps(path):
        reached = set()
        for place in places - {len(steps)}:
            if steps[place] == "**":
                reached.add(place)
            elif fnmatchcase(part, steps[place]):
                reached.add(place + 1)
        places = _skip_spans(reached, steps)
    return len(steps) in places


def is_literal(pattern: str) -> bool:
    """Whether it names one path alone."""
    return not _SPECIAL & set(pattern)


@lru_cache(maxsize=256)
def _steps(path: str) -> tuple[str, ...]:
    return PurePosixPath(path).parts


def _skip_spans(places: set[int], steps: Sequence[str]) -> set[int]:
    """Adds the places behind each `**`, which may stand for no level at all."""
    for place in range(len(steps)):
        if place in places and steps[place] == "**":
            places.add(place + 1)
    return places
