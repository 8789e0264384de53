"""The world of the actors without a loop, threads, processes or a network: everything comes back as a message, later, as the seed says.

Frames are sealed and opened for real; only what carries them is played. What a node's machine keeps when the node dies is in `SeededMachine`:
its log, and the runs that go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from dms_actors.directory import Directory
from dms_actors.letters import Delivered, Told
from dms_actors.ports import FrameReceived, GossipReceived, NewEvent, PeerDown, PeerUp, StoredEvent
from dms_actors.testing.event_log import MemoryEventLog
from dms_actors.testing.seeded import SeededLoop, SeededRuntime
from dms_proto.allocation.resizing import SizeSet
from dms_proto.allocation.stimuli import InputsArrived, NodeRestarted, OutputsStored, RunExited, RunStarted
from dms_proto.grants.trust import Renew
from dms_proto.ids import AllocationId, MessageId, PeerId, RequestId, digest_of
from dms_proto.machine import Stimulus
from dms_proto.market.auction_effects import Compare
from dms_proto.market.auction_stimuli import Collected
from dms_proto.market.auction_terms import Given
from dms_proto.messages import AllocationStatus, AnyMessage, BidRequest, Revocation
from dms_proto.sim.comparing import compared
from dms_proto.wire import Signer, seal
from dms_proto.work import Ending, EndReason, Output, Task, Usage

TOPIC: Final = "seeded"
TTL_MS: Final = 60_000
R = TypeVar("R")


def finish(coroutine: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that never waits, such as those of `MemoryEventLog`."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: R = stop.value
        return result
    raise AssertionError("it waits for something")


class SeededRun(msgspec.Struct):
    """A program that runs on a machine, whether its node is alive or not."""

    handle: str
    ends_at: int
    ending: Ending
    is_over: bool = False
    frozen_at: int | None = None

    def thaw(self, now: int) -> None:
        """It goes on; its time stood still."""
        if self.frozen_at is not None:
            self.ends_at += now - self.frozen_at
            self.frozen_at = None


class SeededMachine:
    """What outlives the node's process.

    Attributes:
        executions: how often each allocation was handed to the executor: never twice.
    """

    def __init__(self, loop: SeededLoop, number: int = 0) -> None:
        self.number = number
        self.log = MemoryEventLog(lambda: loop.now)
        self.runs: dict[AllocationId, SeededRun] = {}
        self.executions: Counter[AllocationId] = Counter()


class SeededJournal:
    """Implements `draft.Journal` over a log. What no promise rests on waits a little for the next promise, and dies with the process."""

    def __init__(self, log: MemoryEventLog, runtime: SeededRuntime) -> None:
        self._log = log
        self._runtime = runtime
        self._soon: list[NewEvent] = []

    def append(self, events: Sequence[NewEvent]) -> None:
        """See `Journal.append`."""
        finish(self._log.append([*self._soon, *events]))
        self._soon.clear()

    def append_soon(self, events: Sequence[NewEvent]) -> None:
        """See `Journal.append_soon`."""
        if self._log.fault is not None:
            raise self._log.fault
        if not self._soon:
            self._runtime.later(10, self._on_time)
        self._soon.extend(events)

    def read_stream(self, stream: str, *, since: str = "") -> Sequence[StoredEvent]:
        """See `Journal.read_stream`."""
        if any(event.stream == stream for event in self._soon):
            self.append(())
        return finish(self._log.read_stream(stream, since=since))

    def pending(self, stream: str) -> list[NewEvent]:
        """What is not written yet."""
        return [event for event in self._soon if event.stream == stream]

    @property
    def is_written(self) -> bool:
        """Whether everything is in the log."""
        return not self._soon

    def _on_time(self) -> None:
        if self._log.fault is not None:
            self._runtime.later(1_000, self._on_time)
        elif self._soon:
            self.append(())


class Listener(Protocol):
    """Whoever hears what the network says."""

    def tell(self, message: object) -> object:
        """Something has come."""
        ...


class SeededFabric:
    """Carries frames between the nodes that are up: late, out of order, twice, or not at all.

    Attributes:
        loss, doubling: how likely that is for each frame, 0 to 1.
        up: the node actors that are alive, and their processes; or others that listen, of none.
        remotes: the IP addresses that nodes are seen to come from; none for who is not named.
    """

    def __init__(self, loop: SeededLoop) -> None:
        self.loop = loop
        self.loss = 0.0
        self.doubling = 0.0
        self.up: dict[PeerId, tuple[SeededRuntime | None, Listener]] = {}
        self.remotes: dict[PeerId, str] = {}
        self.links: dict[frozenset[PeerId], None] = {}  # not a set: its order must not depend on how strings are hashed
        self.cuts: set[frozenset[PeerId]] = set()

    def send(self, sender: PeerId, receiver: PeerId, frame: bytes, topic: str = "") -> None:
        """Puts a frame on its way."""
        rng = self.loop.rng
        if frozenset((sender, receiver)) not in self.links or rng.random() < self.loss:
            return
        event = GossipReceived(topic, sender, frame) if topic else FrameReceived(sender, frame)
        for _ in range(2 if rng.random() < self.doubling else 1):
            self.loop.later(rng.randint(1, 30), lambda: self._tell(sender, receiver, event))

    def connect(self, one: PeerId, other: PeerId) -> None:
        """Opens a link, if both are up and nothing is cut."""
        link = frozenset((one, other))
        if one == other or link in self.links or link in self.cuts or not {one, other} <= self.up.keys():
            return
        self.links[link] = None
        for here, there in ((one, other), (other, one)):
            self._hear(here, self.seen(there))

    def disconnect(self, one: PeerId, other: PeerId, reason: str = "lost") -> None:
        """Closes a link; who is up hears of it a little later."""
        link = frozenset((one, other))
        if link in self.links:
            del self.links[link]
            for here, there in ((one, other), (other, one)):
                self._hear(here, PeerDown(there, reason))

    def seen(self, peer: PeerId) -> PeerUp:
        """What others are told of a peer that is connected."""
        return PeerUp(peer, (f"/memory/{peer}/p2p/{peer}",), remote=self.remotes.get(peer, ""))

    def links_of(self, peer: PeerId) -> list[PeerId]:
        """Whom a node is linked with."""
        return [other for link in self.links for other in sorted(link) if peer in link and other != peer]

    def _hear(self, peer: PeerId, event: object) -> None:
        if peer in self.up:
            runtime, node = self.up[peer]
            self.loop.later(self.loop.rng.randint(1, 5), lambda: node.tell(event), runtime)

    def _tell(self, sender: PeerId, receiver: PeerId, event: object) -> None:
        if frozenset((sender, receiver)) in self.links and receiver in self.up:
            self.up[receiver][1].tell(event)


class SeededPost:
    """Implements `world.Post`.

    Attributes:
        anchors: of which issuers a peer wants to see a grant.
        grants: what this node has to show, by issuer.
    """

    def __init__(self, signer: Signer, fabric: SeededFabric, runtime: SeededRuntime) -> None:
        self._signer = signer
        self._fabric = fabric
        self._runtime = runtime
        self.anchors: dict[PeerId, tuple[PeerId, ...]] = {}
        self.grants: dict[PeerId, bytes] = {}
        self.to_self: Callable[[Delivered], object] = lambda _message: None

    def send(self, peer: PeerId, message: AnyMessage, cause_id: str) -> bytes:
        """See `Post.send`."""
        if peer == self._signer.peer_id:
            self.to_self(Delivered(message, cause_id))
            return b""
        frame = self._sealed(message, cause_id, (peer,), to=peer)
        self._fabric.send(self._signer.peer_id, peer, frame)
        return frame

    def announce(self, message: BidRequest, peers: Sequence[PeerId], *, gossip: bool, cause_id: str) -> None:
        """See `Post.announce`."""
        me = self._signer.peer_id
        frame = self._sealed(message, cause_id, peers, topic=TOPIC)
        for peer in peers:
            if peer == me:
                self.to_self(Delivered(message, cause_id))
            else:
                self._fabric.send(me, peer, frame)
        for peer in tuple(self._fabric.up) if gossip else ():
            self._fabric.send(me, peer, frame, TOPIC)

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """See `Post.learn`."""

    def learn_revocations(self, revocations: Sequence[Revocation]) -> None:
        """See `Post.learn_revocations`."""

    def learn_anchors(self, peer: PeerId, anchors: Sequence[PeerId]) -> None:
        """See `Post.learn_anchors`."""
        self.anchors[peer] = tuple(anchors)

    def dial(self, peer: PeerId, addresses: Sequence[str], giver: PeerId) -> None:
        """See `Post.dial`."""
        self._runtime.later(5, lambda: self._fabric.connect(self._signer.peer_id, peer))

    def drop(self, peer: PeerId, why: str) -> None:
        """See `Post.drop`."""
        self._fabric.disconnect(self._signer.peer_id, peer, "banned")

    def spare(self, peer: PeerId, until: int) -> None:
        """See `Post.spare`. Nobody is asked for any here."""

    def inherit(self, old: PeerId, new: PeerId) -> None:
        """See `Post.inherit`. Keys are not replaced here."""

    def _sealed(
        self, message: AnyMessage, cause: str, peers: Sequence[PeerId], *, to: str = "", topic: str = ""
    ) -> bytes:
        id_, sent = MessageId(self._runtime.loop.rng.randbytes(16)), self._runtime.clock()
        issuers = (issuer for peer in peers for issuer in self.anchors.get(peer, ()))
        auth = next((self.grants[issuer] for issuer in issuers if issuer in self.grants), b"")
        return seal(self._signer, message, id=id_, sent=sent, ttl_ms=TTL_MS, to=to, topic=topic, cause=cause, auth=auth)


class SeededRenewals:
    """Implements `world.Renewals`: no grant is kept here."""

    def give(self, wanted: Renew, cause_id: str) -> None:
        """See `Renewals.give`."""

    def keep(self, sender: PeerId, grant: bytes) -> None:
        """See `Renewals.keep`."""


class SeededWorkbench:
    """Implements `world.Workbench`. A task's command is `("work", MILLISECONDS, REASON)`: what running it comes to."""

    def __init__(self, machine: SeededMachine, runtime: SeededRuntime, allocations: Directory) -> None:
        self._machine = machine
        self._runtime = runtime
        self._allocations = allocations

    def fetch_inputs(self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task) -> None:
        """See `Workbench.fetch_inputs`."""
        self._tell_later(allocation_id, InputsArrived())

    def execute(
        self,
        allocation_id: AllocationId,
        request_id: RequestId,
        requester: PeerId,
        task: Task,
        *,
        gives_way: bool,
    ) -> None:
        """See `Workbench.execute`."""
        _, millis, reason = task.command
        code = 0 if reason == EndReason.COMPLETED else 1
        ending = Ending(EndReason(reason), code, usage=Usage(wall_ms=int(millis)))
        self._machine.executions[allocation_id] += 1
        run = SeededRun(f"run {allocation_id}", self._runtime.loop.now + int(millis), ending)
        self._machine.runs[allocation_id] = run
        self._tell_later(allocation_id, RunStarted(run.handle))
        self._watch(allocation_id, run)

    def adopt(
        self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task, handle: str
    ) -> None:
        """See `Workbench.adopt`."""
        run = self._machine.runs.get(allocation_id)
        self._tell_later(allocation_id, NodeRestarted(run is not None))
        if run is not None:
            self._watch(allocation_id, run)

    def stop(self, allocation_id: AllocationId, grace_ms: int) -> None:
        """See `Workbench.stop`."""
        run = self._machine.runs.get(allocation_id)
        if run is not None and not run.is_over:
            run.thaw(self._runtime.loop.now)
            run.ending = Ending(EndReason.CANCELLED, 143)
            run.ends_at = min(run.ends_at, self._runtime.loop.now + self._runtime.loop.rng.randint(0, 50))
            self._watch(allocation_id, run)

    def freeze(self, allocation_id: AllocationId, until: int) -> None:
        """See `Workbench.freeze`."""
        run = self._machine.runs.get(allocation_id)
        if run is not None and run.frozen_at is None:
            run.frozen_at = self._runtime.loop.now

    def thaw(self, allocation_id: AllocationId) -> None:
        """See `Workbench.thaw`."""
        run = self._machine.runs.get(allocation_id)
        if run is not None and run.frozen_at is not None:
            run.thaw(self._runtime.loop.now)
            self._watch(allocation_id, run)

    def resize(self, allocation_id: AllocationId, number: int, task: Task) -> None:
        """See `Workbench.resize`."""
        self._tell_later(allocation_id, SizeSet(number))

    def store_outputs(self, allocation_id: AllocationId, requester: PeerId, task: Task | None) -> None:
        """See `Workbench.store_outputs`."""
        size = 1_000 + self._machine.number  # a little different on each machine
        outputs = (Output("out", digest_of(b"%d" % size), size),) if task is not None and task.outputs else ()
        self._tell_later(allocation_id, OutputsStored(outputs))

    def offer_outputs(self, allocation_id: AllocationId, requester: PeerId, outputs: tuple[Output, ...]) -> None:
        """See `Workbench.offer_outputs`."""

    def close(self, allocation_id: AllocationId) -> None:
        """See `Workbench.close`."""
        self._machine.runs.pop(allocation_id, None)

    def _watch(self, allocation_id: AllocationId, run: SeededRun) -> None:
        def look() -> None:
            if run.frozen_at is not None:
                return None  # watched again when it is thawed
            if self._runtime.loop.now < run.ends_at:
                return self._runtime.later(run.ends_at - self._runtime.loop.now, look)
            run.is_over = True
            return self._tell_later(allocation_id, RunExited(run.ending))

        self._runtime.later(40, look)  # after whatever has been told of its start

    def _tell_later(self, allocation_id: AllocationId, stimulus: Stimulus) -> None:
        delay = self._runtime.loop.rng.randint(0, 30)
        self._runtime.later(delay, lambda: self._allocations.tell(allocation_id, Told(stimulus, "workbench")))


