"""events.*, doctor.*: what happened, and whether this machine is fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from dms.node.api.base import Base
from dms.node.doctor import Live, Subject, examine
from dms.node.projecting.tables import text
from dms.node.projections import projections
from dms.node.trace import gather, steps
from dms.rpc.api.events import (
    DoctorParams,
    DoctorReport,
    EventList,
    EventQuery,
    EventView,
    Trace,
    TraceParams,
    VerifyReport,
    WatchEventsParams,
)
from dms_actors.node_parts import MARKET_STREAM, PEERS_STREAM, TRUST_STREAM
from dms_actors.ports import StoredEvent
from dms_proto.accounts.machine import ACCOUNTS_STREAM
from dms_proto.errors import UserError
from dms_proto.market.answers import ANSWERS_STREAM
from dms_proto.market.owner import OWNER_STREAM
from dms_proto.pool.routes import CALLS_STREAM
from dms_proto.pool.services import SERVICES_STREAM
from dms_proto.pool.state import POOL_STREAM
from dms_proto.tabs.kept import KEPT_STREAM
from dms_proto.tabs.used import USED_STREAM

STREAMS: Final = (
    ACCOUNTS_STREAM,
    ANSWERS_STREAM,
    CALLS_STREAM,
    MARKET_STREAM,
    OWNER_STREAM,
    PEERS_STREAM,
    POOL_STREAM,
    SERVICES_STREAM,
    KEPT_STREAM,
    USED_STREAM,
    TRUST_STREAM,
)
"""Those that are not named after an id."""
FIRST_STRETCH: Final = 2_000
"""Events looked back over at first when the newest are asked for; twice as many each further time."""


class EventGroup(Base):
    """The methods of `dms.rpc.api.events.EventMethods`."""

    async def events_query(self, params: EventQuery) -> EventList:
        """See `EventMethods`."""
        stream = await self._stream(params.stream)
        rows = await (self._last(params, stream) if params.newest else self._first(params, stream))
        return EventList(tuple(event_view(row) for row in rows), self._services.store.head().seq)

    async def _first(self, params: EventQuery, stream: str) -> list[StoredEvent]:
        return list(await self._query(params, stream, params.after_seq, params.limit))

    async def _last(self, params: EventQuery, stream: str) -> list[StoredEvent]:
        """Looks back over longer and longer stretches until there are enough."""
        found: list[StoredEvent] = []
        end = self._services.store.head().seq
        stretch = max(FIRST_STRETCH, params.limit)
        while end > params.after_seq and len(found) < params.limit:
            start = max(end - stretch, params.after_seq)
            page = [row for row in await self._query(params, stream, start, stretch) if row.seq <= end]
            found = page + found
            end, stretch = start, min(stretch * 2, 100_000)
        return found[-params.limit :]

    async def _query(self, params: EventQuery, stream: str, after_seq: int, limit: int) -> list[StoredEvent]:
        rows = await self._services.store.query(
            kinds=params.kinds,
            stream=stream,
            cause_id=params.cause_id,
            since=params.since,
            until=params.until,
            after_seq=after_seq,
            limit=limit,
        )
        return list(rows)

    async def _stream(self, given: str) -> str:
        """The full name of a stream: itself, or what a unique beginning of an id stands for.

        Raises:
            UserError: `not_found`: there is no such stream.
        """
        if not given or given in STREAMS or await self._services.store.query(stream=given, limit=1):
            return given
        if given.startswith("a-"):
            return text(await self._allocation(given), "allocation_id")
        if given.startswith("r-"):
            return await self._job_id(given)
        raise UserError("not_found", f"no events are about {given!r}", hint=f"an id, or one of: {', '.join(STREAMS)}")

    async def events_verify(self) -> VerifyReport:
        """See `EventMethods`."""
        verdict = await self._services.store.verify()
        if verdict.broken is not None:
            broken = verdict.broken
            detail = f"{broken.what}: {broken.detail}"
            return VerifyReport(False, verdict.checked, verdict.head_hash, broken.seq, detail)
        differing = [name for name in (p.name for p in projections(self._me)) if await self._runner.differs(name)]
        detail = (
            f"read models that differed from the events, now made anew: {', '.join(differing)}" if differing else ""
        )
        return VerifyReport(not differing, verdict.checked, verdict.head_hash, detail=detail)

    async def events_trace(self, params: TraceParams) -> Trace:
        """See `EventMethods`."""
        job = await self._traced(params.job_id)
        rows = await gather(self._services.store, self._runner, job)
        answers = await self._services.store.query(stream=ANSWERS_STREAM, cause_id=job)  # all after its end
        return Trace(job, steps([*rows, *answers]))

    async def doctor_run(self, params: DoctorParams) -> DoctorReport:
        """See `EventMethods`."""
        live = Live(self._services, await self._state())
        return await examine(Subject(self._services.home, self._services.config, live=live), params.only)

    async def watch_events(self, params: WatchEventsParams) -> AsyncIterator[EventView]:
        """See `EventMethods`."""
        stream = await self._stream(params.stream)
        kinds = frozenset(params.kinds)
        async for row in self._services.store.follow(params.since):
            if (not kinds or row.kind in kinds) and (not stream or row.stream == stream):
                yield event_view(row)


def event_view(row: StoredEvent) -> EventView:
    """An event as callers see it; read as plain data, so that kinds this version does not know are shown too."""
    body: Any = msgspec.msgpack.decode(row.body)
    fields = {str(name): value for name, value in body.items() if name != "event"} if isinstance(body, dict) else {}
    return EventView(row.seq, row.stream, row.version, row.kind, row.at, row.cause_id, fields)
