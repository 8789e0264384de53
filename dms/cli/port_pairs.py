"""[LOCAL:]PORT, as given on the command line: a port of this machine, and the one of a job to which it leads, by its number or its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from dms_proto.named_ports import PATTERN

if TYPE_CHECKING:
    from dms_proto.work import Task

MOST_PORT: Final = 65_535


class PortPair(NamedTuple):
    """A port here, and the one inside the job it leads to. `local` 0: any that is free."""

    local: int
    port: int


class PortWish(NamedTuple):
    """The same as it is written: of a port that has a name, the number is not known yet."""

    local: int
    port: int | str


def read_wish(text: str) -> PortWish:
    """What a text wishes. Without a port here: the same number, or for a name any that is free.

    Raises:
        click.UsageError: it names none.
    """
    local, separator, port = text.rpartition(":")
    if re.match(PATTERN, port) and _is_port(local or "0", 0) and (local or not separator):
        return PortWish(int(local or 0), port)
    if _is_port(port, 1) and _is_port(local or port, 0) and (local or not separator):
        return PortWish(int(local or port), int(port))
    rule = f"ports are 1 to {MOST_PORT}, or called as in http"
    raise click.UsageError(f"{text!r} is not [LOCAL:]PORT, as in 8080 or 18080:8080; {rule}")


def pairs_of(texts: Iterable[str], task: Task) -> list[PortPair]:
    """The pairs that are wished of a job's task.

    Raises:
        click.UsageError: a text is no pair.
        UserError: `bad_argument`: the task does not declare such a port.
    """
    return [_pair(read_wish(text), task) for text in texts]


def _pair(wish: PortWish, task: Task) -> PortPair:
    from dms_proto.tunnels import check_declared, check_named  # noqa: PLC0415 - `dms forward --help` must not pay for it

    if isinstance(wish.port, str):
        return PortPair(wish.local, check_named(wish.port, task))
    check_declared(wish.port, task)
    return PortPair(wish.local, wish.port)


def _is_port(text: str, least: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(MOST_PORT)) and least <= int(text) <= MOST_PORT
