"""dms events, dms trace: what happened."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import FAILURE
from dms.cli.progress import Progress

if TYPE_CHECKING:
    from dms.rpc.api.events import EventView

events: Final = group("events", "Everything that happened: query, follow, verify.")
KIND = click.option(
    "--kind", "kinds", metavar="KIND", multiple=True, help="Only this kind; may be given more than once."
)
ABOUT = click.option(
    "--about",
    "stream",
    metavar="ID",
    default="",
    help="Only what is about this: a job, an allocation, or one of accounts, answers, calls, market, owner, peers, pool, services, tabs_kept, "
    "tabs_used, trust.",
)


@events.command(context_settings=CONTEXT)
@KIND
@ABOUT
@click.option("--cause", metavar="ID", default="", help="Only what this message or call led to.")
@click.option("--last", metavar="SPAN", help="Only the last while, such as 10m.")
@click.option(
    "--after", metavar="ID", type=click.IntRange(0), default=0, help="Only events after this one, oldest first."
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many."
)
@with_io
def query(io: Io, *, kinds: tuple[str, ...], stream: str, cause: str, last: str | None, after: int, limit: int) -> None:
    """Print events, the newest that match, oldest first.

    \b
    dms events query --about r-abc --last 10m
    """
    from dms.cli.views import peers as views  # noqa: PLC0415
    from dms.rpc.api.events import EventList, EventQuery  # noqa: PLC0415

    wanted = EventQuery(kinds, stream, cause, _since(last), after_seq=after, limit=limit, newest=not after)
    with io.node() as node:
        io.show(node.call("events.query", wanted, EventList), views.event_list)


@events.command(context_settings=CONTEXT)
@KIND
@ABOUT
@click.option("--since", metavar="ID", type=click.IntRange(0), help="Go on after this event. Default: only new ones.")
@with_io
def follow(io: Io, *, kinds: tuple[str, ...], stream: str, since: int | None) -> None:
    """Print events as they happen, one per line, until ctrl-C.

    \b
    dms events follow --kind AwardMade --json
    """
    import msgspec  # noqa: PLC0415

    from dms.rpc.api.events import EventList, EventQuery, EventView, WatchEventsParams  # noqa: PLC0415

    with io.node() as node:
        if since is None:
            since = node.call("events.query", EventQuery(limit=1), EventList).last
        for item in node.follow("events", WatchEventsParams(since, kinds, stream)):
            _print_event(io, msgspec.convert(item, EventView))


def _print_event(io: Io, event: EventView) -> None:
    import msgspec  # noqa: PLC0415

    from dms.cli.views.peers import event_line  # noqa: PLC0415

    if io.as_json:
        click.echo(msgspec.json.encode(event).decode())
    else:
        io.blocks([event_line(event)])
    sys.stdout.flush()


@events.command(context_settings=CONTEXT)
@with_io
def verify(io: Io) -> None:
    """Check that no event was changed since it was written. Exits with 1 when one was.

    \b
    dms events verify
    """
    from dms.cli.views import peers as views  # noqa: PLC0415
    from dms.rpc.api.events import VerifyReport  # noqa: PLC0415

    with io.node(timeout=600) as node, Progress("checking every event"):
        report = node.call("events.verify", None, VerifyReport)
    io.show(report, views.verified)
    if not report.intact:
        raise SystemExit(FAILURE)


@click.command(context_settings=CONTEXT)
@click.argument("job_id", metavar="JOB")
@with_io
def trace(io: Io, *, job_id: str) -> None:
    """The story of one job, step by step, with the time each took.

    \b
    dms trace r-abc
    """
    from dms.cli.views import peers as views  # noqa: PLC0415
    from dms.rpc.api.events import Trace, TraceParams  # noqa: PLC0415

    with io.node() as node:
        story, names = node.call("events.trace", TraceParams(job_id), Trace), io.names(node)
    io.show(story, lambda value: views.trace(value, names))


def _since(last: str | None) -> int:
    if last is None:
        return 0
    import time  # noqa: PLC0415

    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.units import parse_millis  # noqa: PLC0415

    try:
        return int(time.time() * 1000) - parse_millis(last)
    except ValueError as error:
        raise UserError("bad_argument", f"--last: {error}") from error
