"""What actors have done for them, together the `World`.

But for the journal and the survey all calls return at once and may come from any thread; outcomes come back as stimuli, by `tell`.

The node process implements these over its ports (`dms.node`); the seeded runtime's tests over their in-memory twins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from dms_actors.directory import Directory
from dms_actors.draft import Journal
from dms_actors.letters import AttemptNoted, BenchmarkNoted
from dms_actors.mishaps import Mishaps
from dms_proto.capability import Resources
from dms_proto.grants.trust import ReadGrant, Renew
from dms_proto.ids import AllocationId, Digest, PeerId, RequestId
from dms_proto.market.auction_effects import Compare
from dms_proto.market.auction_events import ResultJudged
from dms_proto.market.auction_terms import Given
from dms_proto.market.obligations import Obligations
from dms_proto.market.seekers import Seekers
from dms_proto.market.workload import Workload
from dms_proto.membership.machine import Inherit
from dms_proto.messages import (
    AllocationMessage,
    AllocationStatus,
    AnyMessage,
    BidRequest,
    DatasetHeld,
    DatasetWanted,
    Holders,
    HoldersWanted,
    Revocation,
    Serve,
)
from dms_proto.pool.placement import Placement
from dms_proto.pool.records import CallId, ContainerId, Image, VirtualId
from dms_proto.pool.refusals import Refusal
from dms_proto.tabs.used import TabReady
from dms_proto.work import Output, Task


class Post(Protocol):
    """Messages to other nodes, signed and sent."""

    def send(self, peer: PeerId, message: AnyMessage, cause_id: str) -> bytes:
        """Sends to one peer; to this node itself it comes back through the mailbox. Undeliverable: dropped, the machines repeat.

        Returns the signed frame; nothing for this node itself, or if no frame could be made.
        """
        ...

    def announce(self, message: BidRequest, peers: Sequence[PeerId], *, gossip: bool, cause_id: str) -> None:
        """Signs a bid request once, sends it straight to `peers` and, if `gossip`, to the topic."""
        ...

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Remembers where a peer that is not connected may be reached with an answer."""
        ...

    def learn_revocations(self, revocations: Sequence[Revocation]) -> None:
        """Notes which grants that this node holds are void, by the word of whoever may say so."""
        ...

    def learn_anchors(self, peer: PeerId, anchors: Sequence[PeerId]) -> None:
        """Remembers one of whose grants a peer wants to see; none: it asks for none."""
        ...

    def dial(self, peer: PeerId, addresses: Sequence[str], giver: PeerId) -> None:
        """Tries to connect. `giver`: who said that it is there, the peer itself or another one."""
        ...

    def drop(self, peer: PeerId, why: str) -> None:
        """Closes the connections to a peer and refuses it for a while."""
        ...

    def spare(self, peer: PeerId, until: int) -> None:
        """Asks a peer for no proof of work until a time (Unix ms); one that is over ends it."""
        ...

    def inherit(self, old: PeerId, new: PeerId) -> None:
        """A peer has a new name: it is refused for as long as it was under the old one. A repeat changes nothing."""
        ...


class Workbench(Protocol):
    """The provider's hands: inputs, runs, outputs. Outcomes are told to the allocation."""

    def fetch_inputs(self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task) -> None:
        """Leads to `InputsArrived`."""
        ...

    def execute(
        self,
        allocation_id: AllocationId,
        request_id: RequestId,
        requester: PeerId,
        task: Task,
        *,
        gives_way: bool,
    ) -> None:
        """Leads to `RunStarted`, `RunUsed` …, `RunExited`; logs go straight to the requester. `gives_way`: see `Executor.run`."""
        ...

    def adopt(
        self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task, handle: str
    ) -> None:
        """After a restart: leads to `NodeRestarted`, and if it is alive, to the same as `execute` except for `RunStarted`."""
        ...

    def stop(self, allocation_id: AllocationId, grace_ms: int) -> None:
        """Leads to `RunExited`."""
        ...

    def freeze(self, allocation_id: AllocationId, until: int) -> None:
        """Freezes its run where it stands, until `until` (Unix ms) if nobody says more; leads to `FreezeFailed` if that cannot be done."""
        ...

    def thaw(self, allocation_id: AllocationId) -> None:
        """Lets its run go on."""
        ...

    def resize(self, allocation_id: AllocationId, number: int, task: Task) -> None:
        """Gives a run the limits of what `task` reserves; leads to `SizeSet`."""
        ...

    def store_outputs(self, allocation_id: AllocationId, requester: PeerId, task: Task | None) -> None:
        """Leads to `OutputsStored`; the requester may fetch them from then on."""
        ...

    def offer_outputs(self, allocation_id: AllocationId, requester: PeerId, outputs: tuple[Output, ...]) -> None:
        """After a restart: the requester may still fetch these."""
        ...

    def close(self, allocation_id: AllocationId) -> None:
        """Removes what is left of it."""
        ...


