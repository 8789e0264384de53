"""dms run: a command somewhere good, as if it ran here."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import BROKEN_PIPE, NOT_RUN, NOT_SEEN_THROUGH, OK
from dms.cli.task_options import spec_of, task_options
from dms_proto.errors import DmsError

if TYPE_CHECKING:
    from dms.cli.forwarding import Listeners
    from dms.cli.interrupts import Interrupts
    from dms.jobs.spec import JobSpec
    from dms.rpc.api.jobs import JobView, Submitted
    from dms.rpc.client import Client

STDIN: Final = 0


class RunCommand(click.Command):
    """Exits with 125 whenever dms itself fails before the job was handed over, so that every other code but 124 is the job's own."""

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
    dms run --port 8080 -- python3 -m http.server 8080 --bind 127.0.0.1
    """
    if not argv and not task["module"] and not task["image"]:
        raise click.UsageError("What shall be run? Put the command after --, as in: dms run -- echo hello")
    spec = spec_of(task, argv)
    with io.node() as node:
        if dry_run:
            from dms.cli.commands.ask import show_answers  # noqa: PLC0415

            raise SystemExit(show_answers(io, node, spec))
        if not quiet and _something_is_piped():
            io.remark("standard input is not given to the job; --input sends it a file")
        with _listening(task["ports"], spec) as listeners:
            code = run_to_end(io, node, spec, into=Path(into), force=force, quiet=quiet, listeners=listeners)
        raise SystemExit(code)


@contextmanager
def _listening(ports: Sequence[str], spec: JobSpec) -> Iterator[Listeners]:
    """Listens here before the job is handed over: a port that is taken costs nothing then."""
    if not ports:
        yield {}
        return
    from dms.cli.forwarding import listening  # noqa: PLC0415
    from dms.cli.port_pairs import pairs_of  # noqa: PLC0415

    with listening(pairs_of(ports, spec.task)) as listeners:
        yield listeners


def _something_is_piped() -> bool:
    """Whether bytes wait on standard input, in a pipe or a file: a command run here would read them."""
    import array  # noqa: PLC0415
    import fcntl  # noqa: PLC0415
    import stat  # noqa: PLC0415
    import termios  # noqa: PLC0415

    waiting = array.array("i", [0])
    try:
        mode = os.fstat(STDIN).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISREG(mode):
            fcntl.ioctl(STDIN, termios.FIONREAD, waiting)
    except OSError:  # it is closed
        return False
    return waiting[0] > 0


def run_to_end(
    io: Io,
    node: Client,
    spec: JobSpec,
    *,
    into: Path,
    force: bool,
    quiet: bool,
    listeners: Listeners = MappingProxyType({}),
) -> int:
    """Submits a job, shows what it does, leads the listeners to its first slot, brings its files; gives the exit code."""
    from dms.cli.interrupts import Interrupts, cancel_on_own_connection  # noqa: PLC0415
    from dms.cli.streaming import Watcher, exit_code_of, summary_line  # noqa: PLC0415

    if spec.task.outputs:
        from dms.cli.fetching import make_ready  # noqa: PLC0415

        make_ready(into, spec.task.outputs, spec.count, force=force)
    interrupts = Interrupts(io.home.socket)
    with interrupts.installed():
        job = _submit(io, node, spec, quiet=quiet)
        interrupts.arm(job)
        watcher = Watcher(io.home.socket, job, quiet=quiet, as_json=io.as_json, came_back=interrupts.ask_again)
        try:
            with (
                _seeing_through(io, job, f"dms job wait {job} tells how it ended", interrupts),
                _forwarding(io, node, job, listeners, quiet=quiet),
            ):
                view = watcher.watch(node, spec.count)
        except BrokenPipeError:
            # Whoever read our output has seen enough, as in `dms run -- yes | head`: a command run here would end by this signal.
            cancel_on_own_connection(io.home.socket, job)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
    if interrupts.exit_code is not None:
        return interrupts.exit_code
    if spec.task.outputs:
        with _seeing_through(io, job, f"dms job get {job} --into DIR brings its files"):
            _fetch(io, job, spec.task.outputs, into, force=force, quiet=quiet)
    code = exit_code_of(view)
    if not quiet and not io.as_json and sys.stderr.isatty() and code == OK:
        click.echo(f"dms: {summary_line(view)}", err=True)
    _say_why(io, view, quiet=quiet)
    return code


def _submit(io: Io, node: Client, spec: JobSpec, *, quiet: bool) -> str:
    from dms.rpc.api.jobs import SubmitParams, Submitted  # noqa: PLC0415
    from dms.rpc.client import ConnectionLost  # noqa: PLC0415

    try:
        submitted = node.call("job.submit", SubmitParams(spec), Submitted, timeout=600)
    except ConnectionLost as error:
        error.hint = "it may have taken the job before: dms job list shows it"
        io.fail(error, exit_code=NOT_SEEN_THROUGH)
    if submitted.answered_at:
        _say_answered(io, submitted, quiet=quiet)
    return submitted.job_id


def _say_answered(io: Io, submitted: Submitted, *, quiet: bool) -> None:
    """That nothing is run, since an earlier job is the answer."""
    from dms.cli.streaming import JobAnswered, print_line  # noqa: PLC0415
    from dms.cli.views.words import from_the_cache  # noqa: PLC0415

    if io.as_json:
        print_line(JobAnswered(submitted.job_id, submitted.answered_at))
    elif not quiet:
        io.remark(from_the_cache(submitted.job_id, submitted.answered_at))


@contextmanager
def _forwarding(io: Io, node: Client, job: str, listeners: Listeners, *, quiet: bool) -> Iterator[None]:
    if not listeners:
        yield
        return
    from dms.cli.forwarding import forwarding_beside  # noqa: PLC0415
    from dms.cli.views.forwarding import Teller  # noqa: PLC0415

    tell = (lambda _what: None) if quiet else Teller(io, io.names(node), beside_a_job=True).tell
    with forwarding_beside(io.home.socket, job, listeners, tell):
        yield


@contextmanager
def _seeing_through(io: Io, job: str, then: str, interrupts: Interrupts | None = None) -> Iterator[None]:
    """What goes wrong from here on concerns a job that was handed over: it is named, with how to go on.

    Raises:
        Failure: with an exit code that does not invite to run it again.
    """
    from dms_proto.ids import short  # noqa: PLC0415

    try:
        yield
    except DmsError as error:
        told = error.again()
        told.message = f"job {short(job)} was handed over, but {error.message}"
        told.hint = "; ".join(part for part in (error.hint, then) if part)
        told.retryable = False
        stopped = interrupts.exit_code if interrupts is not None else None
        io.fail(told, exit_code=NOT_SEEN_THROUGH if stopped is None else stopped)


def _fetch(io: Io, job: str, outputs: Sequence[str], into: Path, *, force: bool, quiet: bool) -> None:
    from dms.cli.fetching import fetch, unmatched  # noqa: PLC0415
    from dms.rpc.api.jobs import JobParams, JobResults  # noqa: PLC0415

    with io.node() as node:  # the first connection may have been lost on the way
        results = node.call("job.results", JobParams(job), JobResults)
    fetch(results, into, force=force)
    if not quiet:
        io.remark(*unmatched(results, outputs))


def _say_why(io: Io, view: JobView, *, quiet: bool) -> None:
    """A job that never ran says why, and one that was ended for what it did says that: its exit code alone would be taken for its own."""
    from dms.cli.streaming import failures, has_run  # noqa: PLC0415
    from dms.cli.views.words import reason, short  # noqa: PLC0415
    from dms_proto.work import EndReason  # noqa: PLC0415

    summary = view.summary
    ran = has_run(view)
    if io.as_json or (ran and quiet):
        return
    name = short(summary.job_id)
    if len(view.slots) > 1 and ran:
        io.remark(*failures(view, f"dms job show {name}"))
    if summary.reason in (EndReason.COMPLETED, EndReason.EXIT_NONZERO):
        return
    what, where = ("the job was ended", "show") if ran else ("the job did not run", "explain")
    detail = f": {summary.detail}" if summary.detail else ""
    io.remark(f"{what}: {reason(summary.reason)}{detail}; dms job {where} {name}")
