"""dms peers, dms join, dms invite: other nodes."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.commands.grant import DEFAULT_UNTIL, last_renewal, moment, renewed
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import FAILURE
from dms.cli.progress import Progress

if TYPE_CHECKING:
    from dms.rpc.api.peers import JoinParams

peers: Final = group("peers", "Other nodes: list, show, ping, ban.")
PEER = click.argument("peer", metavar="PEER")
GRACE_S: Final = 30.0
"""Seconds for a node to stop before it is started anew."""


@peers.command("list", context_settings=CONTEXT)
@with_io
def list_(io: Io) -> None:
    """List every node this one knows.

    \b
    dms peers list
    """
    from dms.cli.views import peers as views  # noqa: PLC0415
    from dms.rpc.api.peers import PeerList  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("peers.list", None, PeerList), views.peer_list)


@peers.command(context_settings=CONTEXT)
@PEER
@with_io
def show(io: Io, *, peer: str) -> None:
    """Show a node, by name or PeerID, and what its standing is made of.

    \b
    dms peers show alpha
    """
    from dms.cli.views import peers as views  # noqa: PLC0415
    from dms.rpc.api.peers import PeerParams, PeerView  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("peers.show", PeerParams(peer), PeerView), views.one_peer)


@peers.command(context_settings=CONTEXT)
@PEER
@click.option("--count", metavar="N", type=click.IntRange(1, 20), default=3, show_default=True, help="Probes.")
@with_io
def ping(io: Io, *, peer: str, count: int) -> None:
    """Measure the way to a node, by name or PeerID; exits with 1 when no probe was answered.

    \b
    dms peers ping alpha
    """
    from dms.cli.views import peers as views  # noqa: PLC0415
    from dms.rpc.api.peers import PingParams, PingResult  # noqa: PLC0415

    with io.node() as node, Progress(f"reaching {peer}"):
        result = node.call("peers.ping", PingParams(peer, count), PingResult)
    io.show(result, views.ping)
    if not result.rtt_us:
        raise SystemExit(FAILURE)


@peers.command(context_settings=CONTEXT)
@PEER
@click.option(
    "--for",
    "span",
    metavar="SPAN",
    default="1h",
    show_default=True,
    help="How long, such as 10m or 2d; 0 lifts the ban.",
)
@with_io
def ban(io: Io, *, peer: str, span: str) -> None:
    """Keep a node away for a while, or let it come back with --for 0.

    \b
    dms peers ban …9xKp4abc --for 1d
    """
    from dms.cli.views import peers as views  # noqa: PLC0415
    from dms.rpc.api.peers import BanParams, PeerView  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.units import parse_millis  # noqa: PLC0415

    try:
        seconds = -(-parse_millis(span) // 1000)
    except ValueError as error:
        raise UserError("bad_argument", f"--for: {error}") from error
    with io.node() as node:
        io.show(node.call("peers.ban", BanParams(peer, seconds), PeerView), views.banned)


@click.command(context_settings=CONTEXT)
@click.option(
    "--until",
    metavar="WHEN",
    default=DEFAULT_UNTIL,
    show_default=True,
    help="When the grant in it ends, where the market asks for one: a span, a date, or never.",
)
@renewed
@with_io
def invite(io: Io, *, until: str, renew: str | None) -> None:
    """Print the command by which another machine joins this node's market; where that asks for a grant, one is in it.

    \b
    dms invite
    dms invite --until 7d --renew 365d
    """
    from dms.cli.views import peers as views  # noqa: PLC0415
    from dms.rpc.api.peers import Invite, InviteParams  # noqa: PLC0415

    with io.node() as node:
        invitation = node.call("peers.invite", InviteParams(moment(until) or 0, last_renewal(renew)), Invite)
    io.show(invitation, views.invite)
    if invitation.grant_id and not io.as_json:
        click.echo(
            f"dms: whoever reads this may use this node; dms grant revoke {invitation.grant_id} ends it", err=True
        )
    if invitation.warning and not io.as_json:
        click.echo(f"dms: {invitation.warning}", err=True)


@click.command(context_settings=CONTEXT)
@click.argument("invitation", metavar="INVITATION")
@with_io
def join(io: Io, *, invitation: str) -> None:
    """Join a market with the invitation that dms invite printed on another machine.

    A node whose owner has put it into no market of a name, and that has nothing to do, changes to the market of the invitation: it is started anew
    for that, if it runs in the background.

    \b
    dms join dms1:…
    """
    from dms.cli.views import peers as views  # noqa: PLC0415
    from dms.rpc.api.peers import Joined, JoinParams  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    params = JoinParams(invitation)
    with Progress("connecting"):
        try:
            with io.node() as node:
                joined = node.call("peers.join", params, Joined)
        except UserError as error:
            if error.code != "other_market":
                raise
            _move(io, params)
            with io.node() as node:
                joined = node.call("peers.join", params, Joined)
    io.show(joined, views.joined)


def _move(io: Io, params: JoinParams) -> None:
    """Has the node change to the market of an invitation.

    Raises:
        UserError: `other_market`: it stays where it is, or somebody has to restart it.
    """
    from dms.cli.node_process import is_detached, restart_detached  # noqa: PLC0415
    from dms.rpc.api.peers import Moved  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    with io.node() as node:
        moved = node.call("peers.move", params, Moved)
        if not is_detached(io.home, int(node.call("rpc.ping")["pid"])):
            what = f"this node is in the market {moved.market!r} from its next start"
            raise UserError("other_market", what, hint="restart it, and give the same command again")
        restart_detached(io.home, node, GRACE_S)
