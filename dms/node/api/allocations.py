"""alloc.*: single runs, on either side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dms.node.api.base import ASK_S, Base, Row, call_id, whole_allocation_id
from dms.node.api.views import allocation_view, phase_of
from dms.node.log_reading import log_part, read
from dms.node.projecting.tables import ALLOCATIONS, JOBS, number, text, unpack
from dms.rpc.api.allocations import (
    AllocationList,
    AllocationListParams,
    AllocationLogParams,
    AllocationParams,
    AllocationReadParams,
    AllocationView,
    CancelResult,
    LogPart,
    Side,
)
from dms.store.tables import MAX_ALTERNATIVES, Condition
from dms_actors.letters import ShowState, Told
from dms_actors.runtime import ask_from_loop
from dms_proto.allocation.machine import Allocation, StopWished
from dms_proto.ids import AllocationId
from dms_proto.market.auction_state import Auction
from dms_proto.market.auction_stimuli import AllocationCancelAsked
from dms_proto.market.auction_terms import Terms
from dms_proto.messages import Phase
from dms_proto.units import format_count
from dms_proto.work import EndReason, Usage


class AllocationGroup(Base):
    """The methods of `dms.rpc.api.allocations.AllocationMethods`."""

    async def alloc_list(self, params: AllocationListParams) -> AllocationList:
        """See `AllocationMethods`."""
        where: dict[str, Condition] = {"open": 1} if params.active else {}
        if params.side is not Side.BOTH:
            where["provided" if params.side is Side.PROVIDER else "requested"] = 1
        rows, total = await self._newest(ALLOCATIONS, where, "opened_at", params.limit)
        terms = await self._terms_of(rows)
        used = await self._used_so_far(rows)
        views = tuple(
            allocation_view(row, terms, self._log_lengths(row), used.get(text(row, "allocation_id"))) for row in rows
        )
        return AllocationList(views, total)

    async def alloc_show(self, params: AllocationParams) -> AllocationView:
        """See `AllocationMethods`."""
        row = await self._allocation(params.allocation_id)
        used = await self._used_so_far([row])
        terms = await self._terms_of([row])
        return allocation_view(row, terms, self._log_lengths(row), used.get(text(row, "allocation_id")))

    async def alloc_logs(self, params: AllocationLogParams) -> LogPart:
        """See `AllocationMethods`."""
        row = await self._allocation(params.allocation_id)
        id_ = AllocationId(text(row, "allocation_id"))
        logs = self._services.collector.logs if row["requested"] else self._services.workbench.logs
        is_over = phase_of(row) is Phase.ENDED and not number(row, "open_there")
        return log_part(logs, id_, params, is_over=is_over)

    async def alloc_read(self, params: AllocationReadParams) -> LogPart:
        """See `AllocationMethods`."""
        wanted = whole_allocation_id(params.allocation_id)
        peer = self._peer(params.peer, await self._state())
        return await read(
            self._services, peer, AllocationLogParams(wanted, params.stream, params.offset), call_id("alloc.read")
        )

    async def alloc_cancel(self, params: AllocationParams) -> CancelResult:
        """See `AllocationMethods`."""
        row = await self._allocation(params.allocation_id)
        id_ = text(row, "allocation_id")
        if phase_of(row) is Phase.ENDED:
            return CancelResult(id_, cancelled=False, already_over=True)
        if row["requested"]:
            return await self._take_back(row)
        stop = Told(StopWished(EndReason.PROVIDER_STOPPED), call_id("alloc.cancel"))
        told = self._services.allocations.tell(id_, stop)
        return CancelResult(id_, told, not told, "its requester tries another node" if told else "")

    async def _take_back(self, row: Row) -> CancelResult:
        """A requester takes back one allocation of its job."""
        request, allocation = text(row, "request_id"), AllocationId(text(row, "allocation_id"))
        (job,) = await self._runner.query(JOBS.name, {"request_id": request}, limit=1)
        asked = Told(AllocationCancelAsked(allocation), call_id("alloc.cancel"))
        told = self._services.orchestrators.tell(request, asked)
        others = number(job, "count") - number(job, "done") - 1
        goes_on = f"its job goes on with {format_count(others, 'other')}, and ends as cancelled"
        return CancelResult(
            allocation, told, not told, "" if not told else goes_on if others > 0 else "its job ends with it"
        )

    async def _used_so_far(self, rows: Iterable[Row]) -> dict[str, Usage]:
        """What runs now has used, by allocation: asked of the actors, since it is never stored."""
        running = [row for row in rows if phase_of(row) in (Phase.RUNNING, Phase.STOPPING)]
        here = [text(row, "allocation_id") for row in running if row["provided"]]
        jobs = {text(row, "request_id") for row in running if not row["provided"]}
        asked = [self._services.allocations.get(id_) for id_ in here]
        asked += [self._services.orchestrators.get(id_) for id_ in sorted(jobs)]
        there = [address for address in asked if address is not None]
        states = await asyncio.gather(
            *(ask_from_loop(address, ShowState(), ASK_S) for address in there), return_exceptions=True
        )
        used: dict[str, Usage] = {}
        for state in states:
            match state:
                case Allocation(reservation=reservation, usage=usage) if reservation is not None:
                    used[reservation.allocation_id] = usage
                case Auction(slots=slots):
                    used |= {slot.allocation_id: slot.usage for slot in slots}
        return used

    async def _terms_of(self, rows: Iterable[Row]) -> dict[str, Terms]:
        """The terms of this node's own jobs among the allocations."""
        ids = sorted({text(row, "request_id") for row in rows if row["requested"] and row["task"] is None})
        found: dict[str, Terms] = {}
        for start in range(0, len(ids), MAX_ALTERNATIVES):
            part = ids[start : start + MAX_ALTERNATIVES]
            for job in await self._runner.query(JOBS.name, {"request_id": part}, limit=len(part)):
                found[text(job, "request_id")] = unpack(job["terms"], Terms)
        return found

    def _log_lengths(self, row: Row) -> tuple[int, int]:
        logs = self._services.collector.logs if row["requested"] else self._services.workbench.logs
        return logs.lengths(AllocationId(text(row, "allocation_id")))
