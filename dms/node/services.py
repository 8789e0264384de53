"""The parts of a running node, by name. Built in one place (`dms.node.assembly`), used by its local interfaces (`dms.node.api`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from dms.config import Config, Home, Identity
from dms.executors.cluster.cluster import Cluster
from dms.executors.detect import Unavailable
from dms.node.calls import Calls
from dms.node.collector import Collector
from dms.node.datasets import Datasets
from dms.node.finding import Finding
from dms.node.own_calls import OwnCalls
from dms.node.post import NodePost
from dms.node.renewals import Renewals
from dms.node.sealing import Sealer
from dms.node.tunnels import Tunnels
from dms.node.workbench import Workbench
from dms.store.blobs import BlobStore
from dms.store.events import EventStore
from dms.telemetry.counters import Counters
from dms.trust.wallet import Wallet
from dms_actors.behaviour import Address
from dms_actors.directory import Directory
from dms_actors.mishaps import Mishaps
from dms_actors.ports import Executor, Network
from dms_actors.runtime import ThreadRuntime
from dms_proto.capability import ExecutorOffer

NETWORK_DOWN: Final = "network_down"
"""Key in `Services.notes`: why the network process is down, while it is."""
GIVEN_UP: Final = "given_up"
"""Key in `Services.notes`: why the node process ends by itself."""
NETWORK_RESTARTS: Final = "network_restarts"
"""Key in `Services.notes`: how often the network process was started again."""
REACHED_BY: Final = "reached_by"
"""Key in `Services.notes`: the last peer that connected to this node, rather than was dialled by it."""
PRESSURE: Final = "pressure"
"""Key in `Services.notes`: the monitor's words for what other programs use."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """A running node, in parts.

    Attributes:
        clock: Unix ms.
        node: the Node actor; its messages are in `dms_actors.letters`.
        orchestrators, allocations: the actors of requests and allocations that are not over, by id.
        executors: what was proven to work here, by name.
        tunnels: into what runs here, and elsewhere for this node.
        calls: of others, to the services that are offered here.
        own_calls: of the owner, to services here and elsewhere.
        unavailable: what was not, and why.
        cluster: that the jobs run on; None: on this machine.
        written: returns when all that the actors have said so far is in the event store.
        mishaps: messages and effects that the actors could not handle.
        stop: asks the node process to end.
        started_at: Unix ms.
    """

    loop: asyncio.AbstractEventLoop
    clock: Callable[[], int]
    config: Config
    home: Home
    identity: Identity
    store: EventStore
    blobs: BlobStore
    datasets: Datasets
    finding: Finding
    network: Network
    runtime: ThreadRuntime
    node: Address
    orchestrators: Directory
    allocations: Directory
    post: NodePost
    wallet: Wallet
    renewals: Renewals
    sealer: Sealer
    workbench: Workbench
    collector: Collector
    tunnels: Tunnels
    calls: Calls
    own_calls: OwnCalls
    counters: Counters
    executors: Mapping[str, tuple[Executor, ExecutorOffer]]
    unavailable: tuple[Unavailable, ...]
    cluster: Cluster | None
    written: Callable[[], Awaitable[None]]
    mishaps: Mishaps
    stop: asyncio.Event
    started_at: int
    notes: dict[str, str] = field(default_factory=dict)
    """Observations for `status` and `doctor`, by topic: what the monitor says, how often the network came back."""
