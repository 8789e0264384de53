"""The node: the one place where its objects are built and joined.

Started in this order, stopped in the reverse one::

    event store (one process per home) ─▶ executors proven ─▶ post, workbench, collector ─▶ Node actor ─▶ network ─▶ monitor ─▶ local RPC

The network process is launched first, since it takes the longest, and joined when the actors are there to listen.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from dms import __version__
from dms.config import Config, Home, Identity
from dms.executors.detect import Unavailable
from dms.node.collector import Collector
from dms.node.logs import LogStore
from dms.node.post import NodePost
from dms.node.sealing import Sealer
from dms.node.services import GIVEN_UP, NETWORK_DOWN, NETWORK_RESTARTS, REACHED_BY, Services
from dms.node.survey import survey_from_thread
from dms.node.workbench import Workbench
from dms.store.blobs import BlobStore
from dms.store.events import EventStore
from dms.telemetry.counters import Counters
from dms.trust.grant import read_grant
from dms.trust.wallet import Wallet
from dms_actors.behaviour import Address
from dms_actors.directory import Directory
from dms_actors.events import EVENT_KINDS
from dms_actors.gate import Gate
from dms_actors.journal import CrewJournal
from dms_actors.letters import ShowState, Told
from dms_actors.loop_calls import LoopCalls
from dms_actors.node import Node, NodeState
from dms_actors.ports import Executor, Network, NetworkDown, NetworkEvent, NetworkUp, PeerUp
from dms_actors.runtime import ThreadRuntime, ask_from_loop
from dms_actors.world import World
from dms_proto.accounts.book import Accounts
from dms_proto.allocation.machine import Allocation, LifePhase, StopWished
from dms_proto.capability import Capability, ExecutorOffer
from dms_proto.errors import DmsError
from dms_proto.ids import AllocationId, Digest, PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.market.offer_state import OfferBook
from dms_proto.membership.machine import PROTOCOL_VERSION
from dms_proto.messages import AllocationMessage, Hello
from dms_proto.promises import PROMISES
from dms_proto.units import SECOND
from dms_proto.wire import Scores, Signer
from dms_proto.work import EndReason

log = logging.getLogger(__name__)

RELAXED = frozenset(EVENT_KINDS) - PROMISES
"""Kinds that need not survive a power cut; everything survives the death of the process."""
ASK_TIMEOUT = 10.0
STOP_GRACE = 8.0
"""Seconds that allocations get to end when the node stops."""
RECEIPT_GRACE = 1.0
"""Seconds after that in which their requesters may say that they have heard it; whoever is told later hears a lost connection first."""
STOP_LOOK = 0.01


async def _nothing() -> None:
    """There is nothing to let go of."""


def unix_ms() -> int:
    """Now."""
    return time.time_ns() // 1_000_000


class Probed(NamedTuple):
    """What was found to run work with."""

    executors: Mapping[str, tuple[Executor, ExecutorOffer]]
    unavailable: tuple[Unavailable, ...] = ()
    close: Callable[[], Awaitable[object]] = _nothing


class NodeApp:
    """A running node. Made by `start`; ended by `stop`, which is safe at any moment."""

    def __init__(self, services: Services, stack: AsyncExitStack) -> None:
        self.services = services
        self._stack = stack

    @classmethod
    async def start(
        cls,
        *,
        home: Home,
        config: Config,
        identity: Identity,
        network: Network,
        probe: Callable[[], Awaitable[Probed]],
        clock: Callable[[], int] = unix_ms,
    ) -> NodeApp:
        """Opens the store, proves the executors, rebuilds the state, starts the actors and listens.

        Raises:
            MachineError: `home_in_use`, `store_newer`, `store_corrupt`, `port_in_use`, …; everything begun is undone.
        """
        stack = AsyncExitStack()
        try:
            services = await _assemble(stack, home, config, identity, network, probe, clock)
        except BaseException:
            await stack.aclose()
            raise
        return cls(services, stack)

    async def state(self) -> NodeState:
        """The live state of the Node actor."""
        state: NodeState = await ask_from_loop(self.services.node, ShowState(), ASK_TIMEOUT)
        return state

    async def stop(self, grace: float = STOP_GRACE) -> None:
        """Stops what runs here for others, tells them, and ends everything in reverse order. Idempotent."""
        try:
            await self._stop_allocations(grace)
        finally:
            await self._stack.aclose()

    async def abandon(self) -> None:
        """Ends everything in reverse order and stops nothing that runs: it is found again by the next start. Idempotent."""
        await self._stack.aclose()

    async def _stop_allocations(self, grace: float) -> None:
        services = self.services
        stopped = {id_ for id_ in services.allocations.ids() if not await self._has_ended(id_)}
        for allocation_id in stopped:
            services.allocations.tell(allocation_id, Told(StopWished(EndReason.PROVIDER_STOPPED), "stop"))
        await self._until_over(stopped, self._has_ended, grace)
        await self._until_over(stopped, self._is_closed, RECEIPT_GRACE)

    async def _until_over(self, ids: set[str], is_over: Callable[[str], Awaitable[bool]], seconds: float) -> None:
        """Looks until it is over for every one of `ids`, or `seconds` have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not all([await is_over(id_) for id_ in ids]):  # noqa: ASYNC110 - actors tell their state when asked
                    await asyncio.sleep(STOP_LOOK)

    async def _is_closed(self, allocation_id: str) -> bool:
        return self.services.allocations.get(allocation_id) is None

    async def _has_ended(self, allocation_id: str) -> bool:
        address = self.services.allocations.get(allocation_id)
        if address is None:
            return True
        try:
            state: Allocation = await ask_from_loop(address, ShowState(), ASK_TIMEOUT)
        except DmsError:
            return True  # its actor has ended, or cannot tell: nothing to wait for
        return state.phase in (LifePhase.ENDED, LifePhase.CLOSED)


