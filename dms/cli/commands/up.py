"""dms up, dms down: the node's life."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io
from dms.cli.progress import Progress

GRACE_S = 30.0


@click.command(context_settings={**CONTEXT, "ignore_unknown_options": True, "allow_extra_args": True})
@click.option("-d", "--detach", is_flag=True, help="Start it in the background, and return once it answers.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- NODE OPTIONS]")
@with_io
def up(io: Io, *, detach: bool, options: tuple[str, ...]) -> None:
    """Start the node; ctrl-C stops it. With -d it runs in the background.

    \b
    dms up -d
    """
    from dms.cli.node_process import become, command, is_ready, start_detached  # noqa: PLC0415

    if not detach:
        become(command("up", io.home, *(["--json"] if io.as_json else []), *options))
    running = is_ready(io.home)
    if not running:
        with Progress("starting the node"):
            start_detached(io.home, options)
    with io.node() as node:
        pong = node.call("rpc.ping")
    if io.as_json:
        io.show_json({"pid": pong["pid"], "version": pong["version"], "already_running": running})
    else:
        io.line(
            f"the node {'was already running' if running else 'is up'}, pid {pong['pid']}; dms status shows it, dms down stops it"
        )


@click.command(context_settings=CONTEXT)
@click.option(
    "--grace",
    metavar="SPAN",
    default="0",
    help="How long running allocations may take to end, such as 5m. Default: stop them now.",
)
@with_io
def down(io: Io, *, grace: str) -> None:
    """Stop the node. Allocations running here are stopped and told to their requesters.

    \b
    dms down --grace 5m
    """
    from dms.cli.node_process import wait_gone  # noqa: PLC0415
    from dms.rpc.api.node import StateChange, StopParams  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.units import parse_millis  # noqa: PLC0415

    try:
        span = parse_millis(grace)
    except ValueError as error:
        raise UserError("bad_argument", f"--grace: {error}") from error
    with Progress("stopping the node"):
        with io.node() as node:
            pid = int(node.call("rpc.ping")["pid"])
            change = node.call("node.stop", StopParams(span), StateChange)
        wait_gone(io.home, pid, GRACE_S + span / 1000)
    if io.as_json:
        io.show_json(change)
    else:
        io.line("the node is down")
