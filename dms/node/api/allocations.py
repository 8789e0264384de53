"""alloc.*: single runs, on either side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from dms.node.api.base import ASK_S, Base, Row, call_id, whole_allocation_id
from dms.node.api.views import NOT_LIVE, Live, allocation_view, phase_of
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
    ResizeParams,
    ResizeResult,
    Side,
)
from dms.store.tables import MAX_ALTERNATIVES, Condition
from dms_actors.letters import ShowState, Told
from dms_actors.runtime import ask_from_loop
from dms_proto.allocation.state import Allocation, frozen_now
from dms_proto.allocation.stimuli import StopWished
from dms_proto.capability import Resources
from dms_proto.errors import PeerError, UserError
from dms_proto.ids import AllocationId, RequestId
from dms_proto.market.auction_resizes import held_by, why_not
from dms_proto.market.auction_state import Auction, Slot
from dms_proto.market.auction_stimuli import AllocationCancelAsked, ResizeAsked
from dms_proto.market.auction_terms import Terms
from dms_proto.market.ledger import Reservation
from dms_proto.market.sizes import in_words
from dms_proto.messages import Clause, Phase, Resized
from dms_proto.units import format_count
from dms_proto.work import EndReason

RESIZE_S: Final = 20.0
"""Seconds for a provider to answer. What was asked is not taken back: it may yet answer."""
RESIZE_LOOK_S: Final = 0.05


def resized(held: Resources, params: ResizeParams) -> Resources:
    """What is held, with what is to change."""

    def changed(value: int, to: int | None) -> int:
        return value if to is None else to

    gpus = tuple(
        replace(
            gpu,
            milli=changed(gpu.milli, params.gpu_milli),
            memory_bytes=changed(gpu.memory_bytes, params.gpu_memory_bytes),
        )
        for gpu in held.gpus
    )
    cores, memory = changed(held.cpu_millicores, params.cpu_millicores), changed(held.memory_bytes, params.memory_bytes)
    return replace(held, cpu_millicores=cores, memory_bytes=memory, gpus=gpus)


def _refused(job: RequestId, allocation: AllocationId, clauses: tuple[Clause, ...]) -> UserError:
    said = "; ".join(f"{clause.wanted} wanted, {clause.observed}" for clause in clauses)
    nearest = "; ".join(filter(None, (clause.nearest for clause in clauses)))
    return UserError(
        "resize_refused",
        f"{allocation} keeps its size: {said}",
        hint=f"ask for {nearest}" if nearest else f"dms job show {job} says what it has",
    )


def _unanswered(job: RequestId, slot: Slot) -> PeerError:
    """A change is under way, and only one is at a time."""
    assert slot.sizes.changing is not None, "what is answered was asked"
    return PeerError(
        "resize_unanswered",
        f"{slot.allocation_id} may yet get {in_words(slot.sizes.changing.resources)}: {slot.provider} has not answered so far",
        hint=f"it is asked again by itself; dms job show {job} says what came of it",
    )


def _result(auction: Auction, slot: Slot) -> ResizeResult:
    at_ms = slot.sizes.parts[-1].until_ms if slot.sizes.parts else 0
    return ResizeResult(slot.allocation_id, held_by(auction, slot), at_ms, slot.agreed)


def _live_here(allocation: Allocation, reservation: Reservation) -> Live:
    frozen = frozen_now(allocation)
    resources = reservation.resources if allocation.sizes.parts else None
    return Live(allocation.usage, resources, frozen.because, frozen.since)


def _live_there(slot: Slot) -> Live:
    return Live(slot.usage, slot.sizes.now, slot.freezes.why, slot.freezes.since)


class AllocationGroup(Base):
    """The methods of `dms.rpc.api.allocations.AllocationMethods`."""

    async def alloc_list(self, params: AllocationListParams) -> AllocationList:
        """See `AllocationMethods`."""
        where: dict[str, Condition] = {"open": 1} if params.active else {}
        if params.side is not Side.BOTH:
            where["provided" if params.side is Side.PROVIDER else "requested"] = 1
        rows, total = await self._newest(ALLOCATIONS, where, "opened_at", params.limit)
        terms = await self._terms_of(rows)
        live = await self._live(rows)
        views = tuple(
            allocation_view(row, terms, self._log_lengths(row), live.get(text(row, "allocation_id"), NOT_LIVE))
            for row in rows
        )
        return AllocationList(views, total)

    async def alloc_show(self, params: AllocationParams) -> AllocationView:
        """See `AllocationMethods`."""
        row = await self._allocation(params.allocation_id)
        live = await self._live([row])
        terms = await self._terms_of([row])
        return allocation_view(row, terms, self._log_lengths(row), live.get(text(row, "allocation_id"), NOT_LIVE))

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

    async def alloc_resize(self, params: ResizeParams) -> ResizeResult:
        """See `AllocationMethods`."""
        id_, request = await self._own_run(params.allocation_id)
        auction, slot = await self._slot(request, id_)
        wanted = resized(held_by(auction, slot), params)
        if clauses := why_not(auction, slot, wanted):
            raise _refused(request, id_, clauses)
        if wanted == held_by(auction, slot) and slot.sizes.changing is None:
            return _result(auction, slot)
        if slot.sizes.changing is not None and slot.sizes.changing.resources != wanted:
            raise _unanswered(request, slot)
        before = slot.sizes.answer
        self._services.orchestrators.tell(request, Told(ResizeAsked(id_, wanted), call_id("alloc.resize")))
        auction, slot = await self._answered(request, id_, before)
        answer = slot.sizes.answer
        if answer is not None and answer.clauses:
            raise _refused(request, id_, answer.clauses)
        return _result(auction, slot)

    async def _answered(
        self, request: RequestId, allocation: AllocationId, before: Resized | None
    ) -> tuple[Auction, Slot]:
        until = asyncio.get_running_loop().time() + RESIZE_S
        while True:
            auction, slot = await self._slot(request, allocation)
            if slot.sizes.changing is None and slot.sizes.answer is not before:
                return auction, slot
            if asyncio.get_running_loop().time() > until:
                raise _unanswered(request, slot)
            await asyncio.sleep(RESIZE_LOOK_S)

    async def _own_run(self, given: str) -> tuple[AllocationId, RequestId]:
        """The allocation that is meant, of a job of this node, and its job."""
        if given.startswith("a-"):
            row = await self._allocation(given)
            if not row["requested"]:
                raise UserError(
                    "bad_argument",
                    f"{text(row, 'allocation_id')} is of another node's job, which alone changes its size",
                    hint="its requester can; dms alloc cancel stops it here",
                )
            return AllocationId(text(row, "allocation_id")), RequestId(text(row, "request_id"))
        job = await self._job_id(given)
        rows = await self._runner.query(ALLOCATIONS.name, {"request_id": job, "open_there": 1}, limit=2)
        if len(rows) != 1:
            many = "more than one allocation runs" if rows else "nothing runs"
            raise UserError("bad_argument", f"of {job} {many}", hint=f"dms job show {job} names its allocations")
        return AllocationId(text(rows[0], "allocation_id")), job

    async def _slot(self, request: RequestId, allocation: AllocationId) -> tuple[Auction, Slot]:
        address = self._services.orchestrators.get(request)
        auction: Auction | None = await ask_from_loop(address, ShowState(), ASK_S) if address is not None else None
        for slot in auction.slots if auction is not None else ():
            if auction is not None and slot.allocation_id == allocation:
                return auction, slot
        raise UserError(
            "not_running", f"{allocation} does not run any more", hint=f"dms job show {request} says how it ended"
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

    async def _live(self, rows: Iterable[Row]) -> dict[str, Live]:
        """What is not over has used and holds, and whether it stands still, by allocation: asked of the actors, since use is never stored."""
        running = [row for row in rows if phase_of(row) is not Phase.ENDED]
        here = [text(row, "allocation_id") for row in running if row["provided"]]
        jobs = {text(row, "request_id") for row in running if not row["provided"]}
        asked = [self._services.allocations.get(id_) for id_ in here]
        asked += [self._services.orchestrators.get(id_) for id_ in sorted(jobs)]
        there = [address for address in asked if address is not None]
        states = await asyncio.gather(
            *(ask_from_loop(address, ShowState(), ASK_S) for address in there), return_exceptions=True
        )
        live: dict[str, Live] = {}
        for state in states:
            match state:
                case Allocation(reservation=reservation) if reservation is not None:
                    live[reservation.allocation_id] = _live_here(state, reservation)
                case Auction(slots=slots):
                    live |= {slot.allocation_id: _live_there(slot) for slot in slots}
        return live

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
