"""The events of a file: each as it was written, each stream whole, none moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dms.audit.faults import Fault, FaultCode
from dms.audit.lines import Entry
from dms.store.chain import follows
from dms_proto.tabs.kept import KEPT_STREAM
from dms_proto.tabs.used import USED_STREAM

SHARED: Final = frozenset({"market", KEPT_STREAM, USED_STREAM})
"""The streams that all requests share, or all tabs: of their events only those about the job, or the tab, are there."""


def check(job: str, entries: Sequence[Entry]) -> Iterator[Fault]:
    """Everything wrong with the events themselves."""
    versions: dict[str, int] = {}
    before: Entry | None = None
    for entry in entries:
        yield from _itself(job, entry)
        yield from _in_stream(entry, versions)
        if before is not None:
            yield from _behind(before, entry)
        before = entry


def _itself(job: str, entry: Entry) -> Iterator[Fault]:
    row = entry.row
    if not follows(entry.previous, row):
        yield Fault(FaultCode.CHANGED, entry.line, f"event {row.seq} ({row.kind}) is not what was written")
    if row.stream not in (job, *SHARED) and not row.stream.startswith("a-"):
        yield Fault(FaultCode.FOREIGN, entry.line, f"event {row.seq} is of {row.stream!r}, not of the job")


def _in_stream(entry: Entry, versions: dict[str, int]) -> Iterator[Fault]:
    stream, version = entry.row.stream, entry.row.version
    last = versions.get(stream, 0)
    about = f"event {version} of {stream}"
    if version == last:
        yield Fault(FaultCode.REPEATED, entry.line, f"{about} is there twice")
    elif version < last:
        yield Fault(FaultCode.REORDERED, entry.line, f"{about} stands behind event {last}")
    elif stream not in SHARED and version > last + 1:
        yield Fault(FaultCode.MISSING, entry.line, f"event {last + 1} of {stream} is missing before {version}")
    versions[stream] = max(last, version)


def _behind(before: Entry, entry: Entry) -> Iterator[Fault]:
    if entry.row.seq <= before.row.seq:
        what = f"event {entry.row.seq} stands behind event {before.row.seq}"
        yield Fault(FaultCode.REORDERED, entry.line, what)
    elif entry.row.seq == before.row.seq + 1 and entry.previous != before.row.hash:
        what = f"event {entry.row.seq} was not written after the event before it"
        yield Fault(FaultCode.CHANGED, entry.line, what)
