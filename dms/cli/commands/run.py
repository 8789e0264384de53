"""dms run: a command somewhere good, as if it ran here."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import BROKEN_PIPE, NOT_RUN, OK
from dms.cli.task_options import spec_of, task_options

if TYPE_CHECKING:
    from dms.jobs.spec import JobSpec
    from dms.rpc.api.jobs import JobView
    from dms.rpc.client import Client


class RunCommand(click.Command):
    """Exits with 125 whenever dms itself fails, so that every other code is the job's own."""

    failure_exit_code = NOT_RUN

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses; a mistake in our own options is not the job's exit code 2."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.__dict__["exit_code"] = NOT_RUN
            raise

    def invoke(self, ctx: click.Context) -> Any:  # what the command returns
        """Runs; the same for mistakes found later."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.__dict__["exit_code"] = NOT_RUN
            raise


@click.command(
    cls=RunCommand, context_settings={**CONTEXT, "ignore_unknown_options": False, "allow_interspersed_args": False}
)
@task_options
@click.option("--into", metavar="DIR", default=".", show_default=True, help="Where outputs are put.")
@click.option("--force", is_flag=True, help="Replace files that are already there.")
@click.option("--dry-run", is_flag=True, help="Only ask what every node would answer.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing besides the job's own output.")
@click.argument("argv", metavar="-- CMD [ARG]...", nargs=-1, type=click.UNPROCESSED)
@with_io
def run(
    io: Io, *, task: dict[str, Any], into: str, force: bool, dry_run: bool, quiet: bool, argv: tuple[str, ...]
) -> None:
    """Run a command somewhere good, as if it ran here.

    Its output streams here, its exit code becomes ours, ctrl-C cancels it. The command sees only the files given with --input, no network and no
    environment but --env. With --json every update is a line of JSON.

    \b
    dms run -- echo hello
    dms run --cpu 2 --memory 1GiB -i data.csv -o 'out/*' -- python3 -c 'print(open("data.csv").read())'
    """
    if not argv and not task["module"]:
        raise click.UsageError("What shall be run? Put the command after --, as in: dms run -- echo hello")
    spec = spec_of(task, argv)
    with io.node() as node:
        if dry_run:
            from dms.cli.commands.ask import show_answers  # noqa: PLC0415

            raise SystemExit(show_answers(io, node, spec))
        raise SystemExit(run_to_end(io, node, spec, into=Path(into), force=force, quiet=quiet))


def run_to_end(io: Io, node: Client, spec: JobSpec, *, into: Path, force: bool, quiet: bool) -> int:
    """Submits a job, shows what it does, brings its files; gives the exit code."""
    from dms.cli.streaming import Interrupts, Watcher, cancel_on_own_connection, exit_code_of, summary_line  # noqa: PLC0415
    from dms.rpc.api.jobs import JobParams, JobResults, SubmitParams, Submitted  # noqa: PLC0415

    interrupts = Interrupts(io.home.socket)
    with interrupts.installed():
        job = node.call("job.submit", SubmitParams(spec), Submitted, timeout=600).job_id
        interrupts.arm(job)
        try:
            view = Watcher(io.home.socket, job, quiet=quiet, as_json=io.as_json).watch(node, spec.count)
        except BrokenPipeError:
            # Whoever read our output has seen enough, as in `dms run -- yes | head`: a command run here would end by this signal.
            cancel_on_own_connection(io.home.socket, job)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
    if spec.task.outputs and interrupts.exit_code is None:
        from dms.cli.fetching import fetch  # noqa: PLC0415

        with io.node() as again:  # the first connection may have been lost on the way
            fetch(again.call("job.results", JobParams(job), JobResults), into, force=force)
    code = exit_code_of(view)
    if not quiet and not io.as_json and sys.stderr.isatty() and code == OK:
        click.echo(f"dms: {summary_line(view)}", err=True)
    if interrupts.exit_code is None:
        _say_why(io, view, quiet=quiet)
    return code if interrupts.exit_code is None else interrupts.exit_code


def _say_why(io: Io, view: JobView, *, quiet: bool) -> None:
    """A job that never ran says why, and one that was ended for what it did says that: its exit code alone would be taken for its own."""
    from dms.cli.blocks import clean  # noqa: PLC0415
    from dms.cli.streaming import has_run  # noqa: PLC0415
    from dms.cli.views.words import reason, short  # noqa: PLC0415
    from dms_proto.work import EndReason  # noqa: PLC0415

    summary = view.summary
    ran = has_run(view)
    if io.as_json or summary.reason in (EndReason.COMPLETED, EndReason.EXIT_NONZERO) or (ran and quiet):
        return
    what, where = ("the job was ended", "show") if ran else ("the job did not run", "explain")
    detail = f": {summary.detail}" if summary.detail else ""
    click.echo(
        clean(f"dms: {what}: {reason(summary.reason)}{detail}; dms job {where} {short(summary.job_id)}"), err=True
    )
