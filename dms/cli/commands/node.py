"""dms node, dms status: the node itself."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import FAILURE
from dms.cli.progress import Progress

node: Final = group("node", "The node: status, capability, benchmark, identity.")


@click.command(context_settings=CONTEXT)
@with_io
def status(io: Io) -> None:
    """The node at a glance. Exits with 1 when something is wrong.

    \b
    dms status
    """
    from dms.cli.views import node as views  # noqa: PLC0415
    from dms.rpc.api.status import NodeStatus  # noqa: PLC0415

    with io.node() as running:
        found = running.call("node.status", None, NodeStatus)
    io.show(found, views.status)
    if not found.healthy:
        raise SystemExit(FAILURE)


node.add_command(status)


@node.command(context_settings=CONTEXT)
@with_io
def capability(io: Io) -> None:
    """What is registered, available, locked and allocated, and what is offered at which price.

    \b
    dms node capability
    """
    from dms.cli.views import node as views  # noqa: PLC0415
    from dms.rpc.api.status import CapabilityStatus  # noqa: PLC0415

    with io.node() as running:
        io.show(running.call("node.capability", None, CapabilityStatus), views.capability)


@node.command(context_settings=CONTEXT)
@click.option("--dry-run", is_flag=True, help="Measure only; go on offering what was offered.")
@with_io
def benchmark(io: Io, *, dry_run: bool) -> None:
    """Measure this machine (at most 10 s) and offer what was found.

    \b
    dms node benchmark --dry-run
    """
    from dms.cli.views import node as views  # noqa: PLC0415
    from dms.rpc.api.node import BenchmarkParams, BenchmarkReport  # noqa: PLC0415

    with io.node(timeout=60) as running, Progress("measuring this machine, at most 10 s"):
        report = running.call("node.benchmark_capability", BenchmarkParams(register=not dry_run), BenchmarkReport)
    io.show(report, views.benchmark)


@node.command("id", context_settings=CONTEXT)
@with_io
def identity(io: Io) -> None:
    """All names of this node: PeerID, DID, CID, UUID.

    \b
    dms node id --json
    """
    from dms.cli.views import identity as views  # noqa: PLC0415
    from dms_proto.ids import NodeId  # noqa: PLC0415

    with io.node() as running:
        io.show(running.call("node.identity", None, NodeId), lambda names: [views.names(names)])


@node.command(context_settings=CONTEXT)
@with_io
def pause(io: Io) -> None:
    """Take no new work; what runs goes on.

    \b
    dms node pause
    """
    _change(io, "node.pause")


@node.command(context_settings=CONTEXT)
@with_io
def resume(io: Io) -> None:
    """Take new work again.

    \b
    dms node resume
    """
    _change(io, "node.resume")


def _change(io: Io, method: str) -> None:
    from dms.cli.blocks import Line  # noqa: PLC0415
    from dms.rpc.api.status import StateChange  # noqa: PLC0415
    from dms_proto.units import format_count  # noqa: PLC0415

    with io.node() as running:
        change = running.call(method, None, StateChange)
    io.show(change, lambda value: [Line(f"{value.state}; {format_count(value.running, 'allocation')} running here")])
