"""What the node says of itself. Apart from `node`, so that `dms status` need not load everything jobs and markets are made of."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from dms_proto.capability import NOTHING, Capability, Resources
from dms_proto.ids import NodeId
from dms_proto.rules import Amount


class NodeState(StrEnum):
    """What the node does with new work."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"


class Trouble(msgspec.Struct, frozen=True):
    """Something that keeps the node from working as it should.

    Attributes:
        code: stable, as in docs/reference/errors.md.
        message: what, with evidence.
        hint: the next step.
    """

    code: str
    message: str
    hint: str = ""


class NetworkFigures(msgspec.Struct, frozen=True):
    """The network as this node sees it.

    Attributes:
        up: whether the network process listens.
        addresses: announced multiaddrs.
        connected: peers with an open connection.
        known: peers heard of.
        relayed: of those connected, how many only through a relay.
        restarts: times the network process was started again.
    """

    up: bool = False
    addresses: tuple[str, ...] = ()
    connected: int = 0
    known: int = 0
    relayed: int = 0
    restarts: int = 0


class Pressure(msgspec.Struct, frozen=True):
    """What other programs leave free, against what the ledger thinks is free.

    Attributes:
        withheld: whether the node does not bid because of it.
        detail: one line with the figures.
        others: what other programs use.
    """

    withheld: bool = False
    detail: str = ""
    others: Resources = NOTHING


class GpuFigures(msgspec.Struct, frozen=True):
    """What is used of one GPU now, by whomever, as its driver tells it.

    Attributes:
        device: as it is offered.
        busy_percent: of the last moment, in which something ran on it; None: not told, as for a hardware instance.
        memory_bytes: of its memory in use.
        processes: programs that compute on it.
    """

    device: str
    busy_percent: int | None
    memory_bytes: int
    processes: int


class CapabilityStatus(msgspec.Struct, frozen=True):
    """The capacity ledger: registered = available + locked + allocated.

    Attributes:
        registered: what the owner offers of the machine.
        available: neither locked nor allocated.
        locked: behind bids that can still be taken.
        allocated: in use by allocations.
        free: what bids may take now: `available` less what is withheld because other programs use it.
        pressure: of other programs on this machine.
        offer: everything else that is offered: executors, price, labels.
        gpus: what is used of the GPUs, in `node.capability` alone; of invented ones, and where no driver tells, there are no figures.
    """

    registered: Resources
    available: Resources
    locked: Resources
    allocated: Resources
    free: Resources
    pressure: Pressure = Pressure()
    offer: Capability = Capability()
    gpus: tuple[GpuFigures, ...] = ()


class MarketFigures(msgspec.Struct, frozen=True):
    """The node as a provider, since it was onboarded.

    Attributes:
        heard: bid requests heard.
        bids: bids made.
        declines: requests declined.
        won: bids that were taken.
        earned: micro-credits owed to this node for ended allocations.
        standing: requests that wait here until capacity is free.
        forgotten: of such requests, how many were forgotten since there were too many; who asks for them asks again.
    """

    heard: int = 0
    bids: int = 0
    declines: int = 0
    won: int = 0
    earned: int = 0
    standing: int = 0
    forgotten: int = 0


class WorkFigures(msgspec.Struct, frozen=True):
    """The node at work, for others and for its owner.

    Attributes:
        running: allocations running here now.
        jobs_open: the owner's jobs that have not ended.
        jobs_waiting: of those, jobs with nothing running yet.
        jobs_done: ended as completed.
        jobs_failed: ended otherwise.
        spent: micro-credits owed for the owner's jobs.
    """

    running: int = 0
    jobs_open: int = 0
    jobs_waiting: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0
    spent: int = 0


class NodeStatus(msgspec.Struct, frozen=True):
    """A node at a glance.

    Attributes:
        id: all its names.
        name: chosen by its owner.
        version: of dms.
        state: whether it takes new work.
        pid: of the node process.
        home: its directory.
        started_at: Unix ms.
        now: Unix ms.
        events: facts in the store.
        healthy: nothing is wrong; `troubles` is empty.
        troubles: what is wrong, worst first.
        network: connections.
        capability: the ledger.
        market: as a provider.
        work: allocations and jobs.
        provides: whether its owner lets it take work at all (`provider.enabled`).
        mishaps: messages, and what follows from them, that it could not handle and left out since its start; `dms doctor` says more of the last.
        owner: why the machine is its owner's now, and the work of others gives way; empty while it does not.
    """

    id: NodeId
    name: str
    version: str
    state: NodeState
    pid: int
    home: str
    started_at: int
    now: int
    events: int
    healthy: bool
    troubles: tuple[Trouble, ...]
    network: NetworkFigures
    capability: CapabilityStatus
    market: MarketFigures
    work: WorkFigures
    provides: bool = True
    mishaps: int = 0
    owner: str = ""


class Figure(msgspec.Struct, frozen=True):
    """One measured figure.

    Attributes:
        name: such as "cpu_single".
        value: in `unit`.
        unit: such as "ops/s" or "MiB/s".
        tolerance: relative difference by which repeats may differ, such as 0.1.
    """

    name: str
    value: float
    unit: str
    tolerance: float = 0.0


class BenchmarkReport(msgspec.Struct, frozen=True):
    """What was measured, how and when.

    Attributes:
        method: name of the method.
        version: of the method; figures of different versions do not compare.
        at: Unix ms.
        took_ms: duration.
        figures: each with its unit and tolerance.
        capability: what follows from it.
        notes: what made it less certain, such as other load.
    """

    method: str
    version: str
    at: int
    took_ms: int
    figures: tuple[Figure, ...]
    capability: Capability
    notes: tuple[str, ...] = ()


class StateChange(msgspec.Struct, frozen=True):
    """What the node does now.

    Attributes:
        state: the new state.
        running: allocations that still run here.
    """

    state: NodeState
    running: Amount = 0
