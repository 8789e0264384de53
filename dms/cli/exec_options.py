"""Options of the commands that run a command beside a job."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])


def exec_options(function: F) -> F:
    """Adds -i, -t and the command."""
    for option in reversed(
        (
            click.option("-i", "--interactive", is_flag=True, help="Give it what is typed or piped here."),
            click.option("-t", "--tty", is_flag=True, help="Give it a terminal, of the size of this one."),
        )
    ):
        function = option(function)
    return function


COMMAND = click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)


def check_terminal(*, interactive: bool, tty: bool) -> None:
    """Refuses a terminal where there is none here.

    Raises:
        click.UsageError: standard input is no terminal.
    """
    if interactive and tty and not sys.stdin.isatty():
        raise click.UsageError("-t needs a terminal here, and standard input is none; leave -t away to pipe")