async def _assemble(  # noqa: PLR0917 - called once, above
    stack: AsyncExitStack,
    home: Home,
    config: Config,
    identity: Identity,
    network: Network,
    probe: Callable[[], Awaitable[Probed]],
    clock: Callable[[], int],
) -> Services:
    loop = asyncio.get_running_loop()
    me = identity.node_id.peer_id
    store = await EventStore.open(home.events, clock=clock, relaxed=RELAXED)
    stack.push_async_callback(store.close)
    stop, notes = asyncio.Event(), dict[str, str]()
    hearing = _Hearing(network, notes)
    listening = asyncio.create_task(network.start(hearing.hear), name="network start")
    stack.push_async_callback(_end_network, network, listening)
    probed = await probe()
    stack.push_async_callback(probed.close)
    blobs = BlobStore(home.blobs)
    counters = Counters()
    runtime = ThreadRuntime(clock)
    orchestrators, allocations = Directory(), Directory()
    calls = LoopCalls(loop)
    wallet = Wallet(home, me)
    sealer = Sealer(identity.seed(), me)
    post = NodePost(
        signer=Signer(identity.seed()),
        sealer=sealer,
        me=me,
        topic=config.network.topic,
        network=network,
        wallet=wallet,
        clock=clock,
        loop=loop,
        calls=calls,
        forgive_s=config.network.forgive_s,
    )
    stack.push_async_callback(post.close)

    def tell_allocation(allocation_id: AllocationId, stimulus: Stimulus) -> None:
        allocations.tell(allocation_id, Told(stimulus, "workbench"))

    def tell_orchestrator(request_id: RequestId, stimulus: Stimulus) -> None:
        orchestrators.tell(request_id, Told(stimulus, "collector"))

    workbench = Workbench(
        loop=loop,
        calls=calls,
        executors={name: executor for name, (executor, _) in probed.executors.items()},
        jobs=home.jobs,
        blobs=blobs,
        logs=LogStore(home.log / "allocations"),
        network=network,
        post=post,
        sealer=sealer,
        tell=tell_allocation,
    )
    stack.push_async_callback(workbench.close_all)
    collector = Collector(
        loop=loop,
        calls=calls,
        me=me,
        blobs=blobs,
        logs=LogStore(home.log / "jobs"),
        network=network,
        post=post,
        tell=tell_orchestrator,
    )
    stack.push_async_callback(collector.close)

    def log_bytes(peer: PeerId, message: AllocationMessage) -> None:
        wanted = message.channel.startswith("want:")
        calls.call(workbench.resend_logs if wanted else collector.log_arrived, peer, message)

    def open_blob(peer: PeerId, digest: Digest) -> Path | None:
        allowed = collector.may_read(peer, digest) or workbench.may_read(peer, digest)
        return blobs.path(digest) if allowed else None

    network.serve_blobs(open_blob)
    journal = CrewJournal(store, loop)
    world = World(
        journal=journal,
        post=post,
        workbench=workbench,
        collector=collector,
        logs=log_bytes,
        survey=lambda: survey_from_thread(store, loop),
        introduce=lambda: loop.call_soon_threadsafe(hearing.introduce),
        read_grant=read_grant,
        orchestrators=orchestrators,
        allocations=allocations,
    )

    def give_up(name: str) -> None:
        notes[GIVEN_UP] = f"actor {name} failed again and again; the log says why"
        loop.call_soon_threadsafe(stop.set)

    node = _spawn_node(runtime, world, config, identity, counters, give_up)
    stack.push_async_callback(lambda: asyncio.to_thread(journal.close))
    stack.push_async_callback(lambda: asyncio.to_thread(runtime.stop_all))
    post.deliver_to_self_by(node.tell)
    await ask_from_loop(node, ShowState(), 60.0)  # the log is folded, what was under way is resumed

    await workbench.sweep(allocations.ids())

    hearing.listen(node, post)
    hearing.hear(NetworkUp(await listening))
    return Services(
        loop=loop,
        clock=clock,
        config=config,
        home=home,
        identity=identity,
        store=store,
        blobs=blobs,
        network=network,
        runtime=runtime,
        node=node,
        orchestrators=orchestrators,
        allocations=allocations,
        post=post,
        wallet=wallet,
        sealer=sealer,
        workbench=workbench,
        collector=collector,
        counters=counters,
        executors=probed.executors,
        unavailable=probed.unavailable,
        written=lambda: asyncio.to_thread(journal.flush),
        stop=stop,
        started_at=clock(),
        notes=notes,
    )


