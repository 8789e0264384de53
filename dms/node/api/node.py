"""node.*: what this node is, how it does, what its owner prefers; and its operations on single allocations."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Any, Final

from dms import __version__
from dms.node.api.allocations import AllocationGroup
from dms.node.api.base import ASK_S, call_id
from dms.node.api.capability import CapabilityGroup
from dms.node.api.views import bid_view, phase_of
from dms.node.doctor import DISK_FAIL
from dms.node.projecting.tables import ALLOCATIONS, BIDS, JOBS, TOTALS, number, text
from dms.node.services import NETWORK_DOWN, NETWORK_RESTARTS
from dms.rpc.api.allocations import AllocationParams, AllocationView
from dms.rpc.api.market import BidList
from dms.rpc.api.node import (
    AllocationState,
    BidRequestParams,
    MarketFigures,
    NetworkFigures,
    NodeStatus,
    PreferencesParams,
    Route,
    Started,
    StartParams,
    StateChange,
    StopParams,
    Trouble,
    WorkFigures,
)
from dms.rpc.api.node import NodeState as State
from dms.store.tables import MAX_ROWS
from dms_actors.events import to_row
from dms_actors.letters import ShowState, Told
from dms_actors.node import NodeState
from dms_actors.runtime import ask_from_loop
from dms_proto.allocation.state import TOLD, Allocation, LifePhase
from dms_proto.allocation.stimuli import Invoked
from dms_proto.ids import AllocationId, NodeId, PeerId
from dms_proto.market.comparators import check_comparator
from dms_proto.market.offer_judgement import task_fits
from dms_proto.market.offer_state import BookPhase, OfferBook, PauseWished
from dms_proto.market.owner import OWNER_STREAM, Owner, PreferencesChanged
from dms_proto.market.preferences import Preferences, check_preferences
from dms_proto.membership.machine import PeerPhase
from dms_proto.messages import Phase
from dms_proto.units import format_bytes, format_count

BY_OWNER: Final = "by its owner"
"""Why a node that stops with grace takes no new work; undone when it starts again."""
LAST_WORD_S: Final = 0.1
"""Seconds between the answer to node.stop and the stop, so that the answer is out."""


class NodeGroup(CapabilityGroup, AllocationGroup):
    """The methods of `dms.rpc.api.node.NodeMethods`; those about capability and single runs are shared."""

    async def node_identity(self) -> NodeId:
        """See `NodeMethods`."""
        return self._services.identity.node_id

    async def node_status(self) -> NodeStatus:
        """See `NodeMethods`."""
        services, state = self._services, await self._state()
        troubles = self._troubles(state)
        return NodeStatus(
            id=services.identity.node_id,
            name=services.config.node.name or self._me[-8:],
            version=__version__,
            state=self._working_state(state),
            pid=os.getpid(),
            home=str(services.home.root),
            started_at=services.started_at,
            now=self._now(),
            events=services.store.head().seq,
            healthy=not troubles,
            troubles=troubles,
            network=self._network_figures(state),
            capability=self._capability_status(state),
            market=await self._market_figures(state.book),
            provides=services.config.provider.enabled,
            work=await self._work_figures(),
            mishaps=services.mishaps.count,
            owner=state.book.owner.because if state.book.owner is not None else "",
        )

    def _working_state(self, state: NodeState) -> State:
        if self._services.stop.is_set() or state.book.phase is BookPhase.STOPPING:
            return State.STOPPING
        return State.PAUSED if state.book.phase is BookPhase.PAUSED else State.RUNNING

    def _network_figures(self, state: NodeState) -> NetworkFigures:
        links = self._services.network.links()
        hello = state.membership.hello
        addresses = hello.addresses if hello is not None else ()
        return NetworkFigures(
            up=bool(addresses) and NETWORK_DOWN not in self._services.notes,
            addresses=addresses,
            connected=len(links),
            known=len(state.membership.peers),
            relayed=sum(link.relayed for link in links.values()),
            restarts=int(self._services.notes.get(NETWORK_RESTARTS, "0")),
        )

    def _troubles(self, state: NodeState) -> tuple[Trouble, ...]:
        services, found = self._services, []
        if NETWORK_DOWN in services.notes:
            found.append(
                Trouble("network_down", services.notes[NETWORK_DOWN], "it is being restarted; the log says why")
            )
        if services.config.provider.enabled and not services.executors:
            why = "; ".join(f"{gone.name}: {gone.error.message}" for gone in services.unavailable)
            hint = services.unavailable[0].error.hint if services.unavailable else "set executors.enabled"
            found.append(Trouble("executor_unavailable", f"no executor works here: {why}", hint))
        refused = [peer for peer in state.membership.peers.values() if peer.phase is PeerPhase.REFUSED]
        if refused and all("clock" in peer.refused_because for peer in refused):
            found.append(
                Trouble(
                    "clock_skew",
                    f"{format_count(len(refused), 'peer')}: {refused[0].refused_because}",
                    "dms doctor --only peers",
                )
            )
        free = shutil.disk_usage(services.home.root).free
        if free < DISK_FAIL:
            what = f"{format_bytes(free)} are left where {services.home.root} lies"
            found.append(Trouble("disk_full", what, "free some space: without it nothing can be promised"))
        return tuple(found)

    async def _market_figures(self, book: OfferBook) -> MarketFigures:
        totals = await self._totals()
        counted = {name: totals.get(name, 0) for name in ("heard", "bids", "declines", "won", "earned")}
        return MarketFigures(**counted, standing=len(book.standing), forgotten=book.forgotten)

    async def _work_figures(self) -> WorkFigures:
        totals = await self._totals()
        return WorkFigures(
            running=await self._count(ALLOCATIONS, {"run_phase": Phase.RUNNING.value}),
            jobs_open=await self._count(JOBS, {"open": 1}),
            jobs_waiting=await self._count(JOBS, {"open": 1, "held": 0}),
            jobs_done=totals.get("jobs_done", 0),
            jobs_failed=totals.get("jobs_failed", 0),
            spent=totals.get("spent", 0),
        )

    async def _totals(self) -> dict[str, int]:
        return {
            text(row, "name"): number(row, "value") for row in await self._runner.query(TOTALS.name, as_they_are=True)
        }

    # ---------------------------------------------------------------------------------------------------------- preferences

    async def node_set_preferences(self, params: PreferencesParams) -> Preferences:
        """See `NodeMethods`."""
        check_preferences(params.preferences)
        check_comparator(params.preferences.comparator)
        if not params.dry_run:
            event = PreferencesChanged(params.preferences)
            await self._services.store.append([to_row(OWNER_STREAM, event, call_id("node.set_preferences"))])
            self._parts.owner = Owner(params.preferences)
        return params.preferences

    async def node_get_preferences(self) -> Preferences:
        """See `NodeMethods`."""
        return self._parts.owner.preferences

    # ---------------------------------------------------------------------------------------------------------- allocations

    async def node_get_registered_bids(self, params: BidRequestParams) -> BidList:
        """See `NodeMethods`."""
        request = await self._job_id(params.bid_request_id)
        where: dict[str, Any] = {"request_id": request, "received": 1}
        rows = await self._runner.query(BIDS.name, where, order=("-at",), limit=MAX_ROWS)
        return BidList(tuple(bid_view(row, self._now()) for row in rows), len(rows))

    async def node_get_allocation(self, params: AllocationParams) -> AllocationView:
        """See `NodeMethods`."""
        return await self.alloc_show(params)

    async def node_check_allocation_status(self, params: AllocationParams) -> AllocationState:
        """See `NodeMethods`."""
        row = await self._allocation(params.allocation_id)
        id_, phase = AllocationId(text(row, "allocation_id")), phase_of(row)
        actor = self._services.allocations.get(id_)
        if actor is not None:  # it runs here, and its actor knows before the read models do
            phase = TOLD[(await ask_from_loop(actor, ShowState(), ASK_S)).phase]
        if row["provided"]:
            alive = self._services.workbench.is_running(id_)
        else:
            is_there = PeerId(text(row, "provider")) in self._services.network.links()
            alive = is_there and phase in (Phase.RUNNING, Phase.STOPPING)
        return AllocationState(id_, phase, alive, self._now())

    async def node_route_to_allocation(self, params: AllocationParams) -> Route:
        """See `NodeMethods`."""
        row, state = await self._allocation(params.allocation_id), await self._state()
        provider = PeerId(text(row, "provider"))
        here = provider == self._me
        link = self._services.network.links().get(provider)
        known = state.membership.peers.get(provider)
        hello = state.membership.hello
        addresses = (hello.addresses if hello else ()) if here else known.addresses if known else ()
        return Route(
            allocation_id=AllocationId(text(row, "allocation_id")),
            provider=provider,
            here=here,
            connected=here or link is not None,
            relayed=link is not None and link.relayed,
            addresses=addresses or (link.addresses if link is not None else ()),
        )

    async def node_start_allocation(self, params: StartParams) -> Started:
        """See `NodeMethods`."""
        invocation = params.invocation
        id_ = invocation.allocation_id
        actor = self._services.allocations.get(id_)
        if actor is None:
            return Started(id_, "no such allocation here")
        refused = self._why_not(await ask_from_loop(actor, ShowState(), ASK_S), params)
        if not refused:
            actor.tell(
                Told(Invoked(self._me, invocation.request_id, invocation.task), call_id("node.start_allocation"))
            )
            await ask_from_loop(actor, ShowState(), ASK_S)  # answered once the invocation is written down
        return Started(id_, refused)

    def _why_not(self, allocation: Allocation, params: StartParams) -> str:
        reservation, task = allocation.reservation, params.invocation.task
        if reservation is None or reservation.requester != self._me:
            return "it was committed to somebody else"
        if allocation.phase in (LifePhase.ENDED, LifePhase.CLOSED):
            return "it has ended"
        if allocation.task is not None:
            return "" if allocation.task == task else "it was invoked already, with another task"
        return (
            ""
            if task_fits(task, reservation.resources, reservation.wall_ms)
            else "the task asks for more than was committed"
        )

    # -------------------------------------------------------------------------------------------------------- pause and stop

    async def node_pause(self) -> StateChange:
        """See `NodeMethods`."""
        return await self._change(await self._wish(PauseWished(paused=True, because=BY_OWNER), call_id("node.pause")))

    async def node_resume(self) -> StateChange:
        """See `NodeMethods`."""
        return await self._change(await self._wish(PauseWished(paused=False), call_id("node.resume")))

    async def node_stop(self, params: StopParams) -> StateChange:
        """See `NodeMethods`."""
        loop, stop = self._services.loop, self._services.stop
        running = await self._count(ALLOCATIONS, {"run_phase": Phase.RUNNING.value})
        await self._wish(PauseWished(paused=True, stopping=True), call_id("node.stop"))
        if params.grace_ms and running and not stop.is_set():
            self._stopping = loop.create_task(self._stop_after(params.grace_ms / 1000), name="stop after grace")
        else:
            loop.call_later(LAST_WORD_S, stop.set)
        return StateChange(State.STOPPING, running)

    _stopping: asyncio.Task[None] | None = None

    async def _stop_after(self, grace: float) -> None:
        await self._services.workbench.until_idle(grace)
        self._services.stop.set()

    async def _change(self, state: NodeState) -> StateChange:
        running = await self._count(ALLOCATIONS, {"run_phase": Phase.RUNNING.value})
        return StateChange(self._working_state(state), running)
