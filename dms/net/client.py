"""The node's side of the network: `NetworkProcess`, the `Network` port on a supervised process. Lives on the node's asyncio loop.

The process is started with one end of a socket pair and the configuration as first message. When it dies, the node hears `NetworkDown` and
`PeerDown` for each peer; it is started again at once (later with growing waits), with the same key, port and bans, and dials the peers
it had; then the node hears `NetworkUp`. When the node dies, the pipe closes and the process ends by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from dms.net.addresses import from_where
from dms.net.child import Child
from dms.net.config import MAX_FRAME, MAX_GOSSIP, NetConfig
from dms.net.launching import Launched, launch
from dms.net.limits import Backoff, Spans
from dms.net.pipe import (
    GOSSIP_QUEUE,
    AskBlob,
    AskStats,
    AskTunnel,
    Ban,
    Banned,
    BlobAnswer,
    Configure,
    Credit,
    Dial,
    Dialled,
    Down,
    EndFetch,
    Failed,
    Fetch,
    Fetched,
    Found,
    FrameIn,
    GossipIn,
    Log,
    Publish,
    Ready,
    Redial,
    Rtt,
    SendFrame,
    Sent,
    Spare,
    Stats,
    Stop,
    Taken,
    ToNode,
    TunnelAnswered,
    TunnelOver,
    Up,
    cost,
)
from dms.net.tunnel_handles import TunnelHandles
from dms.net.windows import PEER_SHARE
from dms_actors.ports import (
    AcceptTunnel,
    FrameReceived,
    GossipReceived,
    LinkFacts,
    NetworkDown,
    NetworkEvent,
    NetworkUp,
    PeerDown,
    PeerFound,
    PeerUp,
    Tunnel,
)
from dms_proto.errors import InternalError, MachineError, PeerError
from dms_proto.ids import Digest, PeerId, peer_id_of
from dms_proto.scope import Scope

START_S: Final = 20.0
"""Seconds the process may take from its start to listening; a busy machine needs a few."""
STOP_S: Final = 5.0
"""Seconds for an orderly end before it is killed."""
FIRST_RESTART_S: Final = 0.02
LAST_RESTART_S: Final = 10.0
SETTLED_S: Final = 10.0
"""Seconds of life after which a death counts as the first one again."""

logger = logging.getLogger(__name__)

Answer = Dialled | Fetched | Stats
AnyAnswer = TypeVar("AnyAnswer", Dialled, Fetched, Stats)
BlobOpener = Callable[[PeerId, Digest], Path | None]


class NetworkProcess:
    """libp2p in its own process, as the `Network` port. Create and use it on one asyncio loop.

    Args:
        config: what the process is told.
        launched: the first process, started beforehand; None: it is started by `start`.
    """

    def __init__(self, config: NetConfig, launched: Launched | None = None) -> None:
        self._config = config
        self._launched = launched
        self._listener: Callable[[NetworkEvent], None] = lambda _event: None
        self._open_blob: BlobOpener = lambda _peer, _digest: None
        self._child: Child | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._is_up = False
        self._is_stopping = False
        self._links: dict[PeerId, LinkFacts] = {}
        self._bans = Spans()
        self._spared = Spans()
        self._credits: dict[str, Credit] = {}
        self._owed = Credit(config.pipe_window // PEER_SHARE)
        self._taken: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)
        self._tunnels = TunnelHandles()
        self._ready: asyncio.Future[Ready] | None = None

    # -------------------------------------------------------------------------------------------------- the Network port

    async def start(self, listener: Callable[[NetworkEvent], None]) -> tuple[str, ...]:
        """Listens and returns the announced addresses.

        Raises:
            MachineError: `port_in_use`, `network_down`.
        """
        self._listener, self._loop = listener, asyncio.get_running_loop()
        try:
            ready = await self._launch(())
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="network supervisor")
        return ready.announced

    def send(self, peer: PeerId, frame: bytes) -> bool:
        """Queues a frame for a peer; never blocks. False: not connected, too long, or its queue is full."""
        credit = self._credits.get(peer)
        if credit is None or self._child is None or len(frame) > MAX_FRAME or not credit.take(cost(frame)):
            return False
        self._child.post(SendFrame(peer, frame))
        return True

    def publish(self, topic: str, frame: bytes) -> bool:
        """Gossips a frame on a configured topic. False: the network is down, the frame too long, or the queue full."""
        if self._child is None or not self._is_up or topic not in self._config.topics or len(frame) > MAX_GOSSIP:
            return False
        if not self._credits[GOSSIP_QUEUE].take(cost(frame)):
            return False
        self._child.post(Publish(topic, frame))
        return True

    async def dial(self, addresses: Sequence[str], least: Scope = Scope.MACHINE) -> PeerId:
        """See `Network.dial`.

        Raises:
            PeerError: `peer_unreachable`, with what each address answered; `incompatible_version`.
            MachineError: `network_down`.
        """
        answer = await self._ask(lambda request: Dial(request, tuple(addresses), least), Dialled)
        if answer.code == "internal":
            raise InternalError(answer.code, answer.message)
        if answer.code:
            raise PeerError(answer.code, answer.message, retryable=answer.code == "peer_unreachable")
        return PeerId(answer.peer)

    def serve_blobs(self, open_blob: BlobOpener) -> None:
        """Sets who may fetch what: called for each request, gives the file to stream, or None to refuse."""
        self._open_blob = open_blob

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
        """See `Network.fetch`. What arrived is in `into` + ".part".

        Raises:
            PeerError: `peer_unreachable` (also refused: then not retryable), `peer_timeout`, `digest_mismatch`, `bad_frame`.
            MachineError: `network_down`, `disk_full`, `store_failed`.
        """

        def question(request: int) -> Fetch:
            listed = str(chunks.absolute()) if chunks is not None else ""
            return Fetch(request, tuple(holders), digest, size, str(into.absolute()), listed)

        answer = await self._ask(question, Fetched, EndFetch)
        if came is not None:
            came.update({PeerId(peer): size for peer, size in answer.came})
        if answer.code == "internal":
            raise InternalError(answer.code, answer.message)
        if answer.code in ("disk_full", "store_failed"):
            raise MachineError(answer.code, answer.message, retryable=answer.retryable)
        if answer.code:
            raise PeerError(answer.code, answer.message, retryable=answer.retryable)
        return tuple(map(PeerId, answer.wrong))

    def took(self, heard: FrameReceived | GossipReceived) -> None:
        """See `Network.took`."""
        amount = cost(heard.frame)
        with self._counting:
            self._taken[heard.peer if isinstance(heard, FrameReceived) else GOSSIP_QUEUE] += amount
            is_due = self._owed.owe(amount) > 0
        if is_due:
            with suppress(RuntimeError):  # the loop has ended, and the process with it
                self._loop.call_soon_threadsafe(self._tell_taken)

    def _tell_taken(self) -> None:
        with self._counting:
            taken, self._taken = self._taken, Counter()
        if self._child is not None:
            self._child.post(Taken(dict(taken)))

    def serve_tunnels(self, accept: AcceptTunnel) -> None:
        """Sets who gets a tunnel, and to what. Before, all are refused."""
        self._tunnels.accept = accept

    async def open_tunnel(self, peer: PeerId, opening: bytes) -> Tunnel:
        """See `Network.open_tunnel`."""
        return await self._tunnels.open(self._running(), peer, opening)

    def links(self) -> Mapping[PeerId, LinkFacts]:
        """The peers connected now; `connected_ms` is the Unix time at which each came up."""
        return dict(self._links)

    def ban(self, peer: PeerId, seconds: float) -> None:
        """Closes connections to a peer and refuses it for a while, over restarts of the process; 0 lifts a ban. Bans end with the node."""
        self._bans.add(peer, seconds, time.monotonic())
        if self._child is not None:
            self._child.post(Ban(peer, seconds))

    def inherit_ban(self, old: PeerId, new: PeerId) -> None:
        """See `Network.inherit_ban`."""
        now = time.monotonic()
        left = self._bans.left(old, now)
        if left > self._bans.left(new, now):
            self.ban(new, left)

    def spare(self, peer: PeerId, seconds: float) -> None:
        """See `Network.spare`."""
        self._spared.add(peer, seconds, time.monotonic())
        if self._child is not None:
            self._child.post(Spare(peer, seconds))

    async def stop(self) -> None:
        """Says goodbye to the peers and stops listening. Idempotent."""
        self._is_stopping = True
        if self._supervisor is not None:
            supervisor, self._supervisor = self._supervisor, None
            supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await supervisor
        if self._child is not None:
            self._child.post(Stop())
            await self._child.end(STOP_S)
            self._forget("closed")

    # --------------------------------------------------------------------------------------------------- beyond the port

    @property
    def peer_id(self) -> PeerId:
        """Our own id, from the key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - rarely needed

        return peer_id_of(
            Ed25519PrivateKey.from_private_bytes(self._config.private_key).public_key().public_bytes_raw()
        )

    @property
    def pid(self) -> int:
        """Process id of the network process; 0 while there is none."""
        return self._child.pid if self._child is not None else 0

    async def stats(self) -> dict[str, int]:
        """Counters since the process started (`dms.net.counters.NAMES`).

        Raises:
            MachineError: `network_down`.
        """
        return (await self._ask(AskStats, Stats)).counters

    # ---------------------------------------------------------------------------------------------------- supervision

    async def _supervise(self) -> None:
        """Starts the process again whenever it dies."""
        backoff = Backoff(FIRST_RESTART_S, LAST_RESTART_S)
        loop = asyncio.get_running_loop()
        while True:
            assert self._child is not None
            began = loop.time()
            code = await self._child.wait()
            if loop.time() - began > SETTLED_S:
                backoff.reset()
            redial = tuple(Redial(tuple(link.addresses), from_where(link.remote)) for link in self._links.values())
            logger.warning("the network process ended with code %s; it is started again", code)
            self._forget("network_down", f"the network process ended with code {code}")
            is_back = False
            while not is_back:
                await asyncio.sleep(backoff.next(random.random()))  # noqa: S311 - jitter, not a secret
                is_back = await self._relaunched(redial)

    async def _relaunched(self, redial: tuple[Redial, ...]) -> bool:
        try:
            ready = await self._launch(redial)
        except MachineError as error:
            logger.warning("the network process did not start: %s", error)
            return False
        self._listener(NetworkUp(ready.announced))
        return True

    async def _launch(self, redial: tuple[Redial, ...]) -> Ready:
        """Starts a process and waits until it listens.

        Raises:
            MachineError: `port_in_use`, `network_down`.
        """
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        self._credits = {GOSSIP_QUEUE: Credit(self._config.queue_bytes)}
        with self._counting:
            self._owed = Credit(self._config.pipe_window // PEER_SHARE)
            self._taken.clear()
        self._child = await self._begun()
        now = time.monotonic()
        self._child.post(Configure(self._config, redial, self._bans.running(now), self._spared.running(now)))
        try:
            async with asyncio.timeout(START_S):
                ready = await self._ready
        except TimeoutError:
            await self._child.end(0)
            raise MachineError("network_down", f"the network process did not listen within {START_S:g} s") from None
        except MachineError:
            await self._child.end(STOP_S)
            raise
        self._config = msgspec.structs.replace(self._config, listen=ready.listening)
        self._is_up = True
        return ready

    async def _begun(self) -> Child:
        """A process that waits for its configuration.

        Raises:
            MachineError: `network_down`.
        """
        try:
            launched, self._launched = self._launched or launch(), None
            return await Child.start(launched, self._on_message, self._on_end)
        except OSError as error:  # no memory, no process, or no descriptor is left
            what = f"the network process cannot be started: {error.strerror or error}"
            hint = "free memory, or allow the node more processes and open files"
            raise MachineError("network_down", what, hint=hint, retryable=True) from error

    def _on_end(self) -> None:
        """The pipe closed."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(MachineError("network_down", "the network process ended before it listened"))

    def _forget(self, peer_reason: str, why: str = "") -> None:
        """Nothing of the dead process holds any more: peers, credit, questions."""
        self._child = None
        was_up, self._is_up = self._is_up, False
        links, self._links = self._links, {}
        self._credits.clear()
        if was_up and why:
            self._listener(NetworkDown(why))
        for peer in links:
            self._listener(PeerDown(peer, peer_reason))
        answers, self._answers = self._answers, {}
        for future in answers.values():
            if not future.done():
                future.set_exception(MachineError("network_down", "the network process ended", retryable=True))
        self._tunnels.forget("the network process ended")

    # ------------------------------------------------------------------------------------------------------- messages

    def _running(self) -> Child:
        """The process, if it listens.

        Raises:
            MachineError: `network_down`.
        """
        if self._child is None or not self._is_up:
            raise MachineError("network_down", "the network process is not running", retryable=True)
        return self._child

    async def _ask(
        self,
        question: Callable[[int], Dial | Fetch | AskStats],
        kind: type[AnyAnswer],
        withdrawn: Callable[[int], EndFetch] | None = None,
    ) -> AnyAnswer:
        child = self._running()
        number = next(self._numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        child.post(question(number))
        try:
            answer = await future
        except asyncio.CancelledError:
            if withdrawn is not None:
                child.post(withdrawn(number))
            raise
        finally:
            self._answers.pop(number, None)
        assert isinstance(answer, kind)
        return answer

    def _on_message(self, message: ToNode) -> None:
        match message:
            case FrameIn(peer, frame):
                self._listener(FrameReceived(PeerId(peer), frame))
            case GossipIn(topic, forwarder, frame):
                self._listener(GossipReceived(topic, PeerId(forwarder), frame))
            case Sent(peer, amount):
                if (credit := self._credits.get(peer)) is not None:
                    credit.give(amount)
            case Dialled() | Fetched() | Stats():
                future = self._answers.get(message.request)
                if future is not None and not future.done():
                    future.set_result(message)
            case AskBlob(request, peer, digest):
                self._answer_blob(request, PeerId(peer), Digest(digest))
            case AskTunnel() | TunnelAnswered() | TunnelOver():
                if self._child is not None:
                    self._tunnels.on_message(self._child, message)
            case _:
                self._on_state(message)

    def _on_state(self, message: ToNode) -> None:
        match message:
            case Up():
                self._on_up(message)
            case Down(peer, reason):
                self._credits.pop(peer, None)
                if self._links.pop(PeerId(peer), None) is not None:
                    self._listener(PeerDown(PeerId(peer), reason))
            case Banned(peer, seconds):
                self._bans.add(peer, seconds, time.monotonic())
            case Rtt(peer, rtt_us):
                if (link := self._links.get(PeerId(peer))) is not None:
                    self._links[link.peer] = msgspec.structs.replace(link, rtt_us=rtt_us)
            case Found(peer, addresses):
                self._listener(PeerFound(PeerId(peer), addresses))
            case Log(level, name, text):
                logging.getLogger(name).log(level, "%s", text)
            case _:
                self._on_beginning(message)

    def _on_beginning(self, message: ToNode) -> None:
        match message:
            case Ready():
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(message)
            case Failed(code, text, hint):
                if self._ready is not None and not self._ready.done():
                    self._ready.set_exception(MachineError(code, text, hint=hint))

    def _on_up(self, up: Up) -> None:
        peer = PeerId(up.peer)
        self._credits[peer] = Credit(self._config.queue_bytes)
        now_ms = time.time_ns() // 1_000_000
        self._links[peer] = LinkFacts(
            peer, up.addresses, relayed=up.relayed, connected_ms=now_ms, inbound=up.inbound, remote=up.remote
        )
        self._listener(PeerUp(peer, up.addresses, up.relayed, up.remote))

    def _answer_blob(self, request: int, peer: PeerId, digest: Digest) -> None:
        path = self._open_blob(peer, digest)
        if self._child is not None:
            self._child.post(BlobAnswer(request, None if path is None else str(path.absolute())))