class _Hearing:
    """Hears the network for the node. Keeps what it says until there is somebody to hear it: it is started early, because it takes the longest."""

    def __init__(self, network: Network, notes: dict[str, str]) -> None:
        self._network = network
        self._notes = notes
        self._early: list[NetworkEvent] = []
        self._announced: NetworkUp | None = None
        self._listeners: tuple[Address, NodePost] | None = None

    def hear(self, event: NetworkEvent) -> None:
        """Tells the node actor, and notes how the network is."""
        if self._listeners is None:
            self._early.append(event)
            return
        node, post = self._listeners
        node.tell(event)
        match event:
            case PeerUp(peer=peer):
                post.peer_up(peer)
                if (link := self._network.links().get(peer)) is not None and link.inbound:
                    self._notes[REACHED_BY] = peer
            case NetworkDown(reason=reason):
                self._notes[NETWORK_DOWN] = reason
                self._notes[NETWORK_RESTARTS] = str(int(self._notes.get(NETWORK_RESTARTS, "0")) + 1)
            case NetworkUp():
                self._notes.pop(NETWORK_DOWN, None)
                self._announced = event

    def listen(self, node: Address, post: NodePost) -> None:
        """From now on there is somebody."""
        self._listeners = (node, post)
        for event in self._early:
            self.hear(event)

    def introduce(self) -> None:
        """Says again what a node actor that was built anew has forgotten. Nothing at its first start."""
        if self._announced is not None:
            self.hear(self._announced)
            for link in self._network.links().values():
                self.hear(PeerUp(link.peer, link.addresses, link.relayed))


async def _end_network(network: Network, listening: asyncio.Task[tuple[str, ...]]) -> None:
    if not listening.done():
        listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await network.stop()


def _spawn_node(  # noqa: PLR0917 - called once, above
    runtime: ThreadRuntime,
    world: World,
    config: Config,
    identity: Identity,
    counters: Counters,
    give_up: Callable[[str], None],
) -> Address:
    me = identity.node_id.peer_id
    limit = config.accounts.credit_limit
    book = OfferBook(me, bid_validity_ms=config.market.bid_validity_ms, default_credit=limit)
    hello = Hello(
        version=PROTOCOL_VERSION,
        software=f"dms/{__version__}",
        now=0,
        uuid=identity.node_id.uuid,
        name=config.node.name or me[-8:],
        addresses=(),
        summary=Capability(),
        accepts_work=config.provider.enabled,
        successions=identity.successions,
    )
    return runtime.spawn(
        "node",
        lambda: Node(
            runtime=runtime,
            world=world,
            gate=Gate(me, config.network.topic, counters.inc, Scores(config.network.forgive_s * SECOND)),
            book=book,
            accounts=Accounts(me, limit),
            hello=hello,
            ask_directly=config.market.ask_directly,
        ),
        give_up,
    )


def merged_capability(registered: Capability, proposed: Capability, config: Config) -> Capability:
    """What to register at a start.

    Amounts stay as they were locked at onboarding, unless the owner set them since or the machine shrank; everything that was proven or
    configured anew is taken from the proposal.
    """
    if registered == Capability():
        return proposed
    old, new, wish = registered.resources, proposed.resources, config.provider
    resources = msgspec.structs.replace(
        new,
        cpu_millicores=new.cpu_millicores if wish.cpu is not None else min(old.cpu_millicores, new.cpu_millicores),
        memory_bytes=new.memory_bytes if wish.memory is not None else min(old.memory_bytes, new.memory_bytes),
        disk_bytes=new.disk_bytes if wish.disk is not None else min(old.disk_bytes, new.disk_bytes),
    )
    return msgspec.structs.replace(proposed, resources=resources, cpu_score=proposed.cpu_score or registered.cpu_score)
