"""dms devnet, dms sim: a market to try things on, real and simulated."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import Final

import click

_PASS_ON: Final = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
ARGUMENTS = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)


@click.command(context_settings=_PASS_ON)
@ARGUMENTS
def devnet(arguments: tuple[str, ...]) -> None:
    """A whole market on this machine: several nodes, each its own process.

    \b
    dms devnet --help
    """
    from dms.cli.node_process import run_module  # noqa: PLC0415

    run_module("dms.devnet", arguments)


@click.command(context_settings=_PASS_ON)
@ARGUMENTS
def sim(arguments: tuple[str, ...]) -> None:
    """A simulated market, under faults or at its daily work, reproducible by seed.

    \b
    dms sim --seeds 200
    dms sim --nodes 1000 --hours 1
    """
    from dms.cli.node_process import run_module  # noqa: PLC0415

    run_module("dms.sim", arguments)