class SeededCollector:
    """Implements `world.Collector`."""

    def __init__(self, runtime: SeededRuntime, orchestrators: Directory) -> None:
        self._runtime = runtime
        self._orchestrators = orchestrators
        self.expected: dict[RequestId, set[AllocationId]] = {}

    def expect(self, request_id: RequestId, provider: PeerId, allocation_id: AllocationId, task: Task) -> None:
        """See `Collector.expect`."""
        self.expected.setdefault(request_id, set()).add(allocation_id)

    def forget(self, request_id: RequestId) -> None:
        """See `Collector.forget`."""
        self.expected.pop(request_id, None)

    def collect(self, request_id: RequestId, provider: PeerId, status: AllocationStatus) -> None:
        """See `Collector.collect`."""
        told = Told(Collected(status.allocation_id), "collector")
        self._runtime.later(self._runtime.loop.rng.randint(1, 50), lambda: self._orchestrators.tell(request_id, told))

    def is_complete(self, status: AllocationStatus) -> bool:
        """See `Collector.is_complete`."""
        return self._runtime.loop.rng.random() < 0.5

    def compare(self, request_id: RequestId, wanted: Compare) -> None:
        """See `Collector.compare`."""
        told = Told(compared(wanted), "collector")
        self._runtime.later(self._runtime.loop.rng.randint(1, 50), lambda: self._orchestrators.tell(request_id, told))

    def is_here(self, given: Given) -> bool:
        """See `Collector.is_here`."""
        del given
        return self._runtime.loop.rng.random() < 0.5
