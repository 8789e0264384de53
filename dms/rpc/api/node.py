"""node.*: what this node is, what it offers, what it prefers."""

from __future__ import annotations

from typing import Protocol

import msgspec

from dms.rpc.api.allocations import AllocationParams, AllocationView
from dms.rpc.api.market import BidList
from dms.rpc.api.status import (
    BenchmarkReport,
    CapabilityStatus,
    Figure,
    GpuFigures,
    MarketFigures,
    NetworkFigures,
    NodeState,
    NodeStatus,
    Pressure,
    StateChange,
    Trouble,
    WorkFigures,
)
from dms.rpc.registry import method
from dms_proto.capability import Capability, Resources
from dms_proto.ids import AllocationId, NodeId, PeerId
from dms_proto.market.preferences import Preferences
from dms_proto.messages import Invocation, Phase
from dms_proto.rules import Amount

__all__ = [
    "AllocationState",
    "BenchmarkParams",
    "BenchmarkReport",
    "BidRequestParams",
    "CapabilityParams",
    "CapabilityStatus",
    "Figure",
    "GpuFigures",
    "LockList",
    "LockParams",
    "LockView",
    "MarketFigures",
    "NetworkFigures",
    "NodeMethods",
    "NodeState",
    "NodeStatus",
    "PreferencesParams",
    "Pressure",
    "ResourcesParams",
    "Route",
    "StartParams",
    "Started",
    "StateChange",
    "StopParams",
    "Trouble",
    "WorkFigures",
]


class BenchmarkParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to measure.

    Attributes:
        register: whether to offer what was measured from now on.
    """

    register: bool = True


class CapabilityParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A capability to set.

    Attributes:
        capability: the new value.
        dry_run: say what would follow, change nothing.
    """

    capability: Capability
    dry_run: bool = False


class ResourcesParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Amounts to set.

    Attributes:
        resources: the new value.
        dry_run: say what would follow, change nothing.
    """

    resources: Resources
    dry_run: bool = False


class LockParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A capability lock to take.

    Attributes:
        pod: whom for: any name the caller will know it by.
        capability: what to hold; only its resources are counted.
        valid_ms: after which it lapses.
    """

    pod: str
    capability: Capability
    valid_ms: Amount = 10_000


class LockView(msgspec.Struct, frozen=True):
    """A capability lock.

    Attributes:
        id: of the bid it stands behind, or of its own.
        owner: request id or pod.
        requester: the node it is for; empty for a pod of this node's owner.
        resources: what is held.
        expires_at: Unix ms.
    """

    id: str
    owner: str
    requester: str
    resources: Resources
    expires_at: int


class LockList(msgspec.Struct, frozen=True):
    """Capability locks.

    Attributes:
        locks: oldest first.
    """

    locks: tuple[LockView, ...]


class PreferencesParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Preferences to set.

    Attributes:
        preferences: how this node's own requests compare bids.
        dry_run: check only.
    """

    preferences: Preferences
    dry_run: bool = False


class BidRequestParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bid request.

    Attributes:
        bid_request_id: its id, or a unique beginning of it.
    """

    bid_request_id: str


class Route(msgspec.Struct, frozen=True):
    """The way to an allocation.

    Attributes:
        allocation_id: the allocation.
        provider: the node that runs it.
        here: whether that is this node.
        connected: whether there is an open connection.
        relayed: whether it goes through a relay.
        addresses: where the node can be dialled.
    """

    allocation_id: AllocationId
    provider: PeerId
    here: bool
    connected: bool
    relayed: bool
    addresses: tuple[str, ...] = ()


class AllocationState(msgspec.Struct, frozen=True):
    """Where an allocation is in its life.

    Attributes:
        allocation_id: the allocation.
        phase: of its life.
        alive: whether something of it runs.
        checked_at: Unix ms of the observation.
    """

    allocation_id: AllocationId
    phase: Phase
    alive: bool
    checked_at: int


class StartParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An invocation for an allocation committed to this node.

    Attributes:
        invocation: what to start.
    """

    invocation: Invocation


class Started(msgspec.Struct, frozen=True):
    """The answer to an invocation.

    Attributes:
        allocation_id: the allocation.
        refused: why it will not start; empty when it will.
    """

    allocation_id: AllocationId
    refused: str = ""


class StopParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to stop the node.

    Attributes:
        grace_ms: how long running allocations may take to end; then they are stopped.
    """

    grace_ms: Amount = 0


class NodeMethods(Protocol):
    """The node itself: design section 4 under its names."""

    @method("node.status")
    async def node_status(self) -> NodeStatus:
        """The node at a glance: identity, health, connections, capacity, work."""
        ...

    @method("node.identity")
    async def node_identity(self) -> NodeId:
        """All names of this node: UUID, CID, PeerID and DID; the last three follow from its public key."""
        ...

    @method("node.capability")
    async def node_capability(self) -> CapabilityStatus:
        """The capacity ledger and what presses on it."""
        ...

    @method("node.benchmark_capability", mutates=True)
    async def node_benchmark_capability(self, params: BenchmarkParams) -> BenchmarkReport:
        """Measures this machine (at most 10 s) and, unless told not to, registers what it found."""
        ...

    @method("node.set_registered_capability", mutates=True)
    async def node_set_registered_capability(self, params: CapabilityParams) -> CapabilityStatus:
        """Sets what this node offers. Never below what is locked or allocated: the surplus leaves as it is freed."""
        ...

    @method("node.get_registered_capability")
    async def node_get_registered_capability(self) -> Capability:
        """What this node offers when nothing is in use."""
        ...

    @method("node.set_available_capability", mutates=True)
    async def node_set_available_capability(self, params: ResourcesParams) -> CapabilityStatus:
        """Sets what is free for bids now; what is registered changes with it, so that the capacity law holds."""
        ...

    @method("node.get_available_capability")
    async def node_get_available_capability(self) -> Capability:
        """What this node offers now: registered, less what is locked and allocated."""
        ...

    @method("node.lock_capability", mutates=True)
    async def node_lock_capability(self, params: LockParams) -> LockView:
        """Holds capacity for a named purpose until it is committed, released or lapses."""
        ...

    @method("node.get_locked_capabilities")
    async def node_get_locked_capabilities(self) -> LockList:
        """The capability locks that stand now, and for whom."""
        ...

    @method("node.set_preferences", mutates=True)
    async def node_set_preferences(self, params: PreferencesParams) -> Preferences:
        """Sets how this node's requests compare bids when the job does not say."""
        ...

    @method("node.get_preferences")
    async def node_get_preferences(self) -> Preferences:
        """How this node's requests compare bids."""
        ...

    @method("node.get_registered_bids")
    async def node_get_registered_bids(self, params: BidRequestParams) -> BidList:
        """The bids received for one of this node's requests, as they stand."""
        ...

    @method("node.get_allocation")
    async def node_get_allocation(self, params: AllocationParams) -> AllocationView:
        """One allocation, whichever side of it this node is on."""
        ...

    @method("node.check_allocation_status")
    async def node_check_allocation_status(self, params: AllocationParams) -> AllocationState:
        """Where an allocation is in its life; for one that runs here, whether its processes are there."""
        ...

    @method("node.route_to_allocation")
    async def node_route_to_allocation(self, params: AllocationParams) -> Route:
        """Which node runs an allocation and how it is reached."""
        ...

    @method("node.start_allocation", mutates=True)
    async def node_start_allocation(self, params: StartParams) -> Started:
        """Starts the work in an allocation committed to this node."""
        ...

    @method("node.pause", mutates=True)
    async def node_pause(self) -> StateChange:
        """Takes no new work; what runs goes on."""
        ...

    @method("node.resume", mutates=True)
    async def node_resume(self) -> StateChange:
        """Takes new work again."""
        ...

    @method("node.stop", mutates=True)
    async def node_stop(self, params: StopParams) -> StateChange:
        """Stops the node. The answer comes before the socket closes."""
        ...
