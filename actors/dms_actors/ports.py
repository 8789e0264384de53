"""Ports: what the actors need from the world, each with two real implementations that pass one contract test class.

==============  ================================  =====================================
port            adapter                           in-memory twin
==============  ================================  =====================================
`Network`       `dms.net.client.NetworkProcess`   `dms_actors.testing.MemoryNetwork`
`EventLog`      `dms.store.EventStore`            `dms_actors.testing.MemoryEventLog`
`Executor`      `dms.executors.*`                 `dms.executors.scripted`
==============  ================================  =====================================

All methods run on the node's asyncio loop, except where they say otherwise. Only immutable values cross.
"""

from __future__ import annotations

import concurrent.futures
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from dms_proto.capability import ExecutorOffer, Resources
from dms_proto.egress import Barred
from dms_proto.ids import Digest, PeerId
from dms_proto.scope import Scope
from dms_proto.secrets import OpenSecret
from dms_proto.tunnels import Target
from dms_proto.work import Ending, Task, Usage

# --------------------------------------------------------------------------------------------------------------- network


class PeerUp(msgspec.Struct, frozen=True, tag=True):
    """A peer can be reached now.

    Attributes:
        peer: it.
        addresses: dialable multiaddrs.
        relayed: whether the way goes through a relay.
        remote: the IP address at the other end, as seen from here; empty where there is none.
    """

    peer: PeerId
    addresses: tuple[str, ...] = ()
    relayed: bool = False
    remote: str = ""


class PeerDown(msgspec.Struct, frozen=True, tag=True):
    """The last connection to a peer ended. `reason`: "closed", "lost", "silent", "banned", "network_down"."""

    peer: PeerId
    reason: str


class FrameReceived(msgspec.Struct, frozen=True, tag=True):
    """A frame arrived on the peer's long-lived stream. `peer` is proven by the connection, not by the frame."""

    peer: PeerId
    frame: bytes


class GossipReceived(msgspec.Struct, frozen=True, tag=True):
    """A frame arrived on a gossip topic, forwarded by `forwarder`; its author is in the frame."""

    topic: str
    forwarder: PeerId
    frame: bytes


class PeerFound(msgspec.Struct, frozen=True, tag=True):
    """Discovery (mDNS) saw a peer; the network dials it by itself."""

    peer: PeerId
    addresses: tuple[str, ...]


class NetworkUp(msgspec.Struct, frozen=True, tag=True):
    """The network listens (again). `addresses` are what may be announced to others, each ending in /p2p/PEER."""

    addresses: tuple[str, ...]


class NetworkDown(msgspec.Struct, frozen=True, tag=True):
    """The network process died; every peer is down until the next `NetworkUp`."""

    reason: str


NetworkEvent = PeerUp | PeerDown | FrameReceived | GossipReceived | PeerFound | NetworkUp | NetworkDown


class LinkFacts(msgspec.Struct, frozen=True):
    """What is measured about the link to one peer. `rtt_us` 0: not yet measured. `inbound`: the peer dialled us. `remote` as in `PeerUp`."""

    peer: PeerId
    addresses: tuple[str, ...] = ()
    rtt_us: int = 0
    relayed: bool = False
    connected_ms: int = 0
    inbound: bool = False
    remote: str = ""


class Tunnel(Protocol):
    """A tunnel to a peer that has let us in. Its bytes never pass through the node: they flow between the peer and a socket it was joined to."""

    def join(self, end: socket.socket) -> None:
        """Lets the bytes flow between the peer and `end`, a connected stream socket that is taken over. Once.

        Either side can end its direction (`shutdown`) and go on reading. A side that does not read holds up this tunnel and nothing else.
        """
        ...

    def abort(self) -> None:
        """Breaks it off, both ways at once. Idempotent."""
        ...

    async def wait_over(self) -> str:
        """Waits until nothing flows any more. Empty when both sides have ended theirs, else why it was cut."""
        ...


AcceptTunnel = Callable[[PeerId, bytes], Awaitable[socket.socket]]
"""Decides on the opening of a peer: gives the socket that its tunnel is joined to, or refuses by raising a `DmsError`, of which code and message are
told to the peer."""


