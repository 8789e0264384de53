"""dms doctor: is this machine fit to be a node, and if not, what to do."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dms.cli.app import CONTEXT
from dms.cli.context import Io, with_io
from dms.cli.exit_codes import FAILURE
from dms.cli.progress import Progress

if TYPE_CHECKING:
    from dms.rpc.api.events import DoctorReport


@click.command(context_settings=CONTEXT)
@click.option(
    "--only", metavar="CHECK", multiple=True, help="Only this check, or this executor; may be given more than once."
)
@with_io
def doctor(io: Io, *, only: tuple[str, ...]) -> None:
    """Check everything a node needs, and say what to fix.

    Works without a running node too, and then checks what can be checked without one. Exits with 1 when something FAILs.

    \b
    dms doctor
    dms doctor --only sandbox --json
    """
    from dms.cli.views import node as views  # noqa: PLC0415
    from dms.rpc.api.events import Finding  # noqa: PLC0415

    with Progress("looking at this machine"):
        report = _report(io, only)
    io.show(report, views.doctor)
    if any(check.finding is Finding.FAIL for check in report.checks):
        raise SystemExit(FAILURE)


def _report(io: Io, only: tuple[str, ...]) -> DoctorReport:
    from dms.rpc.api.events import EXECUTORS, DoctorParams, DoctorReport  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    try:
        with io.node(timeout=60) as node:
            return node.call("doctor.run", DoctorParams(only), DoctorReport)
    except UserError as error:
        if error.code not in ("node_not_running", "not_onboarded"):
            raise
    import msgspec  # noqa: PLC0415

    from dms.cli.node_process import answer, command  # noqa: PLC0415

    found = msgspec.json.decode(answer(command("doctor", io.home, "--json")), type=DoctorReport)
    names = [*(check.name for check in found.checks), "executors"]
    for name in only:
        if name not in names:
            what = f"there is no check {name!r} without a running node"
            raise UserError("bad_argument", what, hint=f"checks: {', '.join(names)}")
    wanted = {*only, *(EXECUTORS if "executors" in only else ())}
    return DoctorReport(tuple(check for check in found.checks if not only or check.name in wanted))
