"""dms service: what this node offers for calls, and calls to what others offer."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io
from dms.cli.task_options import market_options, spec_of_kind

if TYPE_CHECKING:
    from dms.rpc.api.services import CallParams, ServiceView

service: Final = group("service", "Services: install and offer them, call those of others.")
KIND = click.argument("kind", metavar="KIND")
ENTRY = click.argument("entry", metavar="ENTRY")


@service.command(context_settings=CONTEXT)
@market_options
@click.option("-p", "--params", metavar="NAME=VALUE|@FILE|JSON", multiple=True, help="Parameters of the kind.")
@KIND
@ENTRY
@with_io
def install(io: Io, *, kind: str, entry: str, params: tuple[str, ...], task: dict[str, Any]) -> None:
    """Install a service: a kind of task that listens on a port, under a name of its own. It is offered once it is started.

    Under the name of one that is there, the new task takes the old one's place. Of the options only those count that say what it needs.

    \b
    dms service install python-script thumbnails -p script=thumbs.py -p port=8080 --memory 128MiB
    """
    from dms.rpc.api.services import InstallParams  # noqa: PLC0415

    spec = spec_of_kind(kind, params, task)
    _told(
        io,
        "service.install",
        InstallParams(kind, entry, spec),
        f"installed; dms service start {kind} {entry} offers it",
    )


@service.command(context_settings=CONTEXT)
@KIND
@ENTRY
@with_io
def start(io: Io, *, kind: str, entry: str) -> None:
    """Take calls of a service from now on.

    \b
    dms service start python-script thumbnails
    """
    _wish(io, "service.start", kind, entry, "calls are taken")


@service.command(context_settings=CONTEXT)
@KIND
@ENTRY
@with_io
def stop(io: Io, *, kind: str, entry: str) -> None:
    """Take no more calls of a service; it stays installed.

    \b
    dms service stop python-script thumbnails
    """
    _wish(io, "service.stop", kind, entry, "no more calls are taken")


@service.command(context_settings=CONTEXT)
@KIND
@ENTRY
@with_io
def remove(io: Io, *, kind: str, entry: str) -> None:
    """Take a service away.

    \b
    dms service remove python-script thumbnails
    """
    _wish(io, "service.remove", kind, entry, "removed")


@service.command("list", context_settings=CONTEXT)
@with_io
def list_(io: Io) -> None:
    """List the services of this node.

    \b
    dms service list
    """
    from dms.cli.views import services  # noqa: PLC0415
    from dms.rpc.api.services import ServiceList  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("service.list", None, ServiceList), services.service_list)


@service.command(context_settings=CONTEXT)
@click.option("--node", metavar="NODE", default="", help="The node to call. Default: the nearest that offers it.")
@KIND
@click.option(
    "--max-price",
    metavar="CREDITS",
    default="1",
    show_default=True,
    help="The most to be paid for all calls of it together within a day, wherever they are made.",
)
@click.option(
    "--max-rate",
    metavar="CREDITS",
    default="",
    help="The most that an hour at work may cost, with what is paid once. Default: accounts.call_rate.",
)
@click.option("--dry-run", is_flag=True, help="Show what it would cost at each node, and agree to nothing.")
@ENTRY
@with_io
def call(io: Io, *, kind: str, entry: str, node: str, max_price: str, max_rate: str, dry_run: bool) -> None:
    """Call a service: standard input goes to it, what it answers comes to standard output.

    Other nodes take calls under a grant that allows `call` (dms grant create --can call). The call is over when the service ends its side. Where
    calls are paid, a tab is agreed on with the first (dms account tabs), unless an hour costs more than --max-rate; more than its most is agreed on
    anew.

    \b
    echo hello | dms service call python-script echo --node lab-3
    echo hello | dms service call python-script echo --max-price 0.5
    dms service call python-script echo --dry-run
    """
    import asyncio  # noqa: PLC0415

    from dms.cli.amounts import credits_in  # noqa: PLC0415
    from dms.rpc.api.services import CallParams  # noqa: PLC0415

    rate = credits_in(max_rate, "--max-rate") if max_rate else None
    params = CallParams(kind, entry, node, credits_in(max_price, "--max-price"), rate)
    if dry_run:
        _show_prices(io, params)
    else:
        asyncio.run(_called(io, params))


@service.command(context_settings=CONTEXT)
@click.argument("call_name", metavar="[CALL]", default="")
@with_io
def explain(io: Io, *, call_name: str) -> None:
    """Say which node got a call of this one, the last by default, and why: the nodes there were, and what each said.

    A call's name is the tunnel in its event: dms events query --kind CallRouted. Why it went to one container of that node is told there, by dms
    pool show.

    \b
    dms service explain
    """
    from dms.cli.views import services  # noqa: PLC0415
    from dms.rpc.api.services import RouteParams, RouteView  # noqa: PLC0415

    with io.node() as node:
        view, names = node.call("service.explain", RouteParams(call_name), RouteView), io.names(node)
    io.show(view, lambda value: services.route(value, names))


def _show_prices(io: Io, params: CallParams) -> None:
    from dms.cli.views import services  # noqa: PLC0415
    from dms.rpc.api.services import CallPrices  # noqa: PLC0415

    with io.node() as node:
        found, names = node.call("service.price", params, CallPrices, timeout=60), io.names(node)
    io.show(found, lambda value: services.prices(value, names))


async def _called(io: Io, params: CallParams) -> None:
    from dms.cli.calling import carry  # noqa: PLC0415
    from dms.rpc.api.services import CallOpened  # noqa: PLC0415
    from dms.rpc.async_client import handed_over  # noqa: PLC0415

    _, reader, writer = await handed_over(io.home.socket, "service.call", params, CallOpened)
    await carry(reader, writer)


def _wish(io: Io, method: str, kind: str, entry: str, done: str) -> None:
    from dms.rpc.api.services import ServiceParams  # noqa: PLC0415

    _told(io, method, ServiceParams(kind, entry), done)


def _told(io: Io, method: str, params: Any, done: str) -> None:
    from dms.rpc.api.services import ServiceView  # noqa: PLC0415

    with io.node() as node:
        view: ServiceView = node.call(method, params, ServiceView, timeout=600)
    if io.as_json:
        io.show_json(view)
    else:
        io.line(f"{view.kind}/{view.entry}: {done}")
