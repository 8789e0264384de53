"""dms ask: what every node would answer to a job."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import FAILURE, OK
from dms.cli.progress import Progress
from dms.cli.task_options import job_file, spec_of, spec_of_file, task_options

if TYPE_CHECKING:
    from dms.jobs.spec import JobSpec
    from dms.rpc.client import Client

_AFTER_DASHES: Final = f"{__name__}.after_dashes"


class AskCommand(click.Command):
    """Knows whether its arguments came after ``--``: then they are a command, whatever they look like."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses, and keeps what click forgets."""
        given = list(args)
        rest = super().parse_args(ctx, args)
        argv = ctx.params["argv"]
        ctx.meta[_AFTER_DASHES] = given[-len(argv) - 1 : -len(argv)] == ["--"]
        return rest


@click.command(cls=AskCommand, context_settings={**CONTEXT, "allow_interspersed_args": False})
@task_options
@click.option("--dry-run", is_flag=True, help="Understood: asking never does anything else.")
@click.option("--all", "every_node", is_flag=True, help="List every node, however many.")
@click.argument("argv", metavar="JOB-FILE | -- CMD [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
@with_io
def ask(io: Io, *, task: dict[str, Any], dry_run: bool, every_node: bool, argv: tuple[str, ...]) -> None:
    """Ask what every node would answer to a job, without running it.

    Nothing is locked, committed or paid. Exits with 1 when no node would bid.

    \b
    dms ask --memory 64GiB --gpus 1 -- python3 train.py
    dms ask job.yaml
    """
    is_command = click.get_current_context().meta[_AFTER_DASHES]
    path = None if is_command else job_file(task, argv)
    spec = spec_of(task, argv) if path is None else spec_of_file(path)
    with io.node() as node:
        raise SystemExit(show_answers(io, node, spec, every_node=every_node))


def show_answers(io: Io, node: Client, spec: JobSpec, *, every_node: bool = False) -> int:
    """Asks and shows; gives the exit code."""
    from msgspec.structs import replace  # noqa: PLC0415

    from dms.cli.views.explain import explanation  # noqa: PLC0415
    from dms.cli.views.words import most, needs  # noqa: PLC0415
    from dms.rpc.api.market import AskParams  # noqa: PLC0415
    from dms_proto.market.explain import Explanation, Outcome  # noqa: PLC0415

    with Progress("asking every node"):
        # Nobody runs it: its secrets need not leave this process.
        found = node.call("market.ask", AskParams(replace(spec, secrets=())), Explanation)
        names = io.names(node)
    title = f"{spec.name or 'job'}  {needs(spec.needs)}  {most(spec.max_price, spec.budget)}"
    io.show(found, lambda value: explanation(title, value, names, every_node=every_node))
    return OK if found.counts.get(Outcome.BID) else FAILURE
