"""What the groups of methods share: the node's parts, its live state, its read models, and short ids."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dms.node.feeds import Hub, JobFeeds
from dms.node.incoming import IncomingInputs
from dms.node.projecting.tables import ALLOCATIONS, JOBS, REQUESTS, text
from dms.node.services import Services
from dms.node.story import JobStory
from dms.rpc.ids import match_id, match_peer
from dms.store.projections import ProjectionRunner
from dms.store.tables import MAX_ROWS, Condition, Scalar, Table
from dms_actors.letters import ShowAhead, ShowState, Told
from dms_actors.node import NodeState
from dms_actors.runtime import ask_from_loop
from dms_proto.errors import UserError
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.owner import Owner
from dms_proto.membership.bidder import bidder_facts
from dms_proto.reputation import NOTHING_KNOWN
from dms_proto.rules import GoodAllocationId

ASK_S: Final = 10.0
"""Seconds an actor may take to answer; it answers within milliseconds unless the disk is stuck."""
Row = dict[str, Scalar]


@dataclass
class Parts:
    """What the methods work with.

    Attributes:
        services: the running node.
        runner: its read models.
        hub, feeds: what happens, as it happens.
        owner: the owner's standing word.
        inputs: of jobs that are submitted.
        bans: peers kept away by the owner, and until when (Unix ms).
        reply_to: our addresses as last seen; they are part of a bid request's size.
    """

    services: Services
    runner: ProjectionRunner
    hub: Hub
    feeds: JobFeeds
    owner: Owner
    inputs: IncomingInputs
    bans: dict[PeerId, int] = field(default_factory=dict)
    reply_to: tuple[str, ...] = ()


class Base:
    """The common part of all groups."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._services = parts.services
        self._runner = parts.runner

    @property
    def _me(self) -> PeerId:
        return self._services.identity.node_id.peer_id

    def _now(self) -> int:
        return self._services.clock()

    async def _state(self) -> NodeState:
        state: NodeState = await ask_from_loop(self._services.node, ShowState(), ASK_S)
        hello = state.membership.hello
        self._parts.reply_to = hello.addresses[:2] if hello is not None else ()
        return state

    async def _ahead(self, *jobs: RequestId) -> Mapping[RequestId, int]:
        """Which of these jobs wait for their turn, each with how many of this node's are before it."""
        ahead: Mapping[RequestId, int] = await ask_from_loop(self._services.node, ShowAhead(jobs), ASK_S)
        return ahead

    async def _wish(self, stimulus: Stimulus, cause_id: str) -> NodeState:
        """Tells the node what its owner wishes; gives the state after that.

        Raises:
            InternalError: `mailbox_full`.
            MachineError: it could not be written down.
        """
        if not self._services.node.tell(Told(stimulus, cause_id)):
            raise UserError("node_not_running", "the node is stopping", retryable=True)
        return await self._state()

    async def _job_id(self, given: str) -> RequestId:
        """The full id of a job; one that is not over is known without the read models."""
        if self._services.orchestrators.get(given) is not None:
            return RequestId(given)
        return RequestId(await self._resolve(JOBS, "request_id", given, "job"))

    async def _request_id(self, given: str) -> RequestId:
        """A request sent or heard."""
        return RequestId(await self._resolve(REQUESTS, "request_id", given, "bid request"))

    async def _traced(self, given: str) -> RequestId:
        """The request a person means: of this node, of another, or the one an allocation belongs to."""
        if given.startswith("a-"):
            return RequestId(text(await self._allocation(given), "request_id"))
        for table in (JOBS, REQUESTS, ALLOCATIONS):
            try:
                return RequestId(await self._resolve(table, "request_id", given, "job"))
            except UserError as error:
                if error.code != "not_found":
                    raise
        raise UserError(
            "not_found", f"no job {given!r} has left a trace here", hint="dms job list, dms bids --requests"
        )

    async def _allocation(self, given: str) -> Row:
        id_ = AllocationId(await self._resolve(ALLOCATIONS, "allocation_id", given, "allocation"))
        (row,) = await self._runner.query(ALLOCATIONS.name, {"allocation_id": id_}, limit=1)
        return row

    async def _resolve(self, table: Table, column: str, given: str, what: str) -> str:
        """The full id: `given` itself, or the only one among the newest that begins with it."""
        if await self._runner.query(table.name, {column: given}, limit=1):
            return given
        newest = {"jobs": "-submitted_at", "allocations": "-opened_at"}.get(table.name, "-at")
        rows = await self._runner.query(table.name, order=(newest,), limit=MAX_ROWS)
        return match_id(given, dict.fromkeys(str(row[column]) for row in rows), what)

    async def _count(self, table: Table, where: dict[str, Condition]) -> int:
        return await self._runner.count(table.name, where, as_they_are=True)

    async def _newest(self, table: Table, where: dict[str, Condition], by: str, limit: int) -> tuple[list[Row], int]:
        """The newest rows that fulfil `where`, and how many do: counted only when not all of them are here."""
        rows = await self._runner.query(table.name, where, order=(f"-{by}",), limit=limit, as_they_are=True)
        return rows, len(rows) if len(rows) < limit else await self._count(table, where)

    async def _story(self, request_id: RequestId) -> JobStory:
        return JobStory.of(request_id, await self._services.store.read_stream(request_id))

    def _peer(self, given: str, state: NodeState) -> PeerId:
        peers = state.membership.peers.values()
        return PeerId(match_peer(given, {peer.peer: peer.hello.name if peer.hello else "" for peer in peers}))

    def _facts(self, state: NodeState, peer: PeerId) -> BidderFacts:
        """What this node knows of a bidder, as the node actor does."""
        evidence = state.evidence.get(peer, NOTHING_KNOWN)
        known, aside = state.membership.peers.get(peer), state.set_aside.get(peer)
        return bidder_facts(known, evidence, self._now(), own=peer == self._me, aside=aside)


def whole_allocation_id(given: str) -> AllocationId:
    """The id of an allocation that this node need not know.

    Raises:
        UserError: `bad_argument`.
    """
    try:
        return AllocationId(msgspec.convert(given, GoodAllocationId))
    except msgspec.ValidationError:
        what = f"{given!r} is no allocation's whole id, and what another node has is not known here by a part of one"
        raise UserError(
            "bad_argument", what, hint="dms alloc list there, or dms job show where it was asked for"
        ) from None


def call_id(method: str) -> str:
    """What an owner's call is named as a cause."""
    return f"{method}:{os.urandom(6).hex()}"
