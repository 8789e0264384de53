"""dms forward: a port here that leads into a job."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import FAILURE, INTERRUPTED, OK
from dms.cli.progress import Progress

if TYPE_CHECKING:
    from dms.cli.forwarding import Tell
    from dms.cli.port_pairs import PortPair
    from dms.rpc.api.jobs import JobView


@click.command(context_settings=CONTEXT)
@click.option(
    "--slot", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Which allocation, from 0."
)
@click.argument("job_id", metavar="JOB")
@click.argument("ports", metavar="[LOCAL:]PORT...", nargs=-1, required=True)
@with_io
def forward(io: Io, *, slot: int, job_id: str, ports: tuple[str, ...]) -> None:
    """Lead a port of this machine to one that a job declares.

    Waits until the job runs, listens on 127.0.0.1, and opens a tunnel for each connection. Ends with the job, or with ctrl-C; the job goes on. PORT
    is a number, or the name that the job has for it; LOCAL 0 is any free port, which is meant with a name too. With --json every line is an object.

    \b
    dms forward r-4qz7 8080
    dms forward r-4qz7 18080:8080 --slot 2
    dms forward r-4qz7 http
    """
    from dms.cli.port_pairs import pairs_of, read_wish  # noqa: PLC0415
    from dms.cli.views.forwarding import Teller  # noqa: PLC0415
    from dms.rpc.api.jobs import JobParams, JobView  # noqa: PLC0415
    from dms_proto.work import EndReason  # noqa: PLC0415

    for port in ports:
        read_wish(port)  # what is written wrong is told without a node
    with io.node() as node:
        job = node.call("job.show", JobParams(job_id), JobView)
        pairs = pairs_of(ports, job.spec.task)
        _check(job, slot)
        names = io.names(node)
    teller = Teller(io, names)
    summary = _forwarded(io, job, slot, pairs, teller.tell).summary
    teller.over(summary)
    raise SystemExit(OK if summary.reason is EndReason.COMPLETED else FAILURE)


def _forwarded(io: Io, job: JobView, slot: int, pairs: Sequence[PortPair], tell: Tell) -> JobView:
    """Forwards until the job is over, or the person has had enough."""
    import asyncio  # noqa: PLC0415
    import signal  # noqa: PLC0415

    from dms.cli.forwarding import Forwarder, listening  # noqa: PLC0415
    from dms_proto.ids import short  # noqa: PLC0415

    id_ = job.summary.job_id

    async def run() -> JobView:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        waiting = Progress(f"waiting for {short(id_)} to run", enabled=not io.as_json)
        with listening(pairs) as listeners, waiting as progress:
            return await Forwarder(io.home.socket, id_, slot, listeners, tell).run(progress)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise SystemExit(INTERRUPTED) from None


def _check(job: JobView, slot: int) -> None:
    """Refuses what could only fail later.

    Raises:
        UserError: `not_running`, `not_found`.
    """
    from dms.rpc.ids import check_slot  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415
    from dms_proto.ids import short  # noqa: PLC0415

    name = short(job.summary.job_id)
    check_slot(slot, max(job.spec.count, len(job.slots)), name)
    if job.summary.reason is not None:
        raise UserError("not_running", f"job {name} is over", hint=f"dms job show {name}")
