"""The signed frames of a file, opened: who said what to whom, and when it was heard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from dms.audit.faults import Fault, FaultCode
from dms.audit.lines import Entry
from dms.store.chain import Row
from dms_proto.ids import MessageId, PeerId
from dms_proto.machine import Event
from dms_proto.market.proofs import FrameKept
from dms_proto.tabs.kept import KEPT_STREAM, SumSigned, TabAgreed
from dms_proto.tabs.used import USED_STREAM, SumAnswered, TabTaken
from dms_proto.wire import (
    CLOCK_SKEW_MS,
    MAX_DIRECT_LIFETIME_MS,
    MAX_GOSSIP_LIFETIME_MS,
    Envelope,
    RefusalCode,
    RefusedFrame,
    read_frame,
)

E = TypeVar("E", bound=Event)
HOLDERS: Final[dict[str, Any]] = {
    kind.__name__: kind for kind in (FrameKept, TabTaken, TabAgreed, SumAnswered, SumSigned)
}
"""Events that hold a signed frame."""
STREAMS: Final = frozenset({KEPT_STREAM, USED_STREAM})
"""Where they stand, but for a job's own stream."""


class Proof(NamedTuple):
    """A frame that its sender has signed. `line`: where it stands in the file."""

    line: int
    sender: PeerId
    to: PeerId
    sent_ms: int
    message: Any


def event_of(entry: Entry, kind: type[E]) -> E | None:
    """The event in an entry, if it is of this kind and can be read."""
    if entry.row.kind != kind.__name__:
        return None
    try:
        return msgspec.msgpack.decode(entry.row.body, type=kind)
    except (msgspec.DecodeError, ValueError):
        return None


class Framed(NamedTuple):
    """A signed frame that an event holds, and when it was heard, Unix ms by the exporter's clock; 0: it is its own."""

    frame: bytes
    heard_at: int


def frame_in(row: Row) -> Framed | None:
    """The signed frame in an event; None: events of its kind hold none."""
    kind = HOLDERS.get(row.kind)
    if kind is None:
        return None
    try:
        event = msgspec.msgpack.decode(row.body, type=kind)
    except (msgspec.DecodeError, ValueError):
        return Framed(b"", 0)
    return Framed(event.frame, event.heard_at if isinstance(event, FrameKept) else row.at)


def opened(job: str, entries: Sequence[Entry]) -> tuple[tuple[Proof, ...], tuple[Fault, ...]]:
    """The frames that prove something about the job, and everything wrong with the others."""
    proofs: list[Proof] = []
    faults: list[Fault] = []
    seen: set[tuple[PeerId, MessageId]] = set()
    for entry in entries:
        framed = frame_in(entry.row)
        if framed is None:
            continue
        found = read_frame(framed.frame) if framed.frame else None
        if found is None:
            faults.append(Fault(FaultCode.MALFORMED, entry.line, f"event {entry.row.seq} holds no frame"))
            continue
        if isinstance(found, RefusedFrame):
            forged = found.code is RefusalCode.BAD_SIGNATURE
            code = FaultCode.BAD_SIGNATURE if forged else FaultCode.MALFORMED
            faults.append(Fault(code, entry.line, f"the frame in event {entry.row.seq}: {found.detail}"))
            continue
        if (found.sender, found.id) in seen:
            faults.append(
                Fault(FaultCode.REPLAYED, entry.line, f"the {found.kind} in event {entry.row.seq} was shown before")
            )
            continue
        seen.add((found.sender, found.id))
        wrong = tuple(_circumstances(job, entry, found, framed.heard_at))
        faults += wrong
        if not wrong:
            proofs.append(Proof(entry.line, found.sender, found.to, found.sent_ms, found.message))
    return tuple(proofs), tuple(faults)


def _circumstances(job: str, entry: Entry, found: Envelope, heard_at: int) -> Iterator[Fault]:
    about = getattr(found.message, "request_id", "") or getattr(found.message, "tab_id", "")
    if about != job or entry.row.stream not in (job, *STREAMS):
        yield Fault(
            FaultCode.FOREIGN, entry.line, f"the {found.kind} in event {entry.row.seq} is about {about or 'no job'}"
        )
    longest = MAX_GOSSIP_LIFETIME_MS if found.topic else MAX_DIRECT_LIFETIME_MS
    if not 0 < found.expires_ms - found.sent_ms <= longest:
        yield Fault(
            FaultCode.EXPIRED, entry.line, f"the {found.kind} in event {entry.row.seq} has no lifetime a node accepts"
        )
    elif heard_at and heard_at > found.expires_ms + CLOCK_SKEW_MS:
        late = heard_at - found.expires_ms
        yield Fault(
            FaultCode.EXPIRED, entry.line, f"the {found.kind} in event {entry.row.seq} was heard {late} ms too late"
        )
    elif heard_at and heard_at < found.sent_ms - CLOCK_SKEW_MS:
        yield Fault(
            FaultCode.EXPIRED, entry.line, f"the {found.kind} in event {entry.row.seq} was heard before it was sent"
        )
