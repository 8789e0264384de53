"""dms forward: a port here that leads into a job."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import FAILURE, INTERRUPTED, OK
from dms.cli.progress import Progress

if TYPE_CHECKING:
    from dms.cli.forwarding import Failed, Forwarded, Over, Way
    from dms.rpc.api.jobs import JobView

MOST_PORT = 65_535


@click.command(context_settings=CONTEXT)
@click.option(
    "--slot", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Which allocation, from 0."
)
@click.argument("job_id", metavar="JOB")
@click.argument("ports", metavar="[LOCAL:]PORT...", nargs=-1, required=True)
@with_io
def forward(io: Io, *, slot: int, job_id: str, ports: tuple[str, ...]) -> None:
    """Lead a port of this machine to one that a job declares.

    Waits until the job runs, listens on 127.0.0.1, and opens a tunnel for each connection. Ends with the job, or with ctrl-C; the job goes on. LOCAL
    0 is any free port. With --json every line is an object.

    \b
    dms forward r-4qz7 8080
    dms forward r-4qz7 18080:8080 --slot 2
    """
    from dms.cli.views.words import reason  # noqa: PLC0415
    from dms.rpc.api.jobs import JobParams, JobView  # noqa: PLC0415
    from dms_proto.ids import short  # noqa: PLC0415
    from dms_proto.work import EndReason  # noqa: PLC0415

    ways = [_way(port) for port in ports]
    with io.node() as node:
        job = node.call("job.show", JobParams(job_id), JobView)
        _check(job, slot, ways)
        names = io.names(node)
    teller = _Teller(io, dict(names))
    ended = _forwarded(io, job, slot, ways, teller)
    summary = ended.summary
    assert summary.reason is not None, "a job that is over has a reason"
    teller.over(summary.reason.value, summary.detail)
    detail = f": {summary.detail}" if summary.detail else ""
    io.remark(f"{short(summary.job_id)} is over, {reason(summary.reason)}{detail}; nothing is forwarded any more")
    raise SystemExit(OK if summary.reason is EndReason.COMPLETED else FAILURE)


def _forwarded(io: Io, job: JobView, slot: int, ways: Sequence[Way], teller: _Teller) -> JobView:
    """Forwards until the job is over, or the person has had enough."""
    import asyncio  # noqa: PLC0415
    import signal  # noqa: PLC0415

    from dms.cli.forwarding import Forwarder  # noqa: PLC0415
    from dms_proto.ids import short  # noqa: PLC0415

    id_ = job.summary.job_id

    async def run() -> JobView:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with Progress(f"waiting for {short(id_)} to run", enabled=not io.as_json) as progress:
            return await Forwarder(io.home.socket, id_, slot, ways, teller.tell).run(progress)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise SystemExit(INTERRUPTED) from None


class _Teller:
    """Says what happens: for a person, or as lines of JSON."""

    def __init__(self, io: Io, names: dict[str, str]) -> None:
        self._io = io
        self._names = names

    def tell(self, what: Forwarded | Failed | Over) -> None:
        """See `forwarding.Tell`."""
        from dms.cli.forwarding import Failed, Forwarded  # noqa: PLC0415
        from dms_proto.ids import short  # noqa: PLC0415

        if self._io.as_json:
            self._line(what)
            return
        match what:
            case Forwarded(address, port, provider):
                where = self._names.get(provider) or short(provider)
                self._io.line(f"{address} leads to port {port} of the job, on {where}")
                sys.stdout.flush()
            case Failed(port, _, message):
                self._io.remark(f"a connection to port {port}: {message}")

    def over(self, why: str, detail: str) -> None:
        """The job has ended."""
        from dms.cli.forwarding import Over  # noqa: PLC0415

        if self._io.as_json:
            self._line(Over(why, detail))

    @staticmethod
    def _line(what: object) -> None:
        import msgspec  # noqa: PLC0415

        click.echo(msgspec.json.encode(what).decode())
        sys.stdout.flush()


def _way(text: str) -> Way:
    from dms.cli.forwarding import Way  # noqa: PLC0415

    local, _, port = text.rpartition(":")
    numbers = [int(part) if part.isascii() and part.isdigit() else -1 for part in (local or port, port)]
    if not (0 <= numbers[0] <= MOST_PORT and 1 <= numbers[1] <= MOST_PORT) or text.startswith(":"):
        raise click.UsageError(f"{text!r} is not [LOCAL:]PORT, as in 8080 or 18080:8080; ports are 1 to {MOST_PORT}")
    return Way(numbers[0], numbers[1])


def _check(job: JobView, slot: int, ways: Sequence[Way]) -> None:
    """Refuses what could only fail later.

    Raises:
        UserError: `not_running`, `not_found`, `bad_argument`.
    """
    from dms.rpc.ids import check_slot  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.ids import short  # noqa: PLC0415
    from dms_proto.tunnels import check_declared  # noqa: PLC0415

    name = short(job.summary.job_id)
    for way in ways:
        check_declared(way.port, job.spec.task.ports)
    check_slot(slot, max(job.spec.count, len(job.slots)), name)
    if job.summary.reason is not None:
        raise UserError("not_running", f"job {name} is over", hint=f"dms job show {name}")
