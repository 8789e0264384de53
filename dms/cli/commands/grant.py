"""dms grant: signed permissions."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io
from dms.cli.gathering import gathered

if TYPE_CHECKING:
    from dms_proto.grants.rights import Rights

P = ParamSpec("P")
R = TypeVar("R")

grant: Final = group("grant", "Signed permissions: who may ask whom for work.")
anchor: Final = group("anchor", "Whose grants this node accepts.")
grant.add_command(anchor)
GRANT = click.argument("grant", metavar="GRANT")
DEFAULT_UNTIL: Final = "30d"
"""How long a grant lasts when its maker does not say."""

_LIMITS: Final = (
    click.option(
        "--to",
        "peers",
        metavar="PEER",
        multiple=True,
        help="Node that may use it, by name or PeerID; several for several.",
    ),
    click.option(
        "--can", "kinds", metavar="KINDS", help="Of request, commit, invoke, logs, exec, separated by commas."
    ),
    click.option("--class", "job_classes", metavar="CLASSES", help="Of batch, interactive, service."),
    click.option("--max-cpu", "cpu", metavar="CORES", help="Cores of one request, such as 4."),
    click.option("--max-memory", "memory", metavar="SIZE", help="Memory of one request, such as 8GiB."),
    click.option("--max-disk", "disk", metavar="SIZE", help="Disk of one request."),
    click.option("--max-gpus", "gpus", metavar="N", help="GPUs of one request, such as 1; 0 for none."),
    click.option("--max-time", "wall", metavar="SPAN", help="Longest run, such as 2h."),
    click.option("--max-price", "price", metavar="CREDITS", help="Most that may be offered per allocation."),
)


renewed: Final = click.option(
    "--renew", metavar="WHEN", help="Made anew while it is in use, for as long each time, until then: a span or a date."
)


def _limits(function: Callable[P, R]) -> Callable[P, R]:
    """Adds the options; the command gets what was given as one dict, `limits`."""
    return gathered(_LIMITS, function, "limits")


@anchor.command("list", context_settings=CONTEXT)
@with_io
def anchor_list(io: Io) -> None:
    """List the nodes whose grants this node accepts.

    \b
    dms grant anchor list
    """
    from dms.cli.views import grants as views  # noqa: PLC0415
    from dms.rpc.api.grants import Anchors  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("grants.anchors", None, Anchors), views.anchors)


@anchor.command(context_settings=CONTEXT)
@click.argument("peer", metavar="PEER")
@with_io
def add(io: Io, *, peer: str) -> None:
    """Accept the grants of a node from now on: whoever it lets in is let in here.

    \b
    dms grant anchor add 12D3KooW…
    """
    _wish(io, peer, wanted=True)


@anchor.command(context_settings=CONTEXT)
@click.argument("peer", metavar="PEER")
@with_io
def remove(io: Io, *, peer: str) -> None:
    """Accept the grants of a node no longer.

    \b
    dms grant anchor remove …9xKp4abc
    """
    _wish(io, peer, wanted=False)


def _wish(io: Io, peer: str, *, wanted: bool) -> None:
    from dms.cli.views import grants as views  # noqa: PLC0415
    from dms.rpc.api.grants import AnchorParams, Anchors  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("grants.anchor", AnchorParams(peer, wanted), Anchors), views.anchors)


@grant.command(context_settings=CONTEXT)
@_limits
@click.option("--bearer", is_flag=True, help="For whoever has it, instead of --to.")
@click.option("--own", is_flag=True, help="The holder counts as a machine of the same owner.")
@click.option("--until", metavar="WHEN", default=DEFAULT_UNTIL, show_default=True, help="A span, a date, or never.")
@renewed
@with_io
def create(io: Io, *, limits: dict[str, Any], bearer: bool, own: bool, until: str, renew: str | None) -> None:
    """Make a grant: a text that lets its holder ask this node, and all that accept its grants, for work.

    \b
    dms grant create --to 12D3KooW… --max-cpu 4 --until 30d
    dms grant create --to 12D3KooW… --until 7d --renew 365d
    dms grant create --bearer --can request,commit,invoke --max-price 0.5
    """
    from dms.rpc.api.grants import CreateGrantParams  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    if bearer == bool(limits["peers"]):
        raise UserError("bad_argument", "say for whom: --to PEER, or --bearer for whoever has it")
    rights = _rights(limits, until, own=own)
    _show_made(io, "grants.create", CreateGrantParams(rights, last_renewal(renew)))


@grant.command(context_settings=CONTEXT)
@GRANT
@_limits
@click.option("--until", metavar="WHEN", help="A span or a date; no later than before in any case.")
@with_io
def delegate(io: Io, *, grant: str, limits: dict[str, Any], until: str | None) -> None:
    """Make a narrower grant of one you have; the old limits stay, and what it is made from is not needed to use it.

    \b
    dms grant delegate g-abcd --to 12D3KooW… --max-cpu 1 --until 1d
    """
    from dms.rpc.api.grants import DelegateGrantParams  # noqa: PLC0415

    rights = _rights(limits, until or "never", own=False)
    _show_made(io, "grants.delegate", DelegateGrantParams(grant, rights))


def _show_made(io: Io, method: str, params: object) -> None:
    from dms.cli.views import grants as views  # noqa: PLC0415
    from dms.rpc.api.grants import Grant  # noqa: PLC0415

    with io.node() as node:
        made = node.call(method, params, Grant)
    io.show(made, views.made)
    if not io.as_json and not made.view.rights.one_of.get("peer"):
        click.echo("dms: whoever has this text can use it", err=True)


@grant.command(context_settings=CONTEXT)
@GRANT
@with_io
def inspect(io: Io, *, grant: str) -> None:
    """Say in words what a grant allows, who signed it, how it was narrowed, and whether it counts here.

    \b
    dms grant inspect dmsg1:…
    """
    _show_view(io, "grants.inspect", grant)


@grant.command(context_settings=CONTEXT)
@GRANT
@with_io
def keep(io: Io, *, grant: str) -> None:
    """Keep a grant that was given to you: from now on it is shown to every node that asks for it.

    \b
    dms grant keep dmsg1:…
    """
    _show_view(io, "grants.keep", grant)


@grant.command(context_settings=CONTEXT)
@GRANT
@with_io
def forget(io: Io, *, grant: str) -> None:
    """Keep a grant no longer; it stays valid.

    \b
    dms grant forget g-abcd
    """
    from dms.cli.views import grants as views  # noqa: PLC0415
    from dms.rpc.api.grants import GrantParams, GrantView  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("grants.forget", GrantParams(grant), GrantView), views.forgotten)


def _show_view(io: Io, method: str, given: str) -> None:
    from dms.cli.views import grants as views  # noqa: PLC0415
    from dms.rpc.api.grants import GrantParams, GrantView  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call(method, GrantParams(given), GrantView), views.one)


@grant.command(context_settings=CONTEXT)
@GRANT
@with_io
def revoke(io: Io, *, grant: str) -> None:
    """Make a grant void, and every one made from it: here, and at every node that accepts the grants of its issuer.

    \b
    dms grant revoke g-abcd
    """
    from dms.cli.views import grants as views  # noqa: PLC0415
    from dms.rpc.api.grants import GrantList, RevokeGrantParams  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("grants.revoke", RevokeGrantParams(grant), GrantList), views.all_)


@grant.command("list", context_settings=CONTEXT)
@with_io
def list_(io: Io) -> None:
    """List the grants this node made and those it holds.

    \b
    dms grant list
    """
    from dms.cli.views import grants as views  # noqa: PLC0415
    from dms.rpc.api.grants import GrantList  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("grants.list", None, GrantList), views.all_)


def _rights(limits: dict[str, Any], until: str, *, own: bool) -> Rights:
    """What the options say, checked as far as words go.

    Raises:
        UserError: `bad_argument`: an amount or a moment that cannot be read.
    """
    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.grants.rights import TIME, Rights  # noqa: PLC0415
    from dms_proto.units import parse_bytes, parse_credits, parse_millicores, parse_millis  # noqa: PLC0415

    readers: dict[str, Callable[[str], int]] = {
        "cpu": parse_millicores,
        "memory": parse_bytes,
        "disk": parse_bytes,
        "gpus": parse_millicores,
        "wall": parse_millis,
        "price": parse_credits,
    }
    at_most: dict[str, int] = {}
    for name, read in readers.items():
        if limits[name] is not None:
            try:
                at_most[name] = read(limits[name])
            except ValueError as error:
                raise UserError("bad_argument", f"the limit of {name}: {error}") from error
    if (end := moment(until)) is not None:
        at_most[TIME] = end
    lists = {
        "kind": _words(limits["kinds"]),
        "job_class": _words(limits["job_classes"]),
        "peer": tuple(sorted(limits["peers"])),
    }
    return Rights(at_most, {name: words for name, words in lists.items() if words}, own)


MOMENTS: Final = "a span such as 30d, a date such as 2030-01-31"
"""How a moment can be written."""


def moment(when: str, option: str = "--until", how: str = f'{MOMENTS}, or "never"') -> int | None:
    """A span from now, or a date, as Unix ms; None for "never".

    Raises:
        UserError: `bad_argument`: neither.
    """
    import time  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415

    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.units import parse_millis  # noqa: PLC0415

    if when == "never":
        return None
    try:
        at = datetime.fromisoformat(when)
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * 1000
    except ValueError:
        pass
    try:
        return time.time_ns() // 1_000_000 + parse_millis(when)
    except ValueError as error:
        raise UserError(
            "bad_argument",
            f"{option} {when}: {error}",
            hint=f"write {how}",
        ) from error


def last_renewal(when: str | None) -> int:
    """What `--renew` says, as Unix ms; 0: it was not given.

    Raises:
        UserError: `bad_argument`: it is no moment.
    """
    from dms_proto.errors import UserError  # noqa: PLC0415

    if when is None:
        return 0
    until = moment(when, "--renew", MOMENTS)
    if until is None:
        raise UserError(
            "bad_argument", "--renew never: renewing has an end", hint="leave it out for a grant that runs out"
        )
    return until


def _words(given: str | None) -> tuple[str, ...]:
    return tuple(sorted({word.strip() for word in (given or "").split(",") if word.strip()}))
