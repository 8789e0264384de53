"""The events of a file: each as it was written, each stream whole, none moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dms.audit.faults import Fault, FaultCode
from dms.audit.lines import Entry
from dms.store.chain import Row, follows

SHARED: Final = "market"
"""The stream all requests share: of its events only those about the job are there."""


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
    row = Row(
        entry.seq, entry.stream, entry.version, entry.kind, entry.at, entry.cause_id, entry.form, entry.body, entry.hash
    )
    if not follows(entry.previous, row):
        yield Fault(FaultCode.CHANGED, entry.line, f"event {entry.seq} ({entry.kind}) is not what was written")
    if entry.stream not in (job, SHARED) and not entry.stream.startswith("a-"):
        yield Fault(FaultCode.FOREIGN, entry.line, f"event {entry.seq} is of {entry.stream!r}, not of the job")


def _in_stream(entry: Entry, versions: dict[str, int]) -> Iterator[Fault]:
    last = versions.get(entry.stream, 0)
    about = f"event {entry.version} of {entry.stream}"
    if entry.version == last:
        yield Fault(FaultCode.REPEATED, entry.line, f"{about} is there twice")
    elif entry.version < last:
        yield Fault(FaultCode.REORDERED, entry.line, f"{about} stands behind event {last}")
    elif entry.stream != SHARED and entry.version > last + 1:
        yield Fault(
            FaultCode.MISSING, entry.line, f"event {last + 1} of {entry.stream} is missing before {entry.version}"
        )
    versions[entry.stream] = max(last, entry.version)


def _behind(before: Entry, entry: Entry) -> Iterator[Fault]:
    if entry.seq <= before.seq:
        what = f"event {entry.seq} stands behind event {before.seq}"
        yield Fault(FaultCode.REORDERED, entry.line, what)
    elif entry.seq == before.seq + 1 and entry.previous != before.hash:
        what = f"event {entry.seq} was not written after the event before it"
        yield Fault(FaultCode.CHANGED, entry.line, what)
