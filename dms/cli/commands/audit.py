"""dms audit: proof of what was agreed, run and owed."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, existing, with_io
from dms.cli.exit_codes import FAILURE

if TYPE_CHECKING:
    from dms.audit.report import Report, Shown

audit: Final = group("audit", "Proof of what was agreed, run and owed: export, verify.")


@audit.command(context_settings=CONTEXT)
@click.argument("job_id", metavar="JOB|TAB")
@click.option("--out", metavar="FILE", help="Write it there. Default: standard output.")
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@with_io
def export(io: Io, *, job_id: str, out: str | None, force: bool) -> None:
    """Write one file with all that this node's log holds of a job, or of a tab for calls, and what the parties have signed.

    Either party can export: whoever asked for the job or called, and whoever ran it. Anybody can check the file with dms audit verify.

    \b
    dms audit export r-abc --out job.audit
    dms audit export t-abc --out calls.audit
    """
    from dms.cli.views.audit import exported  # noqa: PLC0415
    from dms.rpc.api.audit import AuditExportParams, AuditFile  # noqa: PLC0415

    with io.node() as node:
        found = node.call("audit.export", AuditExportParams(job_id), AuditFile)
    if out is None and not io.as_json:
        sys.stdout.write(found.text)
        return
    if out is not None:
        _write(existing(out), found.text, force=force)
    io.show(found, lambda file: exported(file, out or ""))


def _write(path: Path, text: str, *, force: bool) -> None:
    from dms_proto.errors import UserError  # noqa: PLC0415

    try:
        with path.open("wb" if force else "xb") as file:
            file.write(text.encode())
    except FileExistsError:
        raise UserError("bad_argument", f"{path} is there already", hint="--force replaces it") from None
    except OSError as error:
        raise UserError("bad_argument", f"{path} cannot be written: {error.strerror}") from error


@audit.command(context_settings=CONTEXT)
@click.argument("file", metavar="FILE")
@click.option(
    "--log",
    "logs",
    metavar="LOG",
    multiple=True,
    help="Also check that this file is the whole standard output or standard error of a run in it; may be given more than once.",
)
@with_io
def verify(io: Io, *, file: str, logs: tuple[str, ...]) -> None:
    """Check a file of dms audit export, and say what it proves. Needs no node. Exits with 1 when anything is wrong with it.

    \b
    dms audit verify job.audit
    dms audit verify job.audit --log out.txt
    """
    import msgspec  # noqa: PLC0415

    from dms.audit.verify import verify as check  # noqa: PLC0415
    from dms.cli.views.audit import report  # noqa: PLC0415

    found = check(_read(existing(file)))
    found = msgspec.structs.replace(found, shown=tuple(_compared(found, existing(log)) for log in logs))
    io.show(found, report)
    if not found.sound or not all(shown.of for shown in found.shown):
        raise SystemExit(FAILURE)


def _compared(found: Report, path: Path) -> Shown:
    from dms.audit.logs import compare  # noqa: PLC0415
    from dms_proto.errors import UserError  # noqa: PLC0415

    try:
        with path.open("rb") as log:
            return compare(found, path.name, log)
    except OSError as error:
        raise UserError("bad_argument", f"{path} cannot be read: {error.strerror}") from error


def _read(path: Path) -> bytes:
    from dms_proto.errors import UserError  # noqa: PLC0415

    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError("bad_argument", f"{path} cannot be read: {error.strerror}") from error
