"""The node's objects, built and joined, stage by stage. What was begun is undone by the stack, in reverse order.

::

    event store ─▶ network launched, executors proven ─▶ post ─▶ workbench, collector ─▶ Node actor ─▶ network heard
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from dms import __version__
from dms.config import Config, Home, Identity
from dms.executors.cluster.cluster import Cluster
from dms.executors.detect import Unavailable
from dms.executors.sandbox.keeper import Keepers
from dms.node import spent
from dms.node.calls import Calls
from dms.node.cluster import jobs_directory
from dms.node.collector import Collector
from dms.node.containers import PoolHands
from dms.node.datasets import Datasets
from dms.node.finding import Finding
from dms.node.guests import Guests
from dms.node.hands import Hands
from dms.node.hearing import Hearing
from dms.node.holders import Teller
from dms.node.holdings import Holdings
from dms.node.log_reading import Question, answer
from dms.node.logs import LogStore
from dms.node.own_calls import OwnCalls
from dms.node.pace import Pace
from dms.node.pool import rules_of
from dms.node.post import NodePost
from dms.node.reaching import Reaching
from dms.node.renewals import Renewals
from dms.node.rolls import Rolls
from dms.node.sealing import Sealer
from dms.node.services import GIVEN_UP, Services
from dms.node.siblings import Siblings
from dms.node.spent import SpentKeeper
from dms.node.spot_answers import SpotAnswers
from dms.node.survey import survey_from_thread
from dms.node.tunnels import Tunnels
from dms.node.workbench import Workbench
from dms.store.blobs import BlobStore
from dms.store.datasets import DatasetShelf
from dms.store.events import EventStore
from dms.telemetry.counters import Counters
from dms.trust.grant import read_grant
from dms.trust.wallet import Wallet
from dms_actors.behaviour import Address
from dms_actors.directory import Directory
from dms_actors.events import EVENT_KINDS
from dms_actors.gate import Gate
from dms_actors.journal import CrewJournal
from dms_actors.letters import ShowServices, ShowState, Told
from dms_actors.loop_calls import LoopCalls
from dms_actors.mishaps import Mishaps
from dms_actors.node import Node
from dms_actors.pool import PoolActor
from dms_actors.ports import Executor, Network, NetworkUp
from dms_actors.runtime import ThreadRuntime, ask_from_loop
from dms_actors.strangers import NO_END, Strangers
from dms_actors.world import DataMessage, Paying, World
from dms_proto.accounts.book import Accounts
from dms_proto.capability import Capability, ExecutorOffer
from dms_proto.data.holders import KnownHolders
from dms_proto.ids import AllocationId, Digest, PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.market.obligations import Obligations
from dms_proto.market.offer_state import OfferBook
from dms_proto.market.second_price import Salts
from dms_proto.market.seekers import Seekers
from dms_proto.market.workload import Workload
from dms_proto.membership.machine import PROTOCOL_VERSION
from dms_proto.messages import (
    SALT_BYTES,
    AllocationMessage,
    DatasetHeld,
    DatasetWanted,
    Hello,
    Holders,
    HoldersWanted,
    Serve,
)
from dms_proto.pool.services import Services as PoolServices
from dms_proto.pool.state import RulesWished
from dms_proto.promises import PROMISES
from dms_proto.units import SECOND
from dms_proto.wire import Scores, Signer
from dms_proto.wire.log_budget import LogBudget

RELAXED = frozenset(EVENT_KINDS) - PROMISES
"""Kinds that need not survive a power cut; everything survives the death of the process."""
FOLD_TIMEOUT = 60.0
"""Seconds in which the Node actor has to have folded its log."""


async def _nothing() -> None:
    """There is nothing to let go of."""


class Probed(NamedTuple):
    """What was found to run work with."""

    executors: Mapping[str, tuple[Executor, ExecutorOffer]]
    unavailable: tuple[Unavailable, ...] = ()
    close: Callable[[], Awaitable[object]] = _nothing
    cluster: Cluster | None = None


class Assembly:
    """Builds one node.

    Args:
        stack: gets what undoes each stage.
        home: where it keeps what it has.
        config: what its owner set.
        identity: who it is.
        network: not started yet.
        clock: Unix ms.
    """

    def __init__(  # noqa: PLR0917 - called once
        self,
        stack: AsyncExitStack,
        home: Home,
        config: Config,
        identity: Identity,
        network: Network,
        clock: Callable[[], int],
    ) -> None:
        self._stack = stack
        self._home = home
        self._config = config
        self._identity = identity
        self._me = identity.node_id.peer_id
        self._network = network
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._calls = LoopCalls(self._loop)
        self._blobs = BlobStore(home.blobs)
        self._datasets = Datasets(self._blobs, DatasetShelf(home.datasets), self._me, clock)
        self._holdings = Holdings(self._blobs, self._datasets)
        self._counters = Counters()
        self._orchestrators, self._allocations = Directory(), Directory()
        self._wallet = Wallet(home, self._me)
        self._sealer = Sealer(identity.seed(), self._me)
        self._notes = dict[str, str]()
        self._stop = asyncio.Event()
        self._to_pool: Callable[[object], object] = lambda _letter: None
        self._reaching = Reaching(self._me, network)
        self._hearing = Hearing(network, self._reaching, self._notes)
        self._spot_answers = SpotAnswers(self._calls)
        self._mishaps = Mishaps()

    async def build(self, probe: Callable[[], Awaitable[Probed]]) -> Services:
        """A node that runs and listens.

        Raises:
            MachineError: `home_in_use`, `store_newer`, `store_corrupt`, `port_in_use`, …
        """
        stack = self._stack
        store = await EventStore.open(self._home.events, clock=self._clock, relaxed=RELAXED)
        stack.push_async_callback(store.close)
        listening = asyncio.create_task(self._network.start(self._hearing.hear), name="network start")
        stack.push_async_callback(_end_network, self._network, listening)
        probed = await probe()
        stack.push_async_callback(probed.close)
        post = self._make_post()
        stack.push_async_callback(post.close)
        workbench = self._make_workbench(probed, post)
        stack.push_async_callback(workbench.close_all)
        holders = KnownHolders()
        finding = Finding(self._network, post, self._blobs, self._datasets, holders)
        collector = self._make_collector(post, Teller(self._me, post, holders, finding.find_again))
        stack.push_async_callback(collector.close)
        stack.push_async_callback(self._spot_answers.close)
        self._network.serve_blobs(self._open_blob(workbench, collector))
        containers = self._make_containers(probed)
        stack.push_async_callback(containers.close)
        calls = Calls(containers, self._clock)
        own_calls = OwnCalls(self._me, self._wallet, self._calls)
        stack.push_async_callback(own_calls.close)
        obligations = Obligations()
        renewals = self._make_renewals(post, collector)
        journal, runtime = CrewJournal(store, self._loop), ThreadRuntime(self._clock)
        strangers = await self._make_strangers(store)
        node = self._spawn(
            runtime, strangers, self._world(store, journal, post, workbench, collector, renewals, finding, obligations)
        )
        stack.push_async_callback(lambda: asyncio.to_thread(journal.close))
        stack.push_async_callback(lambda: asyncio.to_thread(runtime.stop_all))
        post.deliver_to_self_by(node.tell)
        await ask_from_loop(node, ShowState(), FOLD_TIMEOUT)  # the log is folded, what was under way is resumed
        keeper = SpentKeeper(self._home.log_budget, store, node)
        stack.push_async_callback(keeper.stop)
        keeper.start()
        await workbench.sweep((*self._allocations.ids(), *containers.names()))
        paying = Paying(self._me, post.send, node.tell, own_calls.tab_ready, obligations)
        pool = self._spawn_pool(runtime, journal, containers, paying)
        self._to_pool = pool.tell
        calls.begin(pool, node)
        tunnels = await self._make_tunnels(post, workbench, calls, probed.cluster)
        own_calls.begin(pool, tunnels)
        tunnels.judge_by(node, self._clock)
        self._hearing.listen(node, post)
        self._hearing.hear(NetworkUp(await listening))
        asking = Hands(self._calls)
        stack.push_async_callback(asking.close)
        asking.start(lambda: renewals.ask_on_time(node), "asking for renewals")
        return Services(
            loop=self._loop,
            clock=self._clock,
            config=self._config,
            home=self._home,
            identity=self._identity,
            store=store,
            blobs=self._blobs,
            datasets=self._datasets,
            finding=finding,
            network=self._network,
            runtime=runtime,
            node=node,
            orchestrators=self._orchestrators,
            allocations=self._allocations,
            post=post,
            wallet=self._wallet,
            renewals=renewals,
            sealer=self._sealer,
            workbench=workbench,
            collector=collector,
            tunnels=tunnels,
            calls=calls,
            own_calls=own_calls,
            counters=self._counters,
            executors=probed.executors,
            unavailable=probed.unavailable,
            cluster=probed.cluster,
            written=lambda: asyncio.to_thread(journal.flush),
            mishaps=self._mishaps,
            stop=self._stop,
            started_at=self._clock(),
            notes=self._notes,
        )

    def _make_post(self) -> NodePost:
        return NodePost(
            signer=Signer(self._identity.seed()),
            sealer=self._sealer,
            me=self._me,
            topic=self._config.network.topic,
            network=self._network,
            reaching=self._reaching,
            wallet=self._wallet,
            clock=self._clock,
            loop=self._loop,
            calls=self._calls,
            forgive_s=self._config.network.forgive_s,
        )

    def _make_workbench(self, probed: Probed, post: NodePost) -> Workbench:
        def tell(allocation_id: AllocationId, stimulus: Stimulus) -> None:
            self._allocations.tell(allocation_id, Told(stimulus, "workbench"))

        return Workbench(
            calls=self._calls,
            executors={name: executor for name, (executor, _) in probed.executors.items()},
            jobs=jobs_directory(self._home, self._config),
            blobs=self._blobs,
            datasets=self._datasets,
            holdings=self._holdings,
            logs=LogStore(self._home.log / "allocations"),
            me=self._me,
            network=self._network,
            reaching=self._reaching,
            post=post,
            sealer=self._sealer,
            tell=tell,
        )

    async def _make_tunnels(
        self, post: NodePost, workbench: Workbench, calls: Calls, cluster: Cluster | None
    ) -> Tunnels:
        rolls = Rolls(self._me, self._network, self._orchestrators, post.addresses_of)
        self._stack.push_async_callback(rolls.close)
        guests = Guests(rolls)
        self._stack.push_async_callback(guests.close)
        pace = Pace()
        tunnels = Tunnels(self._me, self._network, self._allocations, workbench, calls, rolls, guests, pace)
        self._stack.push_async_callback(tunnels.close)
        siblings = Siblings(self._me, self._reaching, tunnels, rolls, pace)
        self._stack.push_async_callback(siblings.close)
        keepers = Keepers(siblings.lead)
        self._stack.push_async_callback(keepers.close)
        keepers.listen(self._home.executors)
        if cluster is not None:
            cluster.lead_out_by(siblings.lead)
        return tunnels

    def _make_containers(self, probed: Probed) -> PoolHands:
        executors = {name: executor for name, (executor, _) in probed.executors.items()}
        longest = self._config.pool.longest_call_ms
        return PoolHands(self._calls, executors, self._home.pool, self._blobs, self._datasets, longest)

    def _spawn_pool(
        self, runtime: ThreadRuntime, journal: CrewJournal, containers: PoolHands, paying: Paying
    ) -> Address:
        pool = runtime.spawn(
            "pool",
            lambda: PoolActor(journal=journal, containers=containers, paying=paying, mishaps=self._mishaps),
            self._give_up,
        )

        async def services() -> PoolServices:
            found: PoolServices = await ask_from_loop(pool, ShowServices(), FOLD_TIMEOUT)
            return found

        containers.serve(lambda stimulus: pool.tell(Told(stimulus, "containers")), services)
        pool.tell(Told(RulesWished(rules_of(self._config.pool)), "start"))
        return pool

    def _make_collector(self, post: NodePost, teller: Teller) -> Collector:
        def tell(request_id: RequestId, stimulus: Stimulus) -> None:
            self._orchestrators.tell(request_id, Told(stimulus, "collector"))

        return Collector(
            calls=self._calls,
            me=self._me,
            blobs=self._blobs,
            datasets=self._datasets,
            logs=LogStore(self._home.log / "jobs"),
            network=self._network,
            post=post,
            teller=teller,
            tell=tell,
        )

    def _make_renewals(self, post: NodePost, collector: Collector) -> Renewals:
        return Renewals(
            seed=self._identity.seed(),
            wallet=self._wallet,
            post=post,
            providers=collector.providers,
            clock=self._clock,
            calls=self._calls,
        )

    def _open_blob(self, workbench: Workbench, collector: Collector) -> Callable[[PeerId, Digest], Path | None]:
        def open_blob(peer: PeerId, digest: Digest) -> Path | None:
            shared = self._datasets.is_shared(digest)
            allowed = shared or collector.may_read(peer, digest) or workbench.may_read(peer, digest)
            return self._blobs.path(digest) if allowed and not self._datasets.is_withheld(peer, digest) else None

        return open_blob

    def _world(  # noqa: PLR0917 - called once
        self,
        store: EventStore,
        journal: CrewJournal,
        post: NodePost,
        workbench: Workbench,
        collector: Collector,
        renewals: Renewals,
        finding: Finding,
        obligations: Obligations,
    ) -> World:
        def forward_log(peer: PeerId, message: AllocationMessage) -> None:
            self._calls.call(workbench.resend_logs if message.is_question else collector.log_arrived, peer, message)

        def show_log(peer: PeerId, message: AllocationMessage, about: str) -> None:
            self._calls.call(answer, (workbench.logs, collector.logs), post, Question(peer, message, about))

        def hear_of_data(peer: PeerId, message: DataMessage) -> None:
            self._calls.call(_hear_of_data, workbench, collector, finding, peer, message)

        def hear_of_calls(letter: object) -> None:
            self._to_pool(letter)

        return World(
            journal=journal,
            post=post,
            workbench=workbench,
            collector=collector,
            renewals=renewals,
            logs=forward_log,
            data=hear_of_data,
            calls=hear_of_calls,
            show_log=show_log,
            survey=lambda: survey_from_thread(store, self._loop),
            introduce=lambda: self._loop.call_soon_threadsafe(self._hearing.introduce),
            read_grant=read_grant,
            orchestrators=self._orchestrators,
            allocations=self._allocations,
            obligations=obligations,
            workload=Workload(),
            seekers=Seekers(self._config.market.seekers),
            work_out=self._spot_answers.work_out,
            held=self._holdings.of,
            mishaps=self._mishaps,
        )

    def _spawn(self, runtime: ThreadRuntime, strangers: Strangers, world: World) -> Address:
        me, config = self._me, self._config
        limit = config.accounts.credit_limit
        book = OfferBook(
            me, bid_validity_ms=config.market.bid_validity_ms, default_credit=limit, salts=Salts(os.urandom(SALT_BYTES))
        )
        return runtime.spawn(
            "node",
            lambda: Node(
                runtime=runtime,
                world=world,
                gate=Gate(
                    me,
                    config.network.topic,
                    self._counters.inc,
                    Scores(config.network.forgive_s * SECOND),
                    strangers.source,
                ),
                strangers=strangers,
                book=book,
                accounts=Accounts(me, limit, default_debt_limit=config.accounts.debt_limit),
                hello=self._hello(),
                ask_directly=config.market.ask_directly,
                spot_check_price=config.market.spot_check_price,
                silence_pause_ms=config.network.forgive_s * SECOND,
            ),
            self._give_up,
        )

    async def _make_strangers(self, store: EventStore) -> Strangers:
        """Outlives the node actor: what was written is written."""
        config = self._config
        budget = LogBudget(config.store.strangers_daily)
        await spent.begin(self._home.log_budget, store, budget, self._clock())
        return Strangers(
            budget,
            store_bytes=lambda: store.size_bytes,
            most_store_bytes=config.store.events_max or NO_END,
        )

    def _hello(self) -> Hello:
        node_id = self._identity.node_id
        return Hello(
            version=PROTOCOL_VERSION,
            software=f"dms/{__version__}",
            now=0,
            uuid=node_id.uuid,
            name=self._config.node.name or self._me[-8:],
            addresses=(),
            summary=Capability(),
            accepts_work=self._config.provider.enabled,
            successions=self._identity.successions,
        )

    def _give_up(self, name: str) -> None:
        self._notes[GIVEN_UP] = f"actor {name} failed again and again; the log says why"
        self._loop.call_soon_threadsafe(self._stop.set)


def _hear_of_data(
    workbench: Workbench, collector: Collector, finding: Finding, peer: PeerId, message: DataMessage
) -> None:
    match message:
        case HoldersWanted():
            collector.holders_wanted(peer, message)
        case Holders():
            workbench.holders_told(peer, message)
        case Serve():
            workbench.serve(peer, message)
        case DatasetWanted():
            finding.asked_for(peer, message)
        case DatasetHeld():
            finding.heard(peer, message)


async def _end_network(network: Network, listening: asyncio.Task[tuple[str, ...]]) -> None:
    if not listening.done():
        listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await network.stop()
