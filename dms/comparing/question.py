"""What a comparing process is asked, and what it answers: a JSON object on its standard input, one line on its standard output."""

from __future__ import annotations

import msgspec


class Side(msgspec.Struct, frozen=True):
    """Where one result lies: its outputs by path, its standard output, and how many bytes of that file are its own."""

    files: dict[str, str]
    stdout: str
    stdout_bytes: int


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether two results are the same; without them, whether the comparator takes the parameter.

    Attributes:
        target: the comparator's class, ``module:attribute``.
        parameter: it is made with.
        path: where its module is looked for.
        seconds, memory_bytes: what may be used.
        sides: the two results; none.
    """

    target: str
    parameter: str
    path: tuple[str, ...]
    seconds: int
    memory_bytes: int
    sides: tuple[Side, ...] = ()


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether they are the same; or why it cannot be said."""

    same: bool = False
    failed: str = ""
