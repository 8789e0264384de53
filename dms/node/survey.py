"""What the event store says is not over: looked up once, when the node starts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from heapq import merge
from typing import Final

from dms_actors.events import from_row
from dms_actors.letters import AttemptNoted, BenchmarkNoted
from dms_actors.ports import EventLog, StoredEvent
from dms_actors.world import Survey
from dms_proto.allocation.events import CLOSING
from dms_proto.ids import AllocationId, RequestId
from dms_proto.market.auction_events import BenchmarkChecked, ResultJudged
from dms_proto.market.seen import seen_in
from dms_proto.membership.machine import Inherit, PeerSucceeded

PAGE: Final = 10_000
EVIDENCE_EVENTS: Final = 10_000
"""Attempts, verdicts, and findings of spot checks that count for a provider's record, over all providers: the newest of each."""
_BEGUN_REQUEST: Final = ("RequestOpened",)
_OVER_REQUEST: Final = ("RequestEnded",)
_BEGUN_ALLOCATION: Final = ("AllocationOpened",)
_OVER_ALLOCATION: Final = tuple(kind.__name__ for kind in CLOSING)


async def survey(log: EventLog) -> Survey:
    """Requests and allocations that are not over, and what was seen of providers."""
    requests = await _streams(log, _BEGUN_REQUEST) - await _streams(log, _OVER_REQUEST)
    allocations = await _streams(log, _BEGUN_ALLOCATION) - await _streams(log, _OVER_ALLOCATION)
    return Survey(
        tuple(RequestId(stream) for stream in sorted(requests)),
        tuple(AllocationId(stream) for stream in sorted(allocations)),
        await _notes(log),
        await _verdicts(log),
    )


def survey_from_thread(log: EventLog, loop: asyncio.AbstractEventLoop) -> Survey:
    """The same, for the actors' thread: waits for the loop, once, when the node begins."""
    return asyncio.run_coroutine_threadsafe(survey(log), loop).result(60)


async def _streams(log: EventLog, kinds: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    after = 0
    while page := await log.query(kinds=kinds, after_seq=after, limit=PAGE):
        found.update(row.stream for row in page)
        after = page[-1].seq
    return found


async def newest(log: EventLog, kind: str, count: int, *, page: int = PAGE) -> Sequence[StoredEvent]:
    """The last `count` events of a kind, oldest first. Reads all of them, `page` at a time: the log is asked from its beginning."""
    last: deque[StoredEvent] = deque(maxlen=count)
    after = 0
    while found := await log.query(kinds=(kind,), after_seq=after, limit=page):
        last.extend(found)
        after = found[-1].seq
    return tuple(last)


async def _verdicts(log: EventLog) -> tuple[tuple[RequestId, ResultJudged], ...]:
    rows = await newest(log, ResultJudged.__name__, EVIDENCE_EVENTS)
    found = ((row.stream, from_row(row)) for row in rows)
    return tuple((RequestId(stream), event) for stream, event in found if isinstance(event, ResultJudged))


async def _notes(log: EventLog) -> tuple[AttemptNoted | BenchmarkNoted | Inherit, ...]:
    notes: list[AttemptNoted | BenchmarkNoted | Inherit] = []
    attempts = await newest(log, "AttemptEnded", EVIDENCE_EVENTS)
    verdicts = await newest(log, "ResultJudged", EVIDENCE_EVENTS)
    openings = await newest(log, "OpeningRefused", EVIDENCE_EVENTS)
    benchmarks = await newest(log, "BenchmarkChecked", EVIDENCE_EVENTS)
    successions = await newest(log, "PeerSucceeded", EVIDENCE_EVENTS)
    for row in merge(attempts, verdicts, openings, benchmarks, successions, key=lambda row: row.seq):
        match from_row(row):
            case PeerSucceeded(old=old, new=new):
                notes.append(Inherit(old, new))
            case event:
                notes += [AttemptNoted(*seen, row.at) for seen in seen_in(event)]
                if isinstance(event, BenchmarkChecked):
                    notes.append(BenchmarkNoted(event))
    return tuple(notes)
