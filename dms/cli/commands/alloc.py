"""dms alloc: single runs."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io
from dms.cli.exec_options import COMMAND, check_terminal, exec_options
from dms.cli.log_options import FOLLOW, SINCE

alloc: Final = group("alloc", "Single runs, here for others and elsewhere for you.")
ALLOCATION = click.argument("allocation_id", metavar="ALLOCATION")


@alloc.command("list", context_settings=CONTEXT)
@click.option(
    "--side",
    type=click.Choice(["provider", "requester", "both"]),
    default="both",
    show_default=True,
    help="Our part in them.",
)
@click.option("--active", is_flag=True, help="Only those that have not ended.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many."
)
@with_io
def list_(io: Io, *, side: str, active: bool, limit: int) -> None:
    """List allocations, newest first.

    \b
    dms alloc list --side provider --active
    """
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.rpc.api.allocations import AllocationList, AllocationListParams, Side  # noqa: PLC0415

    with io.node() as node:
        found = node.call("alloc.list", AllocationListParams(Side(side), active, limit), AllocationList)
        names = io.names(node)
    io.show(found, lambda value: jobs.allocation_list(value, names))


@alloc.command(context_settings=CONTEXT)
@ALLOCATION
@with_io
def show(io: Io, *, allocation_id: str) -> None:
    """Show an allocation in full.

    \b
    dms alloc show a-abc
    """
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.rpc.api.allocations import AllocationParams, AllocationView  # noqa: PLC0415

    with io.node() as node:
        view, names = node.call("alloc.show", AllocationParams(allocation_id), AllocationView), io.names(node)
    io.show(view, lambda value: jobs.allocation(value, names))


@alloc.command(context_settings=CONTEXT)
@ALLOCATION
@FOLLOW
@SINCE
@click.option("--stderr", is_flag=True, help="Standard error instead of standard output.")
@click.option(
    "--from",
    "peer",
    metavar="PEER",
    help="Of a job of another node: read it from this node, which ran it or asked for it and lets us. Needs the whole id.",
)
@with_io
def logs(io: Io, *, allocation_id: str, follow: bool, since: str | None, stderr: bool, peer: str | None) -> None:
    """Print what an allocation wrote, its bytes as they are.

    What did not arrive before a node was lost is told on standard error.

    \b
    dms alloc logs a-abc
    """
    from dms.cli.log_printing import AllocationLog, print_logs, since_ms  # noqa: PLC0415
    from dms.rpc.api.allocations import AllocationLogParams, AllocationReadParams  # noqa: PLC0415

    if peer is not None and (follow or since is not None):
        raise click.UsageError("--follow and --since are for what this node ran or asked for, not for --from")
    stream = "stderr" if stderr else "stdout"
    params: AllocationLogParams | AllocationReadParams
    params, method = AllocationLogParams(allocation_id, stream, since=since_ms(since)), "alloc.logs"
    if peer is not None:
        params, method = AllocationReadParams(peer, allocation_id, stream), "alloc.read"
    with io.node() as node:
        if io.as_json:
            io.show_json(node.call(method, params))
            return
        print_logs(io, [AllocationLog(node, method, params)], follow=follow)


@alloc.command("exec", context_settings=CONTEXT)
@exec_options
@click.option(
    "--on",
    "peer",
    metavar="PEER",
    default="",
    help="Of a job of another node that lets others in (exec: granted): it runs on this node. Needs the whole id, and the right exec.",
)
@ALLOCATION
@COMMAND
@with_io
def exec_(io: Io, *, allocation_id: str, command: tuple[str, ...], peer: str, interactive: bool, tty: bool) -> None:
    """Run a command beside what runs in an allocation, with all that it has; exit with its code.

    \b
    dms alloc exec -it a-abc -- sh
    dms alloc exec a-abc -- tail -n 20 train.log
    """
    from dms.cli.executing import execute, order_of  # noqa: PLC0415
    from dms.rpc.api.execs import AllocationExecParams  # noqa: PLC0415

    check_terminal(interactive=interactive, tty=tty)
    params = AllocationExecParams(allocation_id, order_of(command, has_terminal=tty), peer)
    raise SystemExit(execute(io.home.socket, params, takes_input=interactive))


@alloc.command(context_settings=CONTEXT)
@click.argument("allocation_id", metavar="ALLOCATION|JOB")
@click.option("--cpu", metavar="CORES", help="CPU cores, such as 2 or 500m.")
@click.option("--memory", metavar="SIZE", help="Memory, such as 512MiB.")
@click.option("--gpu-share", metavar="PART", help="Part of each of its GPUs, such as 0.5. For own machines.")
@click.option("--gpu-memory", metavar="SIZE", help="Memory of each of its GPUs.")
@with_io
def resize(
    io: Io,
    *,
    allocation_id: str,
    cpu: str | None,
    memory: str | None,
    gpu_share: str | None,
    gpu_memory: str | None,
) -> None:
    """Let what runs have more, or less, without a restart.

    Its node gives what is free there; refused, it keeps what it has. What is owed follows from then on.

    \b
    dms alloc resize a-abc --cpu 2 --memory 1GiB
    dms alloc resize r-abc --gpu-share 0.5 --gpu-memory 8GiB
    """
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.rpc.api.allocations import ResizeParams, ResizeResult  # noqa: PLC0415
    from dms_proto.units import parse_bytes, parse_millicores  # noqa: PLC0415

    if cpu is memory is gpu_share is gpu_memory is None:
        raise click.UsageError("say what is to change: --cpu, --memory, --gpu-share or --gpu-memory")
    params = ResizeParams(
        allocation_id,
        None if cpu is None else parse_millicores(cpu),
        None if memory is None else parse_bytes(memory),
        None if gpu_share is None else parse_millicores(gpu_share),
        None if gpu_memory is None else parse_bytes(gpu_memory),
    )
    with io.node() as node:
        io.show(node.call("alloc.resize", params, ResizeResult), jobs.resized)


@alloc.command(context_settings=CONTEXT)
@ALLOCATION
@with_io
def cancel(io: Io, *, allocation_id: str) -> None:
    """Stop an allocation. One of your own is not tried elsewhere; one that runs here for another node counts against this node.

    \b
    dms alloc cancel a-abc
    """
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.rpc.api.allocations import AllocationParams, CancelResult  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("alloc.cancel", AllocationParams(allocation_id), CancelResult), jobs.cancelled)
