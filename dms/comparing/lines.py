"""`lines`: the same lines in any order; for what parallel programs print as they come to it."""

from __future__ import annotations

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


def _lines(path: Path) -> tuple[int, int]:
    """How many lines a file has, and the sum of their hashes: the same for the same lines in any order, in memory for one line.

    The key of the hashes (SipHash, 64 bits) is drawn anew by each process that compares, so nobody can make up other lines with the same sum. That of
    an empty line is 0 whatever the key, hence the count.
    """
    count = total = 0
    with path.open("rb") as file:
        for line in file:
            count += 1
            total += hash(line.removesuffix(b"\n"))
    return count, total
