"""dms account: who owes whom, limits, payments, IOUs."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import FAILURE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dms.rpc.api.accounts import EntryView, LedgerReport
    from dms.rpc.client import Client

account: Final = group("account", "What this node and its peers owe each other.")
PEER = click.argument("peer", metavar="PEER")
MOST: Final = 10_000
"""Entries of a statement at most."""
PAGE: Final = 1_000
"""Entries that are asked for at once: so much is held in memory, however many there are."""


@account.command(context_settings=CONTEXT)
@with_io
def show(io: Io) -> None:
    """List the balance with every peer: who owes whom, and how much more it may owe.

    \b
    dms account show
    """
    from dms.cli.views import accounts as views  # noqa: PLC0415
    from dms.rpc.api.accounts import AccountList  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("account.show", None, AccountList), views.book)


@account.command(context_settings=CONTEXT)
@PEER
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, oldest first, amounts in micro-credits.")
@click.option("--limit", metavar="N", type=click.IntRange(1, MOST), default=100, show_default=True, help="Newest N.")
@with_io
def statement(io: Io, *, peer: str, as_csv: bool, limit: int) -> None:
    """List the entries behind the balance with a peer, by name or PeerID, newest first.

    \b
    dms account statement alpha
    dms account statement alpha --csv > alpha.csv
    """
    _entries(io, peer, limit, as_csv=as_csv)


@account.command(context_settings=CONTEXT)
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, oldest first, amounts in micro-credits.")
@with_io
def export(io: Io, *, as_csv: bool) -> None:
    """Print every entry with every peer, oldest first.

    \b
    dms account export --csv > accounts.csv
    dms account export --json > accounts.json
    """
    from dms.cli.views import accounts as views  # noqa: PLC0415
    from dms.rpc.api.accounts import Statement  # noqa: PLC0415

    _check_form(io, as_csv=as_csv)
    with io.node() as node:
        entries = _every_entry(node)
        if io.as_json or as_csv:
            for line in (views.as_json if io.as_json else views.as_csv)(entries):
                click.echo(line)
        else:
            found = tuple(entries)
            io.show(Statement(found, len(found)), views.statement)


@account.command(context_settings=CONTEXT)
@with_io
def tabs(io: Io) -> None:
    """List the tabs: what calls of services cost, agreed with the first, and have come to so far.

    \b
    dms account tabs
    """
    from dms.cli.views import tabs as views  # noqa: PLC0415
    from dms.rpc.api.tabs import TabList  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("account.tabs", None, TabList), views.tabs)


@account.command(context_settings=CONTEXT)
@PEER
@click.argument("amount", metavar="AMOUNT")
@click.option("--ours", is_flag=True, help="The other way: the most we may owe it, over all jobs.")
@with_io
def limit(io: Io, *, peer: str, amount: str, ours: bool) -> None:
    """Set the most a peer may owe, in credits: 0 lets it prepay only, "default" treats it as any other.

    \b
    dms account limit alpha 25
    dms account limit alpha default
    dms account limit alpha 5 --ours
    """
    from dms.cli.amounts import credits_in  # noqa: PLC0415
    from dms.cli.views import accounts as views  # noqa: PLC0415
    from dms.rpc.api.accounts import AccountView, LimitParams  # noqa: PLC0415

    most = None if amount == "default" else credits_in(amount, "AMOUNT", ', nor "default"')
    with io.node() as node:
        io.show(node.call("account.limit", LimitParams(peer, most, ours), AccountView), views.account)


@account.command(context_settings=CONTEXT)
@PEER
@click.argument("amount", metavar="AMOUNT")
@click.option("--paid", is_flag=True, help="The other way: we paid it.")
@click.option("--note", metavar="TEXT", default="", help="A line for the statement.")
@with_io
def deposit(io: Io, *, peer: str, amount: str, paid: bool, note: str) -> None:
    """Book credits that a peer paid us outside of the market, for what it owes or in advance.

    \b
    dms account deposit alpha 10 --note "invoice 7"
    dms account deposit alpha 10 --paid
    """
    from dms.cli.amounts import credits_in  # noqa: PLC0415
    from dms.cli.views import accounts as views  # noqa: PLC0415
    from dms.rpc.api.accounts import AccountView, DepositParams  # noqa: PLC0415

    received = credits_in(amount, "AMOUNT") * (-1 if paid else 1)
    with io.node() as node:
        io.show(node.call("account.deposit", DepositParams(peer, received, note), AccountView), views.account)


@account.command(context_settings=CONTEXT)
@PEER
@click.option(
    "--by",
    type=click.Choice(["iou", "local"]),
    default="iou",
    show_default=True,
    help="iou: sign what we owe and send it; local: square it in this node's book alone.",
)
@with_io
def settle(io: Io, *, peer: str, by: str) -> None:
    """Settle with a peer: by a signed IOU over what we owe, or, between machines of one owner, in this node's own book.

    \b
    dms account settle alpha
    dms account settle my-other-machine --by local
    """
    from dms.cli.views import accounts as views  # noqa: PLC0415
    from dms.rpc.api.accounts import AccountView, SettleBy, SettleParams  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("account.settle", SettleParams(peer, SettleBy(by)), AccountView), views.account)


@account.command(context_settings=CONTEXT)
@with_io
def verify(io: Io) -> None:
    """Check every entry against the event, the signed receipt or the IOU it rests on. Exits with 1 when one does not follow.

    Asks no other node, and works without a running node too.

    \b
    dms account verify
    """
    from dms.cli.progress import Progress  # noqa: PLC0415
    from dms.cli.views import accounts as views  # noqa: PLC0415

    with Progress("checking every entry"):
        report = _verified(io)
    io.show(report, views.verified)
    if not report.is_right:
        raise SystemExit(FAILURE)


def _verified(io: Io) -> LedgerReport:
    from dms.rpc.api.accounts import LedgerReport  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    try:
        with io.node(timeout=600) as node:
            return node.call("account.verify", None, LedgerReport)
    except UserError as error:
        if error.code != "node_not_running":
            raise
    import msgspec  # noqa: PLC0415

    from dms.cli.node_process import answer, command  # noqa: PLC0415

    return msgspec.json.decode(answer(command("verify-accounts", io.home, "--json")), type=LedgerReport)


@account.command(context_settings=CONTEXT)
@click.argument("peer", metavar="[PEER]", required=False, default="")
@with_io
def disputes(io: Io, *, peer: str) -> None:
    """List what was asked and not accepted: by us of our peers, and by them of us.

    \b
    dms account disputes
    dms account disputes alpha
    """
    from dms.cli.views import accounts as views  # noqa: PLC0415
    from dms.rpc.api.accounts import DisputeList, DisputesParams  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("account.disputes", DisputesParams(peer), DisputeList), views.disputes)


@account.command(context_settings=CONTEXT)
@PEER
@click.argument("allocation", metavar="[ALLOCATION]", required=False, default="")
@click.option("--all", "every", is_flag=True, help="All that this peer has not accepted.")
@with_io
def forgive(io: Io, *, peer: str, allocation: str, every: bool) -> None:
    """Ask a peer no longer for what it did not accept, and tell it so. It was not earned then.

    \b
    dms account forgive alpha a-7xk2m
    dms account forgive alpha --all
    """
    from dms.cli.views import accounts as views  # noqa: PLC0415
    from dms.rpc.api.accounts import AccountView, ForgiveParams  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    if bool(allocation) == every:
        raise UserError("bad_argument", "name one ALLOCATION, or say --all", hint=f"dms account disputes {peer}")
    with io.node() as node:
        io.show(node.call("account.forgive", ForgiveParams(peer, allocation), AccountView), views.account)


@account.command(context_settings=CONTEXT)
@PEER
@click.argument("allocation", metavar="ALLOCATION")
@with_io
def accept(io: Io, *, peer: str, allocation: str) -> None:
    """Accept after all what a peer asked for an allocation, by a signed receipt. Again: the receipt is sent again.

    \b
    dms account accept alpha a-7xk2m
    """
    from dms.cli.views import accounts as views  # noqa: PLC0415
    from dms.rpc.api.accounts import AcceptParams, AccountView  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("account.accept", AcceptParams(peer, allocation), AccountView), views.account)


def _every_entry(node: Client) -> Iterator[EntryView]:
    """All entries, oldest first, a page at a time."""
    from dms.rpc.api.accounts import Statement, StatementParams  # noqa: PLC0415

    after = 0
    while True:
        page: Statement = node.call("account.statement", StatementParams(limit=PAGE, after=after), Statement)
        yield from page.entries
        if len(page.entries) < PAGE:
            return
        after = page.entries[-1].seq


def _check_form(io: Io, *, as_csv: bool) -> None:
    if as_csv and io.as_json:
        raise click.UsageError("--csv and --json are two forms of the same; choose one")


def _entries(io: Io, peer: str, most: int, *, as_csv: bool) -> None:
    from dms.cli.views import accounts as views  # noqa: PLC0415
    from dms.rpc.api.accounts import Statement, StatementParams  # noqa: PLC0415

    _check_form(io, as_csv=as_csv)
    with io.node() as node:
        found: Statement = node.call("account.statement", StatementParams(peer, most), Statement)
    if as_csv:
        for line in views.as_csv(reversed(found.entries)):
            click.echo(line)
    else:
        io.show(found, views.statement)
