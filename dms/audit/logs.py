"""Logs that are shown with a file: whether they are what a provider has signed."""

from __future__ import annotations

import hashlib
from typing import BinaryIO, Final

from dms.audit.report import Report, Shown
from dms_proto.ids import Digest

STREAMS: Final = ("stdout", "stderr")
PIECE: Final = 1024 * 1024
"""Bytes read at once."""


def compare(report: Report, name: str, log: BinaryIO) -> Shown:
    """Of which allocations of a checked file `log` is the standard output or the standard error, whole and unchanged.

    Args:
        report: what checking the file has shown.
        name: what to call the log.
        log: its bytes, from the first on.
    """
    read, size = hashlib.sha256(), 0
    while piece := log.read(PIECE):
        read.update(piece)
        size += len(piece)
    digest = Digest(f"sha256:{read.hexdigest()}" if size else "")
    return Shown(name, size, digest, tuple(_of(report, size, digest)))


def _of(report: Report, size: int, digest: Digest) -> list[str]:
    runs = [run for agreed in report.agreements for run in agreed.runs if run.reason is not None]
    return [
        f"{run.allocation_id} {stream}"
        for run in runs
        for stream, stated in zip(STREAMS, zip(run.logs.lengths, run.logs.digests, strict=True), strict=True)
        if stated == (size, digest)
    ]
