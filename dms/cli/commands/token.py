"""dms token: what programs show on HTTP."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io


@click.command(context_settings=CONTEXT)
@click.option("--read", "reading", is_flag=True, help="The token that only looks, for a dashboard or a monitor.")
@click.option("--rotate", is_flag=True, help="Make a new one first; the old one opens nothing from now on.")
@with_io
def token(io: Io, *, reading: bool, rotate: bool) -> None:
    """Print the bearer token for JSON-RPC over HTTP: the full one, or with --read the one that only looks.

    \b
    curl -H "Authorization: Bearer $(dms token --read)" …
    dms token --rotate
    """
    from dms.rpc.registry import Access  # noqa: PLC0415
    from dms.rpc.token import load_token, rotate_token, token_file  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    if not io.home.exists():
        raise UserError("not_onboarded", f"{io.home.root} holds no node yet", hint="dms onboard makes one")
    access = Access.READ if reading else Access.FULL
    path = token_file(io.home, access)
    value = rotate_token(path) if rotate else load_token(path)
    if io.as_json:
        io.show_json({"token": value, "access": access, "path": str(path)})
    else:
        io.line(value)