class Network(Protocol):
    """Reaching other nodes. Events are delivered by calling `listener` on the loop, in order of arrival per peer."""

    async def start(self, listener: Callable[[NetworkEvent], None]) -> tuple[str, ...]:
        """Listens and returns the announced addresses.

        Raises:
            MachineError: `port_in_use`, `network_down`.
        """
        ...

    def send(self, peer: PeerId, frame: bytes) -> bool:
        """Queues a frame for a peer; never blocks. False: not connected, or its queue (bounded) is full."""
        ...

    def publish(self, topic: str, frame: bytes) -> bool:
        """Gossips a frame on a topic this node also subscribes to. False: the network is down or the queue is full."""
        ...

    async def dial(self, addresses: Sequence[str], least: Scope = Scope.MACHINE) -> PeerId:
        """Connects to the peer named at the end of each address (/p2p/…); all addresses are tried.

        Args:
            addresses: of one peer.
            least: what has a narrower scope is not tried, whatever name leads there. Given where others have said the addresses.

        Raises:
            PeerError: `peer_unreachable`, with what each address answered.
        """
        ...

    def took(self, heard: FrameReceived | GossipReceived) -> None:
        """Is told of each frame that the listener got, once it is dealt with or dropped: a peer of which too much waits is not read further.

        From any thread.
        """
        ...

    def serve_blobs(self, open_blob: Callable[[PeerId, Digest], Path | None]) -> None:
        """Sets who may fetch what: called for each request, gives the file to stream, or None to refuse."""
        ...

    async def fetch(
        self,
        holders: Sequence[PeerId],
        digest: Digest,
        size: int,
        into: Path,
        chunks: Path | None = None,
        *,
        came: Counter[PeerId] | None = None,
    ) -> tuple[PeerId, ...]:
        """Fetches a blob into `into`, resuming a partial file, verifying the digest before it is renamed into place.

        Args:
            holders: of whom it may be had, at least one; with `chunks` of all of them at once, else of one after the other.
            digest: of the whole.
            size: bytes.
            into: where it goes.
            chunks: the list of its chunks (`dms_proto.data.chunks`), by which each is verified as it arrives.
            came: gets counted in how many bytes of each holder were kept, also when it fails.

        Returns:
            The holders that sent a wrong chunk; others gave the right one.

        Raises:
            PeerError: `peer_unreachable`, `peer_timeout`, `digest_mismatch`: no holder gave all of it; what arrived is kept.
        """
        ...

    def serve_tunnels(self, accept: AcceptTunnel) -> None:
        """Sets who gets a tunnel, and to what. Before, all are refused."""
        ...

    async def open_tunnel(self, peer: PeerId, opening: bytes) -> Tunnel:
        """Asks a peer for a tunnel; `opening`, of at most `tunnels.MAX_OPENING` bytes, says to what.

        Raises:
            PeerError: `peer_unreachable`, `peer_timeout`, or what the peer refuses with (`tunnels.REFUSALS`).
            MachineError: `network_down`.
        """
        ...

    def links(self) -> Mapping[PeerId, LinkFacts]:
        """The peers connected now."""
        ...

    def ban(self, peer: PeerId, seconds: float) -> None:
        """Closes connections to a peer and refuses it for a while; 0 seconds lifts a ban."""
        ...

    def inherit_ban(self, old: PeerId, new: PeerId) -> None:
        """A peer has a new name: a ban on the old one holds for the new one as well, for the time it has left."""
        ...

    def spare(self, peer: PeerId, seconds: float) -> None:
        """Asks a peer for no proof of work for a while, since it was let in otherwise; 0 seconds ends that."""
        ...

    async def stop(self) -> None:
        """Says goodbye to the peers and stops listening. Idempotent."""
        ...


# ----------------------------------------------------------------------------------------------------------- event store


class NewEvent(msgspec.Struct, frozen=True):
    """A fact to be written down.

    Attributes:
        stream: what it is about: a request id, an allocation id, or what docs/reference/events.md names, such as "market" (capacity and bids).
        kind: name of the event type, as in docs/reference/events.md.
        cause_id: id of the message or call that led to it.
        body: msgpack of the event.
    """

    stream: str
    kind: str
    cause_id: str
    body: bytes


class StoredEvent(msgspec.Struct, frozen=True):
    """A fact that was written down. `seq` counts over all streams from 1 without gaps, `version` within its stream from 1; `at` is Unix ms."""

    seq: int
    stream: str
    version: int
    kind: str
    at: int
    cause_id: str
    body: bytes


class EventLog(Protocol):
    """The node's memory: append-only, one writer, group commit."""

    async def append(self, events: Sequence[NewEvent]) -> Sequence[StoredEvent]:
        """Writes all or none, durably as the kinds demand, in order. Concurrent calls share a transaction.

        Raises:
            MachineError: `disk_full`, `store_failed`: nothing was written.
            UserError: `bad_argument`: an event breaks a rule of the log; nothing was written.
        """
        ...

    def append_from_thread(self, events: Sequence[NewEvent]) -> concurrent.futures.Future[Sequence[StoredEvent]]:
        """As `append`, from any thread and without the loop, in one order with the others; errors are in the future."""
        ...

    async def read_stream(self, stream: str, after_version: int = 0, *, since: str = "") -> Sequence[StoredEvent]:
        """The events of one stream in order. `since`: a kind; the last event of it, if there is one, is the first that is read."""
        ...

    def read_all(self, after_seq: int = 0) -> AsyncIterator[StoredEvent]:
        """Every event in order, as of the call."""
        ...

    async def query(
        self,
        *,
        kinds: Sequence[str] = (),
        stream: str = "",
        cause_id: str = "",
        since: int = 0,
        until: int = 0,
        after_seq: int = 0,
        limit: int = 1000,
    ) -> Sequence[StoredEvent]:
        """The collector: events that match all that is given (0 and empty: any), oldest first."""
        ...

    async def close(self) -> None:
        """Finishes what was accepted and closes. Idempotent."""
        ...


