"""dms pool: what is kept warm, and why."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io

pool: Final = group("pool", "What this node keeps warm for calls, and why calls went where.")


@pool.command("list", context_settings=CONTEXT)
@with_io
def list_(io: Io) -> None:
    """List the containers, the users' services that share them, and the calls under way.

    \b
    dms pool list
    """
    from dms.cli.views import services  # noqa: PLC0415
    from dms.cli.views.words import now_ms  # noqa: PLC0415
    from dms.rpc.api.services import PoolView  # noqa: PLC0415

    with io.node() as node:
        view, names = node.call("pool.list", None, PoolView), io.names(node)
    io.show(view, lambda value: services.pool(value, names, now_ms()))


@pool.command(context_settings=CONTEXT)
@click.argument("container_id", metavar="CONTAINER")
@with_io
def show(io: Io, *, container_id: str) -> None:
    """Show a container's control block, and why it was made: which others there were for its first call, and why none would do.

    \b
    dms pool show c-17
    """
    from dms.cli.views import services  # noqa: PLC0415
    from dms.cli.views.words import now_ms  # noqa: PLC0415
    from dms.rpc.api.services import ContainerParams, ContainerView  # noqa: PLC0415

    with io.node() as node:
        view, names = node.call("pool.show", ContainerParams(container_id), ContainerView), io.names(node)
    io.show(view, lambda value: services.container(container_id, value, names, now_ms()))
