"""[LOCAL:]PORT, as given on the command line: a port of this machine, and the one of a job to which it leads."""

from __future__ import annotations

from typing import Final, NamedTuple

import click

MOST_PORT: Final = 65_535


class PortPair(NamedTuple):
    """A port here, and the one inside the job it leads to. `local` 0: any that is free."""

    local: int
    port: int


def read_pair(text: str) -> PortPair:
    """The pair that a text names.

    Raises:
        click.UsageError: it names none.
    """
    local, _, port = text.rpartition(":")
    numbers = [int(part) if part.isascii() and part.isdigit() else -1 for part in (local or port, port)]
    if not (0 <= numbers[0] <= MOST_PORT and 1 <= numbers[1] <= MOST_PORT) or text.startswith(":"):
        raise click.UsageError(f"{text!r} is not [LOCAL:]PORT, as in 8080 or 18080:8080; ports are 1 to {MOST_PORT}")
    return PortPair(numbers[0], numbers[1])
