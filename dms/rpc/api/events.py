"""events.*, doctor.*: what happened, and whether this machine is fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Any, Final, Protocol

import msgspec

from dms.rpc.api.allocations import Limit
from dms.rpc.registry import feed, method
from dms_proto.ids import RequestId
from dms_proto.rules import Amount

Kinds = Annotated[tuple[str, ...], msgspec.Meta(max_length=64)]


class EventQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events; all that is given must match.

    Attributes:
        kinds: any of these; empty for all.
        stream: about what: a request's or allocation's id, or a unique beginning of one; or what docs/reference/events.md calls a stream, such
            as "market"; empty for all.
        cause_id: the message or call that led to it; empty for any.
        since: Unix ms; 0 for the beginning.
        until: Unix ms; 0 for now.
        after_seq: only later ones.
        limit: at most so many, oldest first.
        newest: the newest ones that match, instead of the oldest; still delivered oldest first.
    """

    kinds: Kinds = ()
    stream: str = ""
    cause_id: str = ""
    since: Amount = 0
    until: Amount = 0
    after_seq: Amount = 0
    limit: Limit = 100
    newest: bool = False


class EventView(msgspec.Struct, frozen=True):
    """A fact in the store.

    Attributes:
        id: its `seq`: counts over all streams from 1 without gaps.
        stream: what it is about.
        version: its number within the stream.
        kind: as in docs/reference/events.md.
        at: Unix ms.
        cause_id: the message or call that led to it.
        body: the fields of the event.
    """

    id: int
    stream: str
    version: int
    kind: str
    at: int
    cause_id: str
    body: dict[str, Any]


class EventList(msgspec.Struct, frozen=True):
    """Events.

    Attributes:
        events: oldest first.
        last: id of the newest event in the store, shown or not.
    """

    events: tuple[EventView, ...]
    last: int


class VerifyReport(msgspec.Struct, frozen=True):
    """Whether the store is as it was written.

    Attributes:
        intact: every event hashes into the next, and projections equal the fold of the events.
        events: how many were checked.
        head: hash of the newest, hexadecimal: note it elsewhere and even a rewritten store shows.
        broken_at: id of the first event that does not fit; 0 when intact.
        detail: what does not fit.
    """

    intact: bool
    events: int
    head: str
    broken_at: int = 0
    detail: str = ""


class TraceParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose story.

    Attributes:
        job_id: a request id or allocation id, or a unique beginning of one.
    """

    job_id: str


class TraceStep(msgspec.Struct, frozen=True):
    """One step of a story.

    Attributes:
        id: of the event.
        at: Unix ms.
        stream: what it is about.
        kind: of the event.
        cause_id: the message or call that led to it.
        text: one line for a person.
    """

    id: int
    at: int
    stream: str
    kind: str
    cause_id: str
    text: str


class Trace(msgspec.Struct, frozen=True):
    """The story of a job, as far as this node took part.

    Attributes:
        job_id: the job.
        steps: in order.
    """

    job_id: RequestId
    steps: tuple[TraceStep, ...]


class Finding(StrEnum):
    """The outcome of one check."""

    PASS = "pass"  # noqa: S105 - the verdict, not a secret
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        name: such as "sandbox".
        finding: the outcome.
        evidence: one line: what was seen, with figures.
        fix: what to do; empty when nothing is to be done.
    """

    name: str
    finding: Finding
    evidence: str
    fix: str = ""


EXECUTORS: Final = frozenset({"sandbox", "wasm", "python", "oci"})
"""What the check `executors` finds, each of which can be asked for alone."""


class DoctorParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to look at.

    Attributes:
        only: names of checks, or of executors; empty for all.
    """

    only: tuple[str, ...] = ()


class DoctorReport(msgspec.Struct, frozen=True):
    """Whether this machine is fit to be a node. A check that could not be made never counts as passed.

    Attributes:
        checks: in order of importance.
    """

    checks: tuple[Check, ...]


class WatchEventsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events to follow, and from where.

    Attributes:
        since: id of the last event seen; 0 for all there are.
        kinds: any of these; empty for all.
        stream: what they are about, as in `EventQuery`; empty for all.
    """

    since: Amount = 0
    kinds: Kinds = ()
    stream: str = ""


class EventMethods(Protocol):
    """The event store, and the state of the machine."""

    @method("events.query")
    async def events_query(self, params: EventQuery) -> EventList:
        """The collector: events by time, kind, subject and cause."""
        ...

    @method("events.verify")
    async def events_verify(self) -> VerifyReport:
        """Checks the hash chain of the whole store."""
        ...

    @method("events.trace")
    async def events_trace(self, params: TraceParams) -> Trace:
        """The story of a job, step by step, with what caused what."""
        ...

    @method("doctor.run")
    async def doctor_run(self, params: DoctorParams) -> DoctorReport:
        """Looks at everything a node needs and says what to fix."""
        ...

    @feed("events")
    def watch_events(self, params: WatchEventsParams) -> AsyncIterator[EventView]:
        """Every event as it is written, in order, without end."""
        ...
