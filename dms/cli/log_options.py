"""Options of the commands that print logs."""

from __future__ import annotations

import click

FOLLOW = click.option("-f", "--follow", is_flag=True, help="Go on until it is over.")
SINCE = click.option(
    "--since",
    metavar="WHEN",
    help="Only what came here since then, to the second: a span such as 10m, a time such as 2026-11-28T01:30, or now.",
)
