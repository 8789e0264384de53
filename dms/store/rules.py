"""What an event must look like to be accepted; checked before it joins a transaction that others share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dms_actors.ports import NewEvent
from dms_proto.errors import UserError
from dms_proto.units import format_count

MAX_EVENTS_PER_APPEND: Final = 16_384
"""Longer appends would hold up everybody else's promise. A job of as many slots as there may be (10,000) ends in one append."""
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""Larger things are blobs, and an event names their digest."""
MAX_NAME_CHARS: Final = 256
"""Of stream, kind and cause id."""


def check_events(events: Sequence[NewEvent]) -> None:
    """Refuses events that could not be stored or not be found again.

    Raises:
        UserError: `bad_argument`, with the event's place, field, value and rule.
    """
    if len(events) > MAX_EVENTS_PER_APPEND:
        raise UserError(
            "bad_argument",
            f"{format_count(len(events), 'event')} in one append; at most {MAX_EVENTS_PER_APPEND} are taken",
        )
    for place, event in enumerate(events):
        if not (_is_name(event.stream) and _is_name(event.kind) and (not event.cause_id or _is_name(event.cause_id))):
            raise UserError("bad_argument", _bad_name(place, event))
        body: object = event.body  # a Struct does not check what it is built with
        if not isinstance(body, bytes) or len(body) > MAX_BODY_BYTES:
            size = format_count(len(body), "byte") if isinstance(body, bytes) else type(body).__name__
            raise UserError(
                "bad_argument", f"body of event {place} is {size}; it must be at most {MAX_BODY_BYTES} bytes"
            )


def _is_name(value: str) -> bool:
    return 0 < len(value) <= MAX_NAME_CHARS and value.isprintable()


def _bad_name(place: int, event: NewEvent) -> str:
    names = (("stream", event.stream), ("kind", event.kind), ("cause_id", event.cause_id))
    field, value = next((field, value) for field, value in names if not _is_name(value))
    return f"{field} of event {place} is {value[:40]!r}; it must be 1 to {MAX_NAME_CHARS} printable characters"
