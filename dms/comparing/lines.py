"""`lines`: the same lines in any order; for what parallel programs print as they come to it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from dms.comparing import Result, same_files


class Lines:
    """Each line has to be there as often. Whether the last one ends with a newline does not count; how lines end otherwise does."""

    def __init__(self, parameter: str) -> None:
        if parameter:
            raise ValueError(f"lines takes no parameter, and {parameter!r} is one")

    def same(self, left: Result, right: Result) -> bool:
        """See `ResultComparator`."""
        return same_files(left, right, lambda one, other: _lines(one) == _lines(other))


def _lines(path: Path) -> Counter[bytes]:
    with path.open("rb") as file:
        return Counter(line.removesuffix(b"\n") for line in file)