class Collector(Protocol):
    """The requester's hands: results."""

    def expect(self, request_id: RequestId, provider: PeerId, allocation_id: AllocationId, task: Task) -> None:
        """From now on logs of this allocation are accepted from this provider, and it may fetch the task's inputs."""
        ...

    def forget(self, request_id: RequestId) -> None:
        """The request is over: nothing more is expected for it."""
        ...

    def collect(self, request_id: RequestId, provider: PeerId, status: AllocationStatus) -> None:
        """Fetches outputs and missing logs of an ended allocation; leads to `Collected`."""
        ...

    def is_complete(self, status: AllocationStatus) -> bool:
        """Whether nothing is left to collect. Answers at once, from memory."""
        ...

    def compare(self, request_id: RequestId, wanted: Compare) -> None:
        """Asks a comparator about results that were collected; leads to `Compared`."""
        ...

    def is_here(self, given: Given) -> bool:
        """Whether a result that was collected some time ago is still kept."""
        ...


class Renewals(Protocol):
    """The hands that make grants anew, and keep what was made anew for this node."""

    def give(self, wanted: Renew, cause_id: str) -> None:
        """Makes a grant anew and sends it. One that cannot be made is not sent."""
        ...

    def keep(self, sender: PeerId, grant: bytes) -> None:
        """Keeps a grant in place of the one that it stands for, if `sender` has issued that one."""
        ...


class Containers(Protocol):
    """The pool's hands: processes of containers, and those who call. Outcomes are told to the pool."""

    def find(self) -> None:
        """After a start: leads to `PoolRestarted`, with the containers that are alive.

        Calls that were delivered before are over: who called is told as by `fail`. Those that were not are told to the pool once more.
        """
        ...

    def start(self, container_id: ContainerId, image: Image, size: Resources) -> None:
        """Leads to `Started` or `StartFailed`. One that is there already is not started again."""
        ...

    def stop(self, container_id: ContainerId) -> None:
        """Leads to `ContainerDied`, if only since there is none."""
        ...

    def deliver(self, call_id: CallId, container_id: ContainerId, virtual_id: VirtualId, placement: Placement) -> None:
        """Has a container work on a call: leads to `CallEnded`, or to `ContainerDied`. The caller gets the answer, and the placement with it."""
        ...

    def refuse(self, call_id: CallId, refusal: Refusal) -> None:
        """Tells whoever calls that the call was not done, and why, as far as it is their business (`Refusal.outward`)."""
        ...

    def fail(self, call_id: CallId, why: str) -> None:
        """Tells whoever calls that nobody knows how much of the call was done."""
        ...


class Paying(NamedTuple):
    """What the pool needs for calls that are paid. `me`: this node."""

    me: PeerId
    send: Callable[[PeerId, AnyMessage, str], object]
    tell_node: Callable[[object], object]
    tab_ready: Callable[[TabReady], object]
    """A tab that was wanted is open, or there is none, and why."""
    obligations: Obligations


class Survey(NamedTuple):
    """What the log says is not over: found once, at the start."""

    requests: tuple[RequestId, ...] = ()
    allocations: tuple[AllocationId, ...] = ()
    notes: tuple[AttemptNoted | BenchmarkNoted | Inherit, ...] = ()
    """What was seen of providers, and who has a new name, oldest first."""
    verdicts: tuple[tuple[RequestId, ResultJudged], ...] = ()
    """On results of this node's requests, oldest first."""


WorkOut = Callable[[bytes, int, Callable[[Digest], None]], None]
"""Works out the answer of a spot check from its seed and number of rounds, at idle, and calls with it, from any thread. Not at all, if it fails."""


DataMessage = HoldersWanted | Holders | Serve | DatasetWanted | DatasetHeld


class World(NamedTuple):
    """Everything that is done for the actors."""

    journal: Journal
    post: Post
    workbench: Workbench
    collector: Collector
    renewals: Renewals
    logs: Callable[[PeerId, AllocationMessage], None]
    """Log bytes, and the questions of who is party; they pass the actors by."""
    show_log: Callable[[PeerId, AllocationMessage, str], None]
    """Answers the question of another reader, who may read it; also given: the id of its envelope."""
    data: Callable[[PeerId, DataMessage], None]
    """What is said of who has the data of jobs; it passes the actors by."""
    calls: Callable[[object], object]
    """What is said of tabs, for the pool."""
    survey: Callable[[], Survey]
    introduce: Callable[[], object]
    """Has the network say again that it is up and who is connected: a node actor that is built anew has forgotten it."""
    read_grant: ReadGrant
    orchestrators: Directory
    allocations: Directory
    obligations: Obligations
    workload: Workload
    seekers: Seekers
    """All three on the actors' thread; they outlive each of them."""
    work_out: WorkOut
    held: Callable[[BidRequest], int]
    """Bytes of a request's data that are here; on the actors' thread."""
    mishaps: Mishaps
    """On the actors' thread; outlives each of them."""