# -------------------------------------------------------------------------------------------------------------- executor


class Preparing(msgspec.Struct, frozen=True, tag=True):
    """What is being done before the program can start, in a line for a person: an image is pulled. The next one replaces it."""

    detail: str


class Started(msgspec.Struct, frozen=True, tag=True):
    """The program runs. `handle` is enough for `Executor.adopt` after the node restarts (pid and start time, or a container id)."""

    handle: str


class LogChunk(msgspec.Struct, frozen=True, tag=True):
    """Bytes the program wrote. `stream` is "stdout" or "stderr"; `offset` counts bytes of that stream."""

    stream: str
    offset: int
    data: bytes


class UsageSample(msgspec.Struct, frozen=True, tag=True):
    """Cumulative use so far; about once a second."""

    usage: Usage


class EgressRefused(msgspec.Struct, frozen=True, tag=True):
    """A connection to elsewhere was refused. After an adoption those that were told before come again."""

    barred: Barred


class Exited(msgspec.Struct, frozen=True, tag=True):
    """The run is over, nothing of it is left running. Always the last event, always delivered."""

    ending: Ending


ExecutorEvent = Preparing | Started | LogChunk | UsageSample | EgressRefused | Exited


class Run(Protocol):
    """One program being run."""

    def events(self) -> AsyncIterator[ExecutorEvent]:
        """Preparing where that takes long, Started (unless it could not start), then logs and usage, then exactly one Exited."""
        ...

    async def stop(self, grace_ms: int) -> None:
        """Asks it to stop, kills it after `grace_ms`. `events` still ends with Exited. What stands still goes on for that. Idempotent."""
        ...

    async def freeze(self, until_ms: int) -> None:
        """Freezes all of its processes where they stand. Until it is thawed, its time stands still: `Usage.wall_ms`, and its limit.

        If this node dies meanwhile, it has what is left of its time from `until_ms` (Unix ms) on at most, and is adopted as it is. Once frozen, or
        over, nothing changes.

        Raises:
            MachineError: `sandbox_failed`: it cannot be frozen here; it goes on.
        """
        ...

    async def thaw(self) -> None:
        """Lets it go on. Idempotent."""
        ...

    async def resize(self, resources: Resources) -> None:
        """Lets it use so many cores and so much memory from now on, while it runs on. GPUs are for the program to share; disk stays.

        Raises:
            UserError: `not_resizable`: more memory is in use than it is to have, or this machine cannot change that of what runs.
            UserError: `not_running`.
        """
        ...

    async def connect(self, target: Target) -> socket.socket:
        """A connected stream socket to what the task lets in to: a port that it declares, on 127.0.0.1 inside, or its calls.

        Raises:
            UserError: `not_listening`; `not_running`; `bad_argument`: the task has no such thing.
            MachineError: `sandbox_failed`.
        """
        ...


OpenSecrets = Callable[[], Sequence[OpenSecret]]
"""Opens the secrets of a task. Raises a `UserError` if one cannot be opened any more."""


class Executor(Protocol):
    """Runs tasks of one kind in isolation.

    Attributes:
        name: by which a task asks for it.
        libraries: what its programs find there, as "name==version"; known once it was probed.
    """

    name: str
    libraries: tuple[str, ...]

    async def probe(self) -> ExecutorOffer:
        """Runs the real, hardened no-op and reports what was proven.

        Raises:
            MachineError: `executor_unavailable`, with the reason and the fix as hint.
        """
        ...

    async def run(
        self,
        allocation_id: str,
        task: Task,
        directory: Path,
        secrets: Sequence[OpenSecret] = (),
        *,
        gives_way: bool = False,
    ) -> Run:
        """Starts `task` with `directory` (0700, inputs already inside, verified) as its only writable place.

        The values of `secrets` appear inside only, and are let go of once the program has them. What `gives_way` gets the CPU that nobody else on
        the machine wants, as far as this executor can see to it; what was adopted stays as it was started.

        Never raises for the task's fault: a task that cannot start yields one Exited.
        """
        ...

    async def adopt(
        self, allocation_id: str, task: Task, directory: Path, handle: str, secrets: OpenSecrets = tuple
    ) -> Run | None:
        """Takes over a run that survived the node's death, or None when it is not running any more (and cleans up after it).

        `secrets` opens their values, for a run that has not been given them yet.
        """
        ...

    async def sweep(self, keep: Sequence[str]) -> int:
        """Removes what dead runs left behind (processes, cgroups, mounts), except for these allocation ids. Returns how many."""
        ...
