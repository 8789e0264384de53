"""What the events of a request say of its providers: the only way in which a requester's log becomes evidence."""

from __future__ import annotations

from collections.abc import Iterator

from dms_proto.ids import PeerId
from dms_proto.machine import Event
from dms_proto.market.auction_events import AttemptEnded, BenchmarkChecked, OpeningRefused, ResultJudged
from dms_proto.reputation.evidence import Kind, kinds_of

Seen = tuple[PeerId, str, Kind]
"""A provider, its source, and what was seen of it."""


def seen_in(event: Event) -> Iterator[Seen]:
    """What was seen: how an attempt ended; a sealed bid that did not count; which result held; what a benchmark is worth."""
    match event:
        case AttemptEnded(provider=provider, source=source) if provider:
            yield from (
                (provider, source, kind) for kind in kinds_of(event.ending.reason, event.claimed, event.late_ms)
            )
        case OpeningRefused(provider=provider, source=source):
            yield provider, source, Kind.UNOPENED
        case ResultJudged(right=right, wrong=wrong, overturned=overturned, confirmed=confirmed, unfit=unfit):
            yield from ((answer.provider, answer.source, Kind.RIGHT) for answer in (*right, *confirmed))
            yield from ((answer.provider, answer.source, Kind.WRONG) for answer in (*wrong, *overturned))
            yield from ((answer.provider, answer.source, Kind.UNFIT) for answer in unfit)
        case BenchmarkChecked(provider=provider, source=source, kind=Kind() as kind):
            yield provider, source, kind
