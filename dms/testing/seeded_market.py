"""A whole market of real Node, Orchestrator and Allocation behaviours on one thread, drawn from a seed: who is there, what is asked, what goes wrong.

What must hold is checked after every batch and at the end (`SeededMarket.check_end`). `Troubles` says what may go wrong: processes are killed
and started again, links are cut, frames lost and doubled, disks fill up, behaviours fail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import product
from typing import Any, Final

import msgspec

from dms.node.survey import survey
from dms.testing.seeded_world import (
    TOPIC,
    SeededCollector,
    SeededFabric,
    SeededJournal,
    SeededMachine,
    SeededPost,
    SeededRenewals,
    SeededWorkbench,
    finish,
)
from dms.trust.grant import read_grant
from dms_actors.behaviour import Behaviour
from dms_actors.directory import Directory
from dms_actors.events import EVENT_KINDS, from_row
from dms_actors.gate import Gate
from dms_actors.letters import RequestOver, Submit, Told
from dms_actors.machine_actor import MachineActor
from dms_actors.mishaps import Mishaps
from dms_actors.node import Node
from dms_actors.node_parts import PEERS_STREAM
from dms_actors.ports import NetworkUp, StoredEvent
from dms_actors.strangers import Strangers
from dms_actors.testing.seeded import EPOCH, SeededAddress, SeededLoop, SeededRuntime
from dms_actors.world import World
from dms_proto.accounts.book import Accounts
from dms_proto.allocation.events import CLOSING
from dms_proto.capability import Capability, ExecutorOffer, Isolation, Price, Resources
from dms_proto.errors import DmsError, MachineError
from dms_proto.grants.trust import Trust
from dms_proto.ids import RequestId, request_id, uuid_of
from dms_proto.market.auction_events import RequestEnded
from dms_proto.market.auction_terms import Terms
from dms_proto.market.obligations import Obligations
from dms_proto.market.offer_state import CapabilityMeasured, OfferBook, PolicyWished
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.market.proofs import FrameKept
from dms_proto.market.seekers import Seekers
from dms_proto.market.workload import Workload
from dms_proto.membership.machine import PROTOCOL_VERSION
from dms_proto.messages import Hello, Pricing
from dms_proto.sim.comparing import NEAR
from dms_proto.sim.invariants import difference, durable
from dms_proto.units import GIB, MIB, MINUTE
from dms_proto.verification.policy import HASH, Apart, Policy, Verification
from dms_proto.wire import Signer
from dms_proto.work import EndReason, Limits, Task

CORE: Final = 1000
TARIFF: Final = Price(start=100, cpu_core_hour=20_000)
TROUBLE_MS: Final = 30_000
"""How long things go wrong; then all is mended, and everything must come to its end."""
PATIENCE_MS: Final = 60 * MINUTE
OUTCOMES: Final = (EndReason.COMPLETED,) * 6 + (
    EndReason.EXIT_NONZERO,
    EndReason.OUT_OF_MEMORY,
    EndReason.PROVIDER_FAULT,
)


_POLICIES: Final = (Policy.NONE, Policy.REPLICATE, Policy.ADAPTIVE)


class Troubles(msgspec.Struct, frozen=True):
    """How often each kind of trouble comes in one run, and how unreliable the network is meanwhile."""

    kills: int = 0
    cuts: int = 0
    full_disks: int = 0
    failures: int = 0
    loss: float = 0.0
    doubling: float = 0.0


SEEKERS: Final = (1, 2, 8)
"""Requests of a node that seek at a time; nodes take turns."""
CALM: Final = Troubles()
EVERYTHING: Final = Troubles(kills=3, cuts=2, full_disks=2, failures=3, loss=0.03, doubling=0.1)


class SeededNode:
    """One node: its key and its machine outlive its process."""

    def __init__(self, market: SeededMarket, number: int) -> None:
        rng = market.loop.rng
        self.signer = Signer(rng.randbytes(32))
        self.machine = SeededMachine(market.loop, number)
        self.runtime: SeededRuntime | None = None
        self.node: SeededAddress
        self.journal: SeededJournal
        self.seekers: Seekers
        self.orchestrators = Directory()
        self.allocations = Directory()
        self.mishaps = Mishaps(lambda mishap, error: market.loop.failures.append((mishap.actor, error)))
        self._market = market
        self._number = number
        self._skew_ms = rng.randint(-5_000, 5_000)
        self._capability = Capability(
            resources=Resources(rng.randint(1, 4) * CORE, 8 * GIB, 50 * GIB),
            cpu_score=1000,
            executors=(ExecutorOffer("seeded", "1", Isolation.NONE),),
        )

    def start(self) -> None:
        """Starts the process, and connects it to whoever is up."""
        fabric = self._market.fabric
        self.runtime = runtime = SeededRuntime(self._market.loop, self._skew_ms)
        self.journal = SeededJournal(self.machine.log, runtime)
        self.orchestrators, self.allocations = Directory(), Directory()
        post = SeededPost(self.signer, fabric, runtime)
        self.seekers = Seekers(SEEKERS[self._number % len(SEEKERS)])
        world = World(
            journal=self.journal,
            post=post,
            workbench=SeededWorkbench(self.machine, runtime, self.allocations),
            collector=SeededCollector(runtime, self.orchestrators),
            renewals=SeededRenewals(),
            show_log=lambda _peer, _message, _about: None,
            logs=lambda _peer, _message: None,
            data=lambda _peer, _message: None,
            calls=lambda _letter: None,
            survey=lambda: finish(survey(self.machine.log)),
            introduce=lambda: runtime.later(1, self._introduce),
            read_grant=read_grant,
            orchestrators=self.orchestrators,
            allocations=self.allocations,
            obligations=Obligations(),
            workload=Workload(),
            seekers=self.seekers,
            work_out=lambda _seed, _rounds, _then: None,
            held=lambda _request: 0,
            mishaps=self.mishaps,
        )
        self.node = runtime.spawn("node", lambda: self._build(world, runtime), lambda _name: self._give_up())
        post.to_self = self.node.tell
        fabric.up[self.signer.peer_id] = (runtime, self.node)
        self.node.tell(Told(PolicyWished(ProviderPolicy(tariff=TARIFF)), "start"))
        self.node.tell(Told(CapabilityMeasured(self._capability), "start"))
        for other in tuple(fabric.up):
            runtime.later(20, lambda other=other: fabric.connect(self.signer.peer_id, other))  # type: ignore[misc]

    def _build(self, world: World, runtime: SeededRuntime) -> Node:
        hello = Hello(
            version=PROTOCOL_VERSION,
            software="seeded",
            now=0,
            uuid=uuid_of(self.signer.public_key),
            name=f"n{self._number}",
            addresses=(),
            summary=Capability(),
        )
        strangers = self._market.strangers()
        gate = Gate(self.signer.peer_id, TOPIC, lambda _name, _label: None, source_of=strangers.source)
        book = OfferBook(self.signer.peer_id)
        return Node(
            runtime=runtime,
            world=world,
            gate=gate,
            strangers=strangers,
            book=book,
            accounts=Accounts(book.me),
            hello=hello,
        )

    def _introduce(self) -> None:
        me = self.signer.peer_id
        self.node.tell(NetworkUp((f"/memory/{me}",)))
        for peer in self._market.fabric.links_of(me):
            self.node.tell(self._market.fabric.seen(peer))

    def _give_up(self) -> None:
        """The process ends when its node actor is given up, and is started again by whoever looks after it."""
        self.kill()
        self._market.loop.later(1_000, lambda: self.start() if self.runtime is None else None)

    def kill(self) -> None:
        """Kill -9."""
        assert self.runtime is not None
        self.runtime.kill()
        self.runtime = None
        fabric, me = self._market.fabric, self.signer.peer_id
        del fabric.up[me]
        for peer in fabric.links_of(me):
            fabric.disconnect(me, peer)


class SeededMarket:
    """A market in a box.

    Args:
        seed: of all chance.
        troubles: what may go wrong.
        strangers: makes what each node thinks of strangers.
    """

    def __init__(self, seed: int, troubles: Troubles = CALM, *, strangers: Callable[[], Strangers] = Strangers) -> None:
        self.strangers = strangers
        self.loop = SeededLoop(seed)
        self.loop.watch = self._check_batch
        self.fabric = SeededFabric(self.loop)
        self.troubles = troubles
        self.nodes = [SeededNode(self, number) for number in range(self.loop.rng.randint(2, 5))]
        self.requests: dict[RequestId, SeededNode] = {}
        self.accepted: set[RequestId] = set()

    def run(self) -> None:
        """Plays it from the first start to the end of everything."""
        for node in self.nodes:
            self.loop.later(self.loop.rng.randint(0, 500), node.start)
        for number in range(self.loop.rng.randint(2, 6)):
            self.loop.later(self.loop.rng.randint(500, 8_000), lambda number=number: self._submit(number))  # type: ignore[misc]
        self._plan_troubles()
        self.loop.run(lambda: self.loop.now >= EPOCH + TROUBLE_MS, EPOCH + TROUBLE_MS)
        self.loop.now = max(self.loop.now, EPOCH + TROUBLE_MS)
        self._mend()
        self.loop.run(self.is_over, self.loop.now + PATIENCE_MS)

    # ------------------------------------------------------------------------------------------------------ what is asked

    def _submit(self, number: int) -> None:
        node = self.loop.rng.choice(self.nodes)
        if node.runtime is None:
            return
        terms = self._terms(number, node)
        self.requests[terms.request_id] = node
        try:
            node.node.ask(Submit(terms, "owner"), 5)
            self.accepted.add(terms.request_id)
        except DmsError:  # it is being killed, or its disk is full: the owner sees an error, and nothing was promised
            node.node.tell(RequestOver(terms.request_id))

    def _terms(self, number: int, node: SeededNode) -> Terms:
        rng = self.loop.rng
        command = ("work", str(rng.choice((0, 50, 400, 3_000))), rng.choice(OUTCOMES).value)
        resources = Resources(rng.randint(1, 2) * CORE, 256 * MIB)
        policy, is_compared = _POLICIES[number % len(_POLICIES)], number >= len(_POLICIES)
        outputs = ("out",) if is_compared else ()
        task = Task("seeded", command, outputs=outputs, resources=resources, limits=Limits(wall_ms=MINUTE))
        needs = Capability(resources=resources, executors=(ExecutorOffer("seeded"),), max_wall_ms=MINUTE)
        return Terms(
            request_id=request_id(number.to_bytes(16, "big")),
            requester=node.signer.peer_id,
            task=task,
            needs=needs,
            count=rng.choice((1, 1, 1, 2, 4)),
            max_price=10_000_000,
            deadline_at=EPOCH + 20_000 if rng.random() < 0.1 else 0,
            verify=Verification(policy, comparator=NEAR if is_compared else HASH, apart=Apart.NODES),
            seed=f"secret {number}".encode(),
        )

    def submit(self, node: SeededNode, millis: int = 50, *, pricing: Pricing = Pricing.FIRST_PRICE) -> RequestId:
        """A node's owner asks for one core for a while."""
        command = ("work", str(millis), EndReason.COMPLETED.value)
        task = Task("seeded", command, resources=Resources(CORE, 256 * MIB), limits=Limits(wall_ms=MINUTE))
        needs = Capability(resources=task.resources, executors=(ExecutorOffer("seeded"),), max_wall_ms=MINUTE)
        id_ = request_id(self.loop.rng.randbytes(16))
        terms = Terms(
            request_id=id_,
            requester=node.signer.peer_id,
            task=task,
            needs=needs,
            count=1,
            max_price=10_000_000,
            pricing=pricing,
        )
        node.node.ask(Submit(terms, "owner"), 5)
        self.requests[id_] = node
        return id_

    # ---------------------------------------------------------------------------------------------------- what goes wrong

    def _plan_troubles(self) -> None:
        rng, troubles = self.loop.rng, self.troubles
        self.fabric.loss, self.fabric.doubling = troubles.loss, troubles.doubling
        for trouble, times in (
            (self._kill, troubles.kills),
            (self._cut, troubles.cuts),
            (self._fill_disk, troubles.full_disks),
            (self._fail, troubles.failures),
        ):
            for _ in range(times):
                self.loop.later(rng.randint(600, TROUBLE_MS - 5_000), trouble)

    def _kill(self) -> None:
        node = self.loop.rng.choice(self.nodes)
        if node.runtime is not None:
            node.kill()
            self.loop.later(self.loop.rng.randint(100, 4_000), lambda: node.start() if node.runtime is None else None)

    def _cut(self) -> None:
        one, other = self.loop.rng.sample([node.signer.peer_id for node in self.nodes], 2)
        self.fabric.cuts.add(frozenset((one, other)))
        self.fabric.disconnect(one, other)
        self.loop.later(self.loop.rng.randint(200, 5_000), lambda: self._heal(frozenset((one, other))))

    def _heal(self, link: frozenset[Any]) -> None:
        self.fabric.cuts.discard(link)
        self.fabric.connect(*sorted(link))

    def _fill_disk(self) -> None:
        log = self.loop.rng.choice(self.nodes).machine.log
        log.fault = MachineError("disk_full", "no room")
        self.loop.later(self.loop.rng.randint(100, 3_000), lambda: setattr(log, "fault", None))

    def _fail(self) -> None:
        node = self.loop.rng.choice(self.nodes)
        if node.runtime is not None and node.runtime.actors:
            self.loop.rng.choice(node.runtime.actors).fail_next()

    def _mend(self) -> None:
        self.fabric.loss = self.fabric.doubling = 0.0
        for node in self.nodes:
            node.machine.log.fault = None
            if node.runtime is None:
                node.start()
        for link in sorted(self.fabric.cuts, key=sorted):
            self._heal(link)

    # --------------------------------------------------------------------------------------------------- what must be true

    def is_over(self) -> bool:
        """Whether every request has ended, nothing is held anywhere, nobody has anything more to do, and all of it is written."""
        return all(
            node.runtime is not None
            and isinstance(node.node.behaviour, Node)
            and not node.node.behaviour.book.state.ledger.locks
            and not node.node.behaviour.book.state.ledger.reservations
            and not node.orchestrators.ids()
            and not node.allocations.ids()
            and node.journal.is_written
            for node in self.nodes
        )

    def _check_batch(self, name: str, behaviour: Behaviour) -> None:
        if isinstance(behaviour, Node):
            behaviour.book.state.ledger.check()
            behaviour.accounts.state.check()

    def check_end(self) -> None:
        """Raises AssertionError when something is not as it must be at the end."""
        defects = [(name, error) for name, error in self.loop.failures if not isinstance(error, MachineError)]
        assert not defects, defects
        for node in self.nodes:
            assert isinstance(node.node.behaviour, Node)
            ledger = node.node.behaviour.book.state.ledger
            assert not ledger.locks, f"locks left: {ledger.locks}"
            assert not ledger.reservations, f"reservations left: {ledger.reservations}"
            assert not node.orchestrators.ids(), f"requests left: {node.orchestrators.ids()}"
            assert not node.allocations.ids(), f"allocations left: {node.allocations.ids()}"
            assert all(run.is_over for run in node.machine.runs.values()), "something runs that belongs to nobody"
            twice = {id_: times for id_, times in node.machine.executions.items() if times > 1}
            assert not twice, f"run more than once: {twice}"
            self._check_replay(node)
            _check_streams(node.machine.log.events)
        books = [node.node.behaviour.accounts.state for node in self.nodes if isinstance(node.node.behaviour, Node)]
        assert not [differs for pair in product(books, repeat=2) if (differs := difference(*pair))]
        for request, node in self.requests.items():
            kinds = [row.kind for row in node.machine.log.events if row.stream == request]
            assert request not in self.accepted or kinds.count("RequestEnded") == 1, f"{request}: {kinds}"

    def _check_replay(self, node: SeededNode) -> None:
        """The live states of the actors are the folds of their streams."""
        assert node.runtime is not None
        for actor in node.runtime.actors:
            behaviour = actor.behaviour
            assert isinstance(behaviour, MachineActor)
            for shell in behaviour.shells:
                if shell.stream == PEERS_STREAM:
                    continue  # much of what is known of peers matters only while the process lives
                ours = type(shell.state) in (OfferBook, Accounts, Trust)
                state = type(shell.state)(node.signer.peer_id) if ours else type(shell.state)()
                for row in node.journal.read_stream(shell.stream):
                    state = shell.machine.evolve(state, from_row(row))
                assert durable(state) == durable(_as_logged(shell.state, state)), (
                    f"{actor.name}: the log gives {state}, live is {shell.state}"
                )

    def endings(self) -> dict[RequestId, EndReason]:
        """How each request ended, from the logs."""
        found = {}
        for request, node in self.requests.items():
            for row in finish(node.machine.log.query(stream=request, kinds=("RequestEnded",))):
                event = from_row(row)
                assert isinstance(event, RequestEnded)
                found[request] = event.reason
        return found

    def digest(self) -> str:
        """Of everything every node wrote down."""
        told = hashlib.sha256()
        for node in self.nodes:
            for row in node.machine.log.events:
                told.update(repr(row).encode())
        return told.hexdigest()


