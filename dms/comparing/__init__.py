"""Result comparators: whether two results that differ byte for byte are the same answer. The built-in ones, plug-ins, and where they run.

::

    installed   which there are: built-in, and entry points of the group `dms.result_comparators`; looked up, never loaded
    process     asks one about two results, in a process of its own with limits
    worker      is that process: `python -m dms.comparing`
    json_values numbers lines     the built-in ones

What is compared has been left by strangers, and a plug-in is somebody else's code: neither is let into the node. A plug-in is a class that is made
with the parameter which the job declares, and compares two of `Result`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol


class Result(NamedTuple):
    """What one run left.

    Attributes:
        files: each output by its path below the job's directory. Read them only.
        stdout: all that was written to standard output.
    """

    files: Mapping[str, Path]
    stdout: Path


class ResultComparator(Protocol):
    """Says whether two results are the same answer."""

    def same(self, left: Result, right: Result) -> bool:
        """Whether they are. Must not depend on which is left; a result is the same as itself.

        Where it fails on two, each is compared with itself to see on which: so identical files must take no less than others, or the one that cannot
        be compared is not found out.

        Raises:
            Exception: it cannot be said of these two; the message tells its reader why.
        """
        ...


Make = Callable[[str], ResultComparator]
"""Makes a comparator with what stands behind the colon in ``numbers:1e-6``; empty where nothing does. A parameter that it cannot obey raises."""


def same_files(left: Result, right: Result, same: Callable[[Path, Path], bool]) -> bool:
    """Whether both have files of the same names, and `same` holds for each two and for what was printed."""
    if left.files.keys() != right.files.keys():
        return False
    pairs = [(left.stdout, right.stdout), *((left.files[name], right.files[name]) for name in sorted(left.files))]
    return all(same(*pair) for pair in pairs)
