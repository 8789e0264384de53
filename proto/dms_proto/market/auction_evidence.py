"""What the events of a request say of its providers."""

from __future__ import annotations

from dms_proto.ids import PeerId
from dms_proto.machine import Event
from dms_proto.market.auction_state import AttemptEnded, OpeningRefused
from dms_proto.reputation import Kind
from dms_proto.reputation.evidence import kinds_of


def seen_in(event: Event) -> tuple[tuple[PeerId, str, Kind], ...]:
    """Of whom, where it is (`reputation.sources`), and what; nothing where an event says nothing of anybody."""
    match event:
        case AttemptEnded(provider=provider, source=source) if provider:
            return tuple((provider, source, kind) for kind in kinds_of(event.ending.reason, event.claimed))
        case OpeningRefused(provider=provider, source=source):
            return ((provider, source, Kind.UNOPENED),)
        case _:
            return ()
