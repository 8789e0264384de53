"""dms onboard: this machine becomes a node."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io


@click.command(context_settings={**CONTEXT, "ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- NODE OPTIONS]")
@with_io
def onboard(io: Io, *, options: tuple[str, ...]) -> None:
    """Make this machine a node: a key, a measurement of at most 10 s, and what it offers.

    No root, no account. What it decided is in config.toml in the home, with every other setting explained. Options after -- go to the node;
    `dms onboard -- --help` lists them.

    \b
    dms onboard
    dms onboard --home /srv/dms
    """
    from dms.cli.node_process import become, command  # noqa: PLC0415

    become(command("onboard", io.home, *(["--json"] if io.as_json else []), *options))
