"""A node without a machine, a market or a network: `NodeApi` in memory, for tests of transports, clients and the command line.

It keeps the promises of the interface (short ids, errors, feeds with growing ids that can be resumed); what its jobs do is a script.
"""

# ruff: noqa: D102 - every method is described where it is declared, in dms.rpc.api

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from dms.audit.lines import FORM, Header, Party, written
from dms.rpc.api import allocations, audit, events, jobs, market, node, peers
from dms.rpc.feed import Feed
from dms.rpc.ids import match_peer
from dms.testing.node_accounts import MemoryAccounts
from dms.testing.node_data import MemoryData
from dms.testing.node_grants import MemoryGrants
from dms.testing.node_jobs import ALPHA, BETA, GAMMA, NOW, OFFER, MemoryJobs, Script
from dms.testing.node_services import MemoryServices
from dms.testing.node_tunnels import MemoryTunnels
from dms_proto.capability import Capability, Resources
from dms_proto.errors import UserError
from dms_proto.ids import (
    NodeId,
    PeerId,
    node_id_of,
)
from dms_proto.market.arithmetic import clamp_subtract
from dms_proto.market.preferences import Preferences, check_preferences
from dms_proto.messages import Phase
from dms_proto.reputation import Kind
from dms_proto.units import GIB
from dms_proto.wire import Signer

KEY = bytes(range(32))


