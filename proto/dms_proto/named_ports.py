"""Ports that a job names instead of numbering: any that is free will do, and its program finds the number in a variable. Pure.

A sandbox has its own loopback, so a number that the job itself does not declare is free there, on any node. Its requester chooses it, the same for
all allocations of the job, so that they know each other's; providers see numbers and variables alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Final

FIRST: Final = 20_000
"""Numbers from here on are chosen: below those that a kernel gives to outgoing connections, above those that programs are known for."""
_PREFIX: Final = "DMS_PORT_"
PATTERN: Final = r"^[a-z][a-z0-9_]{0,31}\Z"
"""Of a name."""


def variable(name: str) -> str:
    """Where the program finds the number: DMS_PORT_HTTP for "http"."""
    return f"{_PREFIX}{name.upper()}"


def numbered(ports: Iterable[int | str]) -> dict[int | str, int]:
    """The number of each port, by its name or itself, in order; each once."""
    wanted = tuple(dict.fromkeys(ports))
    free = (number for number in count(FIRST) if number not in wanted)
    return {port: next(free) if isinstance(port, str) else port for port in wanted}


def variables(numbers: Mapping[int | str, int]) -> Iterator[tuple[str, str]]:
    """What the environment says of those that have names."""
    for port, number in numbers.items():
        if isinstance(port, str):
            yield variable(port), str(number)


def called(port: int, environment: Mapping[str, str]) -> str:
    """How a job with this environment calls a port: "http (20000)", or its number where it has no name."""
    names = (variable.removeprefix(_PREFIX).lower() for variable in environment if variable.startswith(_PREFIX))
    name = next((name for name in names if number_of(name, environment) == port), "")
    return f"{name} ({port})" if name else str(port)


def number_of(name: str, environment: Mapping[str, str]) -> int | None:
    """The port of that name, in a job with this environment; None: it names none so."""
    said = environment.get(variable(name), "")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= len("65535") else None
