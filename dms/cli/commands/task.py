"""dms task: kinds of tasks, by name and parameters."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.commands.run import RunCommand, run_to_end
from dms.cli.context import Io, with_io
from dms.cli.task_options import market_options, spec_of_kind

task: Final = group("task", "Run a kind of task by its name and parameters.")
KIND = click.argument("kind", metavar="KIND")


@task.command(context_settings=CONTEXT)
@with_io
def kinds(io: Io) -> None:
    """List the kinds of tasks, those of installed packages too.

    \b
    dms task kinds
    """
    from dms.cli.views import kinds as views  # noqa: PLC0415
    from dms.kinds.installed import installed  # noqa: PLC0415

    io.show(views.listed(installed()), views.kind_list)


@task.command(context_settings=CONTEXT)
@KIND
@with_io
def show(io: Io, *, kind: str) -> None:
    """Show the parameters of a kind; with --json as a JSON Schema.

    \b
    dms task show checksum
    """
    from dms.cli.views import kinds as views  # noqa: PLC0415
    from dms.jobs.schema import schema_of  # noqa: PLC0415
    from dms.kinds.installed import kind_called  # noqa: PLC0415

    found = kind_called(kind)
    io.show(schema_of(found.parameters, kind), lambda schema: views.parameters(kind, found.about, schema))


@task.command("run", cls=RunCommand, context_settings=CONTEXT)
@market_options
@click.option(
    "-p",
    "--params",
    metavar="NAME=VALUE|@FILE|JSON",
    multiple=True,
    help="Parameters of the kind. A list takes NAME=VALUE as often as there are values.",
)
@click.option("--into", metavar="DIR", default=".", show_default=True, help="Where outputs are put.")
@click.option("--force", is_flag=True, help="Replace files that are already there.")
@click.option("--dry-run", is_flag=True, help="Only ask what every node would answer.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing besides the job's own output.")
@KIND
@with_io
def run_(
    io: Io,
    *,
    kind: str,
    params: tuple[str, ...],
    task: dict[str, Any],
    into: str,
    force: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Run a task somewhere good, or with --node there alone. It is a job: its output streams here, its exit code becomes ours.

    While all nodes that could run it are busy it waits, as long as --queue says.

    \b
    dms task run checksum -p files=a.iso -p algorithm=sha512
    dms task run python-script -p script=main.py --node lab-3
    """
    spec = spec_of_kind(kind, params, task)
    with io.node() as node:
        if dry_run:
            from dms.cli.commands.ask import show_answers  # noqa: PLC0415

            raise SystemExit(show_answers(io, node, spec))
        raise SystemExit(run_to_end(io, node, spec, into=Path(into), force=force, quiet=quiet))