def _as_logged(live: object, logged: object) -> object:
    """A live state, without the rounds of asking that were turned away for want of log budget: those are not written (`RequestTurnedAway`)."""
    if not isinstance(live, OfferBook) or not isinstance(logged, OfferBook):
        return live
    behind = {asking: number for asking, number in logged.rounds.items() if live.rounds.get(asking, -1) < number}
    assert not behind, f"answered by the log and not by the node: {behind}"
    return msgspec.structs.replace(live, rounds=logged.rounds)


def _check_streams(events: tuple[StoredEvent, ...]) -> None:
    """An end is an end: exactly one for each allocation that began, and nothing but its aftermath behind it."""
    streams: dict[str, list[str]] = {}
    for row in events:
        assert row.kind in EVENT_KINDS
        if row.kind != FrameKept.__name__:  # what was sent last of all is kept last of all
            streams.setdefault(row.stream, []).append(row.kind)
    for stream, kinds in streams.items():
        if "AllocationOpened" in kinds:
            assert kinds.count("AllocationEnded") == 1, f"{stream}: {kinds}"
            behind = set(kinds[kinds.index("AllocationEnded") + 1 :])
            assert behind <= {"EndingRepeated", *(kind.__name__ for kind in CLOSING)}, f"{stream}: {kinds}"
        if "RequestEnded" in kinds:
            assert kinds[-1] == "RequestEnded", f"{stream}: {kinds}"
