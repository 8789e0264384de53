"""dms bids: bids made and received, and the requests they answer."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io

DIRECTIONS = click.Choice(["sent", "received", "both"])


@click.command(context_settings=CONTEXT)
@click.option(
    "--direction",
    type=DIRECTIONS,
    default="both",
    show_default=True,
    help="Made by this node, received by it, or both.",
)
@click.option("--job", "job_id", metavar="JOB", default="", help="Only for this request.")
@click.option("--open", "open_only", is_flag=True, help="Only those that can still be taken.")
@click.option("--requests", is_flag=True, help="The bid requests instead, and how they were answered.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many."
)
@with_io
def bids(io: Io, *, direction: str, job_id: str, open_only: bool, requests: bool, limit: int) -> None:
    """Bids made and received, newest first.

    \b
    dms bids --direction sent --open
    dms bids --requests
    """
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.rpc.api.market import BidList, BidListParams, Direction, RequestList, RequestListParams  # noqa: PLC0415

    with io.node() as node:
        if requests:
            heard = node.call("requests.list", RequestListParams(Direction(direction), limit), RequestList)
            io.show(heard, jobs.request_list)
        else:
            found = node.call("bids.list", BidListParams(Direction(direction), job_id, open_only, limit), BidList)
            io.show(found, jobs.bid_list)
