"""Where a task's files are laid out: which places go together, and what they take of a disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from dms_proto.units import KIB, format_bytes
from dms_proto.work import Input

MAX_PART: Final = 255
"""Bytes of one part of a path, by which file systems are bound."""
MAX_PLACE: Final = 3 * KIB
"""Bytes of a whole path: Linux takes 4 KiB, with the job's directory before it."""
BLOCK: Final = 4 * KIB
"""Bytes that a directory takes, and the smallest file with what the disk knows of it."""

MAX_SHOWN: Final = 80
"""Characters of a path that are shown."""


def flaw_of(places: Iterable[str]) -> str:
    """Why there cannot be a file at each of these places; empty when there can be."""
    before: list[str] = []
    for parts, common in _in_order(places):
        place = "/".join(parts)
        if any(_size(part) > MAX_PART for part in parts):
            return f"a part of the path {_shown(place)} has more than {MAX_PART} bytes"
        if _size(place) > MAX_PLACE:
            return f"the path {_shown(place)} has more than {format_bytes(MAX_PLACE)}"
        if before and common == len(before):
            other = "/".join(before)
            same = f"two inputs are placed at {_shown(place)}"
            return (
                same if other == place else f"{_shown(other)} is a file, and the directory of {_shown(place)} as well"
            )
        before = parts
    return ""


def disk_bytes(files: Iterable[Input]) -> int:
    """What files take of a disk once they are laid out, with their directories."""
    files = tuple(files)
    directories = sum(len(parts) - 1 - common for parts, common in _in_order(file.path for file in files))
    return sum(max(BLOCK, file.size) for file in files) + BLOCK * max(0, directories)


def _in_order(places: Iterable[str]) -> Iterator[tuple[list[str], int]]:
    """Each place in parts, what lies below a path right behind it, and how many parts are those of the one before."""
    before: list[str] = []
    for place in sorted(places, key=lambda place: place.replace("/", "\0")):
        parts = place.split("/")
        common = next((at for at, both in enumerate(zip(before, parts, strict=False)) if both[0] != both[1]), None)
        yield parts, min(len(before), len(parts)) if common is None else common
        before = parts


def _size(path: str) -> int:
    return len(path.encode(errors="surrogateescape"))


def _shown(place: str) -> str:
    return place if len(place) <= MAX_SHOWN else f"{place[:MAX_SHOWN]}…"
