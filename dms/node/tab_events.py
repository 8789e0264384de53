"""The events here of one tab, for those who want to see all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from dms.audit.tabs import KINDS, tab_of
from dms.rpc.ids import match_id
from dms.store.events import EventStore
from dms_actors.events import from_row
from dms_actors.ports import StoredEvent
from dms_proto.errors import UserError
from dms_proto.ids import TabId
from dms_proto.tabs.kept import KEPT_STREAM, TabAgreed
from dms_proto.tabs.used import USED_STREAM, TabTaken

STREAMS: Final = {USED_STREAM: TabTaken.__name__, KEPT_STREAM: TabAgreed.__name__}
"""Where tabs stand, each with the event that begins one."""


async def tab_named(store: EventStore, given: str) -> TabId:
    """The tab that a person means: one that was ever agreed here.

    Raises:
        UserError: `not_found`, `ambiguous_id`.
    """
    agreed = [
        tab_of(from_row(row)) for stream, begins in STREAMS.items() async for row in _rows(store, stream, (begins,))
    ]
    try:
        return TabId(match_id(given, dict.fromkeys(agreed), "tab"))
    except UserError as error:
        raise UserError(error.code, error.message, hint="dms account tabs") from error


async def gather_tab(store: EventStore, tab_id: TabId) -> Sequence[StoredEvent]:
    """Every event here that is about the tab alone, in order."""
    found: list[StoredEvent] = []
    for stream in STREAMS:
        found += [row async for row in _rows(store, stream, tuple(KINDS)) if tab_of(from_row(row)) == tab_id]
    return found


async def _rows(store: EventStore, stream: str, kinds: Sequence[str]) -> AsyncIterator[StoredEvent]:
    after = 0
    while page := await store.query(stream=stream, kinds=kinds, after_seq=after):
        for row in page:
            yield row
        after = page[-1].seq
