"""Two small read models over made-up events, for tests of the store: one sets columns, one counts and deletes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from dms.store.projections import Projection, Rows
from dms.store.tables import Change, Column, Delete, Table, Upsert
from dms_actors.ports import NewEvent, StoredEvent

ALLOCATIONS: Final = Table(
    "allocations",
    (
        Column("allocation"),
        Column("state"),
        Column("provider"),
        Column("started_at", "INTEGER"),
        Column("ended_at", "INTEGER"),
    ),
    key=("allocation",),
    indexes=(("state", "started_at"),),
)
LOADS: Final = Table(
    "loads", (Column("provider"), Column("running", "INTEGER"), Column("total", "INTEGER")), key=("provider",)
)


def started(allocation: str, provider: str) -> NewEvent:
    """An allocation began on a provider."""
    return NewEvent(allocation, "alloc_started", "", msgspec.msgpack.encode({"provider": provider}))


def ended(allocation: str) -> NewEvent:
    """An allocation ended."""
    return NewEvent(allocation, "alloc_ended", "", b"\x80")


def forgotten(provider: str) -> NewEvent:
    """A provider is to be forgotten."""
    return NewEvent("node", "provider_forgotten", "", msgspec.msgpack.encode({"provider": provider}))


def _allocations(_rows: Rows, event: StoredEvent) -> Iterator[Change]:
    if event.kind == "alloc_started":
        provider = msgspec.msgpack.decode(event.body)["provider"]
        yield Upsert("allocations", (event.stream,), {"state": "running", "provider": provider, "started_at": event.at})
    else:
        yield Upsert("allocations", (event.stream,), {"state": "ended", "ended_at": event.at})


def _loads(rows: Rows, event: StoredEvent) -> Iterator[Change]:
    match event.kind:
        case "alloc_started":
            provider = msgspec.msgpack.decode(event.body)["provider"]
            load = rows.get("loads", (provider,)) or {"running": 0, "total": 0}
            yield Upsert("loads", (provider,), {"running": load["running"] + 1, "total": load["total"] + 1})  # type: ignore[operator]
        case "provider_forgotten":
            yield Delete("loads", (msgspec.msgpack.decode(event.body)["provider"],))


PROJECTIONS: Final = (
    Projection("allocations", 1, (ALLOCATIONS,), frozenset({"alloc_started", "alloc_ended"}), _allocations),
    Projection("loads", 1, (LOADS,), frozenset({"alloc_started", "provider_forgotten"}), _loads),
)
