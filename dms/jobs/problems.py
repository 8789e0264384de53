"""What is wrong with a job document: every problem with its field, line and rule."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import msgspec

from dms_proto.errors import UserError

MAX_SHOWN = 20
"""Problems listed in the message; a file with more is usually not a job at all."""


class Problem(msgspec.Struct, frozen=True, order=True):
    """One broken rule.

    Attributes:
        line: in the file, from 1; 0 when the value did not come from a file.
        field: dotted path such as ``resources.gpus[0].memory``, or empty for the document itself.
        rule: what is wanted, with the value that breaks it.
    """

    line: int
    field: str
    rule: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.field) if part)
        return f"{where}: {self.rule}" if where else self.rule


class BadJob(UserError):  # noqa: N818 - named as people know it; the root class says it is an error
    """A job document breaks rules. Nothing was sent.

    Attributes:
        origin: the file, or "command line".
        problems: all that were found, in order of lines.
    """

    def __init__(self, origin: str, problems: Sequence[Problem]) -> None:
        self.origin = origin
        self.problems = tuple(sorted(problems))
        super().__init__("bad_job", _message(origin, self.problems), hint="dms job schema lists every field")


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean …?)`` with the known name closest to `word`, or all known names when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(names)}"


def _message(origin: str, problems: Sequence[Problem]) -> str:
    if len(problems) == 1:
        return f"{origin}: {problems[0]}"
    shown = "".join(f"\n  {problem}" for problem in problems[:MAX_SHOWN])
    more = f"\n  and {len(problems) - MAX_SHOWN} more" if len(problems) > MAX_SHOWN else ""
    return f"{origin} has {len(problems)} problems:{shown}{more}"