class MemoryNode(MemoryJobs, MemoryAccounts, MemoryGrants, MemoryTunnels, MemoryData, MemoryServices):
    """Implements `NodeApi`. Lives on one asyncio loop.

    Args:
        directory: where results are put.
        scripts: what the next jobs do, in order; then the default again and again.
    """

    def __init__(self, directory: Path, scripts: Sequence[Script] = ()) -> None:
        self.id = node_id_of(KEY, "8d3f1c1e-0000-4000-8000-000000000001")
        MemoryJobs.__init__(self, directory, scripts, self.id.peer_id)
        MemoryAccounts.__init__(self, KEY, {ALPHA: "alpha", BETA: "beta"})
        MemoryGrants.__init__(self, self.id.peer_id, KEY)
        MemoryTunnels.__init__(self, ALPHA)
        MemoryData.__init__(self)
        MemoryServices.__init__(self, ALPHA)
        self.state = node.NodeState.RUNNING
        self.provides = True
        self.troubles: tuple[node.Trouble, ...] = ()
        self.registered = OFFER
        self.pressure = node.Pressure()
        self.locks: list[node.LockView] = []
        self.banned: dict[PeerId, int] = {}
        self.joined: list[str] = []
        self.moved: list[str] = []
        self.log: Feed[events.EventView] = Feed()
        self.stopped = asyncio.Event()
        self.checks: tuple[events.Check, ...] = (
            events.Check("identity", events.Finding.PASS, "key 0600, clock skew 12 ms"),
            events.Check(
                "nat", events.Finding.WARN, "symmetric; most peers reach this node by relay", "forward tcp/4600"
            ),
            events.Check("sandbox", events.Finding.PASS, "bwrap 0.11, seccomp, no network"),
        )
        for number in range(3):
            self._note("node", "CapabilityRegistered", f"c-{number}")

    def _note(self, stream: str, kind: str, cause: str) -> None:
        number = self.log.last + 1
        self.log.publish(events.EventView(number, stream, number, kind, NOW + number, cause, {"number": number}))

    # ------------------------------------------------------------------------------------------------------------- node.*

    async def node_status(self) -> node.NodeStatus:
        return node.NodeStatus(
            id=self.id,
            name="workshop",
            version="0.1.0",
            state=self.state,
            pid=4242,
            home="/home/me/dms",
            started_at=NOW - 3_600_000,
            now=NOW,
            events=self.log.last,
            healthy=not self.troubles,
            troubles=self.troubles,
            network=node.NetworkFigures(True, (f"/ip4/192.0.2.7/tcp/4600/p2p/{self.id.peer_id}",), 2, 3, 1),
            capability=await self.node_capability(),
            market=node.MarketFigures(120, 40, 80, 12, 1_250_000),
            work=node.WorkFigures(1, len(self.views), 0, 3, 1, 20_000),
            provides=self.provides,
        )

    async def node_identity(self) -> NodeId:
        return self.id

    async def node_capability(self) -> node.CapabilityStatus:
        whole = self.registered.resources
        busy = Resources(1000, GIB, 0)
        free = Resources(whole.cpu_millicores - 1000, whole.memory_bytes - GIB, whole.disk_bytes)
        left = clamp_subtract(free, self.pressure.others)
        return node.CapabilityStatus(whole, free, Resources(), busy, left, self.pressure, self.registered)

    async def node_benchmark_capability(self, params: node.BenchmarkParams) -> node.BenchmarkReport:
        figures = (node.Figure("cpu_single", 1234.5, "ops/s", 0.05), node.Figure("disk_write", 410.0, "MiB/s", 0.2))
        return node.BenchmarkReport(
            "dms-bench", "1", NOW, 4200, figures, self.registered, () if params.register else ("not registered",)
        )

    async def node_set_registered_capability(self, params: node.CapabilityParams) -> node.CapabilityStatus:
        before = self.registered
        self.registered = params.capability
        status = await self.node_capability()
        if params.dry_run:
            self.registered = before
        return status

    async def node_get_registered_capability(self) -> Capability:
        return self.registered

    async def node_set_available_capability(self, params: node.ResourcesParams) -> node.CapabilityStatus:
        status = await self.node_capability()
        return msgspec.structs.replace(status, available=params.resources)

    async def node_get_available_capability(self) -> Capability:
        return msgspec.structs.replace(self.registered, resources=(await self.node_capability()).available)

    async def node_lock_capability(self, params: node.LockParams) -> node.LockView:
        lock = node.LockView(f"b-{params.pod}", params.pod, "", params.capability.resources, NOW + params.valid_ms)
        self.locks.append(lock)
        return lock

    async def node_get_locked_capabilities(self) -> node.LockList:
        return node.LockList(tuple(self.locks))

    async def node_set_preferences(self, params: node.PreferencesParams) -> Preferences:
        check_preferences(params.preferences)
        if not params.dry_run:
            self.preferences = params.preferences
        return params.preferences

    async def node_get_preferences(self) -> Preferences:
        return self.preferences

    async def node_get_registered_bids(self, params: node.BidRequestParams) -> market.BidList:
        return await self.bids_list(market.BidListParams(request_id=params.bid_request_id))

    async def node_get_allocation(self, params: allocations.AllocationParams) -> allocations.AllocationView:
        return await self.alloc_show(params)

    async def node_check_allocation_status(self, params: allocations.AllocationParams) -> node.AllocationState:
        view = await self.alloc_show(params)
        return node.AllocationState(view.allocation_id, view.phase, view.phase is Phase.RUNNING, NOW)

    async def node_route_to_allocation(self, params: allocations.AllocationParams) -> node.Route:
        view = await self.alloc_show(params)
        return node.Route(view.allocation_id, view.provider, False, True, False)

    async def node_start_allocation(self, params: node.StartParams) -> node.Started:
        return node.Started(params.invocation.allocation_id, "not committed to this node")

    async def node_pause(self) -> node.StateChange:
        self.state = node.NodeState.PAUSED
        return node.StateChange(self.state, 1)

    async def node_resume(self) -> node.StateChange:
        self.state = node.NodeState.RUNNING
        return node.StateChange(self.state, 1)

    async def node_stop(self, params: node.StopParams) -> node.StateChange:
        self.state = node.NodeState.STOPPING
        asyncio.get_running_loop().call_soon(self.stopped.set)
        return node.StateChange(self.state, 0 if params.grace_ms == 0 else 1)

    # ------------------------------------------------------------------------------------------------------------ peers.*

    def _peers(self) -> dict[PeerId, peers.PeerView]:
        known = (
            peers.PeerView(
                ALPHA,
                "alpha",
                peers.PeerState.CONNECTED,
                rtt_us=800,
                software="dms/0.1.0",
                last_seen=NOW,
                successes=9,
                standing=0.77,
                evidence=(peers.EvidenceView(Kind.KEPT, 9, 9.0),),
                source="203.0.113.0/24",
            ),
            peers.PeerView(
                BETA,
                "beta",
                peers.PeerState.CONNECTED,
                relayed=True,
                rtt_us=20_400,
                software="dms/0.1.0",
                last_seen=NOW,
            ),
            peers.PeerView(
                GAMMA, "gamma\x1b[31m", peers.PeerState.KNOWN, "last connection lost", last_seen=NOW - 4000, failures=1
            ),
        )
        return {
            view.peer_id: msgspec.structs.replace(
                view, state=peers.PeerState.BANNED, detail=f"for {self.banned[view.peer_id]} s"
            )
            if self.banned.get(view.peer_id)
            else view
            for view in known
        }

    def _peer(self, given: str) -> PeerId:
        return PeerId(match_peer(given, {peer: view.name for peer, view in self._peers().items()}))

    async def peers_show(self, params: peers.PeerParams) -> peers.PeerView:
        return self._peers()[self._peer(params.peer)]

    async def peers_list(self) -> peers.PeerList:
        return peers.PeerList(tuple(self._peers().values()))

    async def peers_join(self, params: peers.JoinParams) -> peers.Joined:
        if not params.invite.startswith("dms1"):
            raise UserError("bad_invite", "this is not a join string", hint="dms invite prints one")
        if params.invite.startswith("dms1:lab") and params.invite not in self.moved:
            raise UserError("other_market", "the invitation is to the market 'lab'; this node is in 'public'")
        self.joined.append(params.invite)
        return peers.Joined(self._peers()[ALPHA], 3)

    async def peers_move(self, params: peers.JoinParams) -> peers.Moved:
        self.moved.append(params.invite)
        return peers.Moved("lab", "public")

    async def peers_invite(self, params: peers.InviteParams) -> peers.Invite:
        del params
        return peers.Invite("dms1qqqq", ("/ip4/192.0.2.7/tcp/4600",), "only machines on this network can use it")

    async def peers_ping(self, params: peers.PingParams) -> peers.PingResult:
        peer = self._peer(params.peer)
        lost = params.count if peer == GAMMA else 0
        return peers.PingResult(
            peer,
            self._peers()[peer].name,
            (800,) * (params.count - lost),
            lost,
            peer == BETA,
            "/ip4/192.0.2.8/tcp/4600",
        )

    async def peers_ban(self, params: peers.BanParams) -> peers.PeerView:
        peer = self._peer(params.peer)
        self.banned[peer] = params.seconds
        return self._peers()[peer]

    # --------------------------------------------------------------------------------------------------- events.* doctor.*

    async def job_submit(self, params: jobs.SubmitParams) -> jobs.Submitted:
        submitted = await super().job_submit(params)
        self._note(submitted.job_id, "RequestOpened", submitted.job_id)
        return submitted

    async def _events(self) -> list[events.EventView]:
        last = self.log.last
        found: list[events.EventView] = []
        async for item in self.log.follow():
            found.append(item)
            if item.id == last:
                break
        return found

    async def events_query(self, params: events.EventQuery) -> events.EventList:
        found = [
            item
            for item in await self._events()
            if (not params.kinds or item.kind in params.kinds)
            and item.stream.startswith(params.stream)
            and item.id > params.after_seq
        ]
        shown = found[-params.limit :] if params.newest else found[: params.limit]
        return events.EventList(tuple(shown), self.log.last)

    async def events_verify(self) -> events.VerifyReport:
        return events.VerifyReport(True, self.log.last, "ab" * 32)

    async def events_trace(self, params: events.TraceParams) -> events.Trace:
        job = self._job(params.job_id)
        steps = [
            events.TraceStep(item.id, item.at, item.stream, item.kind, item.cause_id, "the job was submitted")
            for item in await self._events()
            if item.stream == job
        ]
        return events.Trace(job, tuple(steps))

    async def audit_export(self, params: audit.AuditExportParams) -> audit.AuditFile:
        job, signer = self._job(params.job_id), Signer(KEY)
        header = Header(1, FORM, job, signer.peer_id, NOW, (Party(signer.peer_id, signer.public_key),))
        return audit.AuditFile(job, signer.peer_id, 0, written(header, (), signer).decode())

    async def watch_events(self, params: events.WatchEventsParams) -> AsyncIterator[events.EventView]:
        async for item in self.log.follow(params.since):
            if not params.kinds or item.kind in params.kinds:
                yield item

    async def doctor_run(self, params: events.DoctorParams) -> events.DoctorReport:
        return events.DoctorReport(
            tuple(check for check in self.checks if not params.only or check.name in params.only)
        )
