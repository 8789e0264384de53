"""dms price: what the node's history says about its prices."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io

price: Final = group("price", "What the node's history says about its prices.")


@price.command(context_settings=CONTEXT)
@click.option(
    "--days", metavar="N", type=click.IntRange(1, 3650), default=30, show_default=True, help="How far back to look."
)
@with_io
def suggest(io: Io, *, days: int) -> None:
    """Suggest prices from the requests this node has heard: what their requesters would have paid, and what was lost on price.

    \b
    dms price suggest
    dms price suggest --days 7 --json
    """
    from dms.cli.views import prices  # noqa: PLC0415
    from dms.rpc.api.market import PriceSuggestion, PriceSuggestParams  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("price.suggest", PriceSuggestParams(days), PriceSuggestion), prices.suggestion)
