"""dms job: submit, list, show, explain, decision, logs, exec, get, cancel, wait, schema."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, with_io
from dms.cli.exec_options import COMMAND, check_terminal, exec_options
from dms.cli.exit_codes import FAILURE
from dms.cli.log_options import FOLLOW, SINCE
from dms.cli.progress import Progress
from dms.cli.task_options import spec_of_file

job: Final = group("job", "Submit jobs, see why they run where they do, fetch results.")
JOB = click.argument("job_id", metavar="JOB")
LIMIT = click.option(
    "--limit", metavar="N", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many."
)
WAIT_STEP_MS: Final = 20_000


@job.command(context_settings=CONTEXT)
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Only ask what every node would answer.")
@click.option("-f", "--follow", is_flag=True, help="Stream its output and exit with its code, as dms run does.")
@click.option("--into", metavar="DIR", default=".", show_default=True, help="With --follow: where outputs are put.")
@click.option("--force", is_flag=True, help="With --follow: replace files that are already there.")
@with_io
def submit(io: Io, *, file: str, dry_run: bool, follow: bool, into: str, force: bool) -> None:
    """Submit the job in a YAML or JSON file, and print its id.

    \b
    dms job submit examples/jobs/hello.yaml --follow
    """
    from dms.cli.views.words import from_the_cache  # noqa: PLC0415
    from dms.rpc.api.jobs import SubmitParams, Submitted  # noqa: PLC0415

    spec = spec_of_file(Path(file))
    with io.node() as node:
        if dry_run:
            from dms.cli.commands.ask import show_answers  # noqa: PLC0415

            raise SystemExit(show_answers(io, node, spec))
        if follow:
            from dms.cli.commands.run import run_to_end  # noqa: PLC0415

            raise SystemExit(run_to_end(io, node, spec, into=Path(into), force=force, quiet=False))
        with Progress("copying the inputs"):
            submitted = node.call("job.submit", SubmitParams(spec), Submitted, timeout=600)
    if io.as_json:
        io.show_json(submitted)
    else:
        if submitted.answered_at:
            io.remark(from_the_cache(submitted.job_id, submitted.answered_at))
        click.echo(submitted.job_id)


@job.command("list", context_settings=CONTEXT)
@click.option("--active", is_flag=True, help="Only those that have not ended.")
@LIMIT
@with_io
def list_(io: Io, *, active: bool, limit: int) -> None:
    """List your jobs, newest first.

    \b
    dms job list --active
    """
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.rpc.api.jobs import JobList, JobListParams  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("job.list", JobListParams(active, limit), JobList), jobs.job_list)


@job.command(context_settings=CONTEXT)
@JOB
@with_io
def show(io: Io, *, job_id: str) -> None:
    """Show a job: its slots, each attempt, how it ended and whose doing that was.

    \b
    dms job show r-abc
    """
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.cli.views.words import now_ms  # noqa: PLC0415
    from dms.rpc.api.jobs import JobParams, JobView  # noqa: PLC0415

    with io.node() as node:
        view, names = node.call("job.show", JobParams(job_id), JobView), io.names(node)
    io.show(view, lambda value: jobs.job(value, names, now_ms()))


@job.command(context_settings=CONTEXT)
@JOB
@click.option("--all", "every_node", is_flag=True, help="List every node, however many.")
@with_io
def explain(io: Io, *, job_id: str, every_node: bool) -> None:
    """Say why a job runs where it does, or does not run: one verdict per known node, and what would help.

    \b
    dms job explain r-abc
    """
    from dms.cli.views.explain import explanation  # noqa: PLC0415
    from dms.cli.views.words import given_again, most, needs, short  # noqa: PLC0415
    from dms.rpc.api.jobs import JobParams, JobView  # noqa: PLC0415
    from dms_proto.market.explain import Explanation  # noqa: PLC0415

    with io.node() as node:
        view = node.call("job.show", JobParams(job_id), JobView)
        found, names = node.call("job.explain", JobParams(view.summary.job_id), Explanation), io.names(node)
    again = f"  answered {given_again(view.given_again)}" if view.given_again.times else ""
    title = f"job {short(view.summary.job_id)}  {needs(view.spec.needs)}  {most(view.spec.max_price, view.spec.budget)}{again}"
    io.show(found, lambda value: explanation(title, value, names, every_node=every_node))


@job.command(context_settings=CONTEXT)
@JOB
@click.option("--number", metavar="N", type=click.IntRange(1), help="Which decision, from 1. Default: the last.")
@with_io
def decision(io: Io, *, job_id: str, number: int | None) -> None:
    """Show how the winner was chosen, and compute it again from the stored facts.

    \b
    dms job decision r-abc
    """
    from dms.cli.views import explain as views  # noqa: PLC0415
    from dms.rpc.api.jobs import DecisionParams, DecisionView  # noqa: PLC0415

    with io.node() as node:
        view, names = node.call("job.decision", DecisionParams(job_id, number or 0), DecisionView), io.names(node)
    io.show(view, lambda value: views.decision(value, names))
    if not view.replayed:
        raise SystemExit(FAILURE)


@job.command(context_settings=CONTEXT)
@JOB
@FOLLOW
@SINCE
@click.option(
    "--slot",
    metavar="N",
    type=click.IntRange(0),
    help="Only this allocation, from 0. Default: all, each line with its slot before it where there are several.",
)
@click.option("--attempt", metavar="N", type=click.IntRange(1), help="Which try of it, from 1. Default: the last.")
@click.option("--stderr", is_flag=True, help="Standard error instead of standard output.")
@with_io
def logs(
    io: Io, *, job_id: str, follow: bool, since: str | None, slot: int | None, attempt: int | None, stderr: bool
) -> None:
    """Print what a job wrote: its bytes as they are, or, of several allocations, its lines.

    What did not arrive before a node was lost is told on standard error.

    \b
    dms job logs -f r-abc
    dms job logs -f --since now r-abc
    """
    from dms.cli.log_printing import JobLog, print_logs, since_ms  # noqa: PLC0415
    from dms.rpc.api.jobs import JobLogParams, JobParams, JobView  # noqa: PLC0415

    stream = "stderr" if stderr else "stdout"
    params = JobLogParams(job_id, slot or 0, attempt or 0, stream, since=since_ms(since))
    with io.node() as node:
        if io.as_json:
            io.show_json(node.call("job.logs", params))
            return
        count = node.call("job.show", JobParams(job_id), JobView).summary.count if slot is None else 1
        print_logs(io, [JobLog(node, params, slot or number, count) for number in range(count)], follow=follow)


@job.command("exec", context_settings=CONTEXT)
@exec_options
@click.option(
    "--slot", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Which allocation, from 0."
)
@JOB
@COMMAND
@with_io
def exec_(io: Io, *, job_id: str, command: tuple[str, ...], slot: int, interactive: bool, tty: bool) -> None:
    """Run a command beside a job that lets you (exec: requester), with all that the job has; exit with its code.

    \b
    dms job exec -it r-abc -- sh
    """
    from dms.cli.executing import execute, order_of  # noqa: PLC0415
    from dms.rpc.api.execs import JobExecParams  # noqa: PLC0415

    check_terminal(interactive=interactive, tty=tty)
    params = JobExecParams(job_id, order_of(command, has_terminal=tty), slot)
    raise SystemExit(execute(io.home.socket, params, takes_input=interactive))


@job.command(context_settings=CONTEXT)
@JOB
@click.option("--into", metavar="DIR", default=".", show_default=True, help="Where to put them.")
@click.option("--force", is_flag=True, help="Replace files that are already there.")
@click.option("--dry-run", is_flag=True, help="Only list them.")
@with_io
def get(io: Io, *, job_id: str, into: str, force: bool, dry_run: bool) -> None:
    """Fetch the files a job left.

    \b
    dms job get r-abc --into results
    """
    from dms.cli.fetching import fetch, unmatched  # noqa: PLC0415
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.cli.views.words import short  # noqa: PLC0415
    from dms.rpc.api.jobs import JobParams, JobResults, JobView  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.units import format_count  # noqa: PLC0415

    with io.node() as node:
        view = node.call("job.show", JobParams(job_id), JobView)
        results = node.call("job.results", JobParams(view.summary.job_id), JobResults)
    if dry_run or io.as_json:
        io.show(results, jobs.results)
    if dry_run:
        return
    copied = fetch(results, Path(into), force=force)
    for path in copied:
        io.line(str(path))
    if view.summary.reason is None:
        name = short(view.summary.job_id)
        raise UserError(
            "not_found",
            f"job {name} is not over, and has left {format_count(len(copied), 'file')} so far",
            hint=f"dms job wait {name}, then dms job get {name}",
        )
    if not copied:
        io.line("no files")
    io.remark(*unmatched(results, view.spec.task.outputs))


@job.command(context_settings=CONTEXT)
@JOB
@with_io
def cancel(io: Io, *, job_id: str) -> None:
    """Stop a job.

    \b
    dms job cancel r-abc
    """
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.rpc.api.allocations import CancelResult  # noqa: PLC0415
    from dms.rpc.api.jobs import JobParams  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("job.cancel", JobParams(job_id), CancelResult), jobs.cancelled)


@job.command(context_settings=CONTEXT)
@JOB
@click.option("--timeout", metavar="SPAN", default="0", help="Give up after so long, such as 5m. Default: never.")
@with_io
def wait(io: Io, *, job_id: str, timeout: str) -> None:
    """Wait until a job is over; exit with its code, or with 1 when the time is up.

    \b
    dms job wait r-abc --timeout 5m
    """
    from dms.cli.streaming import exit_code_of  # noqa: PLC0415
    from dms.cli.views import jobs  # noqa: PLC0415
    from dms.cli.views.words import now_ms  # noqa: PLC0415
    from dms.rpc.api.jobs import JobView, WaitParams  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.units import parse_millis  # noqa: PLC0415

    try:
        limit = parse_millis(timeout)
    except ValueError as error:
        raise UserError("bad_argument", f"--timeout: {error}") from error
    deadline = time.monotonic() + limit / 1000
    with io.node() as node, Progress(f"waiting for {job_id}"):
        while True:
            left = int((deadline - time.monotonic()) * 1000) if limit else WAIT_STEP_MS
            view = node.call("job.wait", WaitParams(job_id, max(0, min(left, WAIT_STEP_MS))), JobView)
            if view.summary.reason is not None or (limit and left <= 0):
                break
        names = io.names(node)
    io.show(view, lambda value: jobs.job(value, names, now_ms()))
    raise SystemExit(FAILURE if view.summary.reason is None else exit_code_of(view))


@job.command(context_settings=CONTEXT)
@with_io
def schema(io: Io) -> None:
    """Print the JSON Schema of job files, for editors and checkers.

    \b
    dms job schema > job.schema.json
    """
    from dms.jobs.schema import job_schema  # noqa: PLC0415

    io.show_json(job_schema())
