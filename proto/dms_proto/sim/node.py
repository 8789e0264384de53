"""One simulated node: the five machines composed into one, as a real node composes them.

Every stimulus takes the same path: the machine decides, the events are written to the log (transient ones are only folded), then the effects are
performed. What one machine wants of another goes through the node's inbox; what it wants of the world goes to `World`. A crash loses
everything but the log and the runs on the machine; a restart folds the log and asks every machine what it had under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from dms_proto.accounts import machine as accounting
from dms_proto.accounts.book import Accounts, Book
from dms_proto.allocation import machine as allocation_machine
from dms_proto.allocation import resizing
from dms_proto.allocation.effects import Close, Execute, FetchInputs, FreeCapacity, StopRun, StoreOutputs
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.freezing import FreezeRun, ThawRun
from dms_proto.allocation.state import RUNS, Allocation, LifePhase
from dms_proto.allocation.stimuli import (
    CancelHeard,
    Invoked,
    NodeRestarted,
    Opened,
    ReceiptHeard,
    RequesterBack,
    RequesterGone,
)
from dms_proto.capability import Capability, ExecutorOffer, Isolation, Resources
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.machine import Blame, Decision, Effect, Event, Send, Stimulus, TimeCame, Transient
from dms_proto.market import (
    auction,
    auction_effects,
    auction_fold,
    auction_state,
    auction_stimuli,
    offer_book,
    offer_fold,
    offer_state,
    strays,
)
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.market.reach import is_within
from dms_proto.market.second_price import Salts
from dms_proto.market.seekers import Seekers
from dms_proto.market.seen import seen_in
from dms_proto.market.workload import Workload
from dms_proto.membership import machine as membership_machine
from dms_proto.membership.audience import audience
from dms_proto.membership.bidder import bidder_facts
from dms_proto.membership.ways import Ways
from dms_proto.messages import (
    AllocationStatus,
    Bid,
    BidRequest,
    Cancel,
    Closing,
    Commit,
    CommitAck,
    CommitRefused,
    Decline,
    Hello,
    Invocation,
    InvocationAck,
    Iou,
    Message,
    Probe,
    Receipt,
    Release,
    Resize,
    Resized,
    SealedBid,
)
from dms_proto.promises import WRITTEN_FIRST
from dms_proto.reputation import Kind, Record
from dms_proto.reputation.answer_times import AnswerTimes
from dms_proto.reputation.rounds import Rounds
from dms_proto.reputation.silence import Bidder, SetAside, Silence, Word
from dms_proto.sim.clock import Clock
from dms_proto.sim.demands import Violation
from dms_proto.sim.executor import SimMachine
from dms_proto.sim.liars import Liar
from dms_proto.sim.network import SimNetwork
from dms_proto.sim.plan import NodeSpec
from dms_proto.units import CORE, HOUR, SECOND
from dms_proto.work import Task

EPOCH: Final = 1_700_000_000_000
"""Unix milliseconds of the world's time 0."""
BOOK: Final = "book"
MEMBERS: Final = "members"
ACCOUNTS: Final = "credits"


class Part(NamedTuple):
    """A machine, as the node drives it."""

    decide: Callable[[Any, Any, int], Decision]
    evolve: Callable[[Any, Event], Any]
    next_deadline: Callable[[Any], int | None]
    resume: Callable[[Any], tuple[Effect, ...]]


PARTS: Final = {
    "b": Part(offer_book.decide, offer_fold.evolve, offer_book.next_deadline, offer_book.resume),
    "m": Part(
        membership_machine.decide,
        membership_machine.evolve,
        membership_machine.next_deadline,
        membership_machine.resume,
    ),
    "c": Part(accounting.decide, accounting.evolve, accounting.next_deadline, accounting.resume),
    "r": Part(auction.decide, auction_fold.evolve, auction.next_deadline, auction.resume),
    "a": Part(
        allocation_machine.decide,
        evolve,
        allocation_machine.next_deadline,
        allocation_machine.resume,
    ),
}
"""By the first letter of the stream: "book", "members", "credits", or the id of a request or an allocation."""

NEW: Final = {"r": auction_state.Auction(), "a": Allocation()}


class World(Protocol):
    """What a node needs of the world around it."""

    clock: Clock
    network: SimNetwork

    def stepped(self, node: SimNode, stream: str, stimulus: Stimulus, before: Any, decision: Decision) -> None:
        """A node took a step: `node.states[stream]` is the state after it. Called before its effects are performed."""
        ...

    def rested(self, node: SimNode) -> None:
        """A node has dealt with all that it knows of."""
        ...

    def collect(self, node: SimNode, effect: auction_effects.Collect) -> None:
        """Fetches what an ended allocation left."""
        ...

    def compare(self, node: SimNode, stream: str, effect: auction_effects.Compare) -> None:
        """Asks a comparator about the answers of copies."""
        ...

    def fetch(self, node: SimNode, allocation_id: AllocationId, requester: PeerId) -> None:
        """Fetches the inputs of an allocation."""
        ...

    def store(self, node: SimNode, allocation_id: AllocationId, task: Task | None) -> None:
        """Stores what an allocation left."""
        ...

    def died(self, node: SimNode) -> None:
        """A node reached its crash point."""
        ...


class SimNode:
    """The machines of one node, its log, and what it performs for them."""

    def __init__(  # noqa: PLR0917 - called once
        self,
        index: int,
        peer: PeerId,
        spec: NodeSpec,
        world: World,
        machine: SimMachine,
        own: tuple[PeerId, ...] = (),
    ) -> None:
        self.index = index
        self.peer = peer
        self.spec = spec
        self.own = own
        self.world = world
        self.machine = machine
        self.offset = EPOCH + spec.skew_ms
        self.log: list[tuple[str, Event]] = []
        self.states: dict[str, Any] = {}
        self.up = False
        self.life = 0
        self.frozen_until = 0
        self.appends = 0
        self.crash_points: dict[int, int] = {}
        self.past: dict[str, Any] = {}
        self.record = Record()
        self.silence = Silence()
        self.answer_times = AnswerTimes()
        self.rounds = Rounds()
        self.ways = Ways()
        self.workload = Workload()
        self.seekers = Seekers(spec.seekers)
        self.early: dict[str, auction_effects.Announce] = {}
        """Rounds of requests whose turn to seek has not come."""
        self.liar: Liar | None = None
        self._inbox: deque[tuple[str, Stimulus]] = deque()
        self._armed: dict[str, int] = {}
        self._busy = False
        self._durable = 0

    def __repr__(self) -> str:
        return f"n{self.index}"

    @property
    def now(self) -> int:
        """Unix milliseconds by this node's clock."""
        return self.world.clock.now + self.offset

    @property
    def book(self) -> offer_state.OfferBook:
        """The provider's side."""
        book: offer_state.OfferBook = self.states[BOOK]
        return book

    @property
    def membership(self) -> membership_machine.Membership:
        """Whom it knows."""
        membership: membership_machine.Membership = self.states[MEMBERS]
        return membership

    @property
    def accounts(self) -> Accounts:
        """Who owes whom."""
        accounts: Accounts = self.states[ACCOUNTS]
        return accounts

    def requests(self) -> dict[RequestId, auction_state.Auction]:
        """Its requests, those that are over included."""
        return {RequestId(key): state for key, state in (*self.past.items(), *self.states.items()) if key[0] == "r"}

    def allocations(self) -> dict[AllocationId, Allocation]:
        """What was committed to it, over or not."""
        return {AllocationId(key): state for key, state in (*self.past.items(), *self.states.items()) if key[0] == "a"}

    # ------------------------------------------------------------------------------------------------- living and dying

    def start(self) -> None:
        """The process starts: the log is folded, everything under way is taken up again."""
        self.up = True
        self.life += 1
        self._busy = True  # nothing is met before everything is there
        self.states = self.fold()
        self._set_over_aside()
        self._count_work()
        self.states[MEMBERS] = membership_machine.after_restart(self.states[MEMBERS])
        self.feed(MEMBERS, membership_machine.SelfDescribed(self._hello()))
        self.feed(BOOK, offer_state.PolicyWished(self._policy()))
        self.feed(BOOK, offer_state.OwnerSeen())
        self._show_credit(*self.accounts.known)
        self.feed(BOOK, offer_state.CapabilityMeasured(capability_of(self.spec)))
        for stream, state in list(self.states.items()):
            if stream[0] == "a" and state.phase in RUNS:
                adopted = self.machine.adopt(self, AllocationId(stream))
                self.feed(stream, NodeRestarted(adopted))
            elif stream[0] == "r":
                self.feed(stream, auction_stimuli.Restarted())
        for reservation in self.book.ledger.reservations.values():
            over = self.past.get(reservation.allocation_id)
            if over is not None:
                self.feed(BOOK, offer_state.AllocationOver(reservation.allocation_id))
            elif reservation.allocation_id not in self.states:  # died between the commit and the opening
                self._open_allocation(BOOK, offer_state.OpenAllocation(reservation, None))
        for stream, state in list(self.states.items()):
            for effect in PARTS[stream[0]].resume(state):
                self._perform(stream, effect)
        self._busy = False
        self._drain()
        for stream, state in self.states.items():
            self._arm(stream, PARTS[stream[0]].next_deadline(state))

    def _count_work(self) -> None:
        for request_id, request in self.requests().items():
            self.workload.note(request_id, request)
            self.seekers.resume(request_id, request)
        for request_id, request in self.requests().items():
            self.seekers.note(request_id, request)

    def die(self, *, forgets: bool) -> None:
        """The process is killed. Events on which no promise rests may not have been written yet: the last of them are lost."""
        if forgets:
            del self.log[self._durable :]
        self.up = False
        self.life += 1
        self.states = {}
        self.past = {}
        self.silence = Silence()
        self.answer_times = AnswerTimes()
        self.rounds = Rounds()
        self.ways = Ways()
        self.workload = Workload()
        self.seekers = Seekers(self.spec.seekers)
        self.early = {}
        self._inbox.clear()
        self._armed.clear()

    def fold(self) -> dict[str, Any]:
        """The states as they follow from the log alone."""
        states: dict[str, Any] = {
            BOOK: offer_state.OfferBook(self.peer, salts=Salts(self.peer.encode())),
            MEMBERS: membership_machine.Membership(self.peer),
            ACCOUNTS: Accounts(self.peer),
        }
        for stream, event in self.log:
            key = stream[0]
            states[stream] = PARTS[key].evolve(states.get(stream) or NEW[key], event)
        return states

    def _set_over_aside(self) -> None:
        """What is over is not kept at hand: messages about it are answered as about something unknown."""
        for stream, state in list(self.states.items()):
            if state.__class__ in _OVER and state.phase is _OVER[state.__class__]:
                self.past[stream] = self.states.pop(stream)

    def _conclude(self, stream: str, _effect: Effect) -> None:
        if stream in self.states:
            self.past[stream] = self.states.pop(stream)
            self._armed.pop(stream, None)

    def _policy(self) -> ProviderPolicy:
        return ProviderPolicy(
            accepts_work=self.spec.accepts_work,
            tariff=self.spec.tariff,
            own_peers=self.own,
            offline_gives_way=self.spec.offline_gives_way,
            evict_offline_after_ms=5 * SECOND,
        )

    def _hello(self) -> Hello:
        return Hello(
            version=membership_machine.PROTOCOL_VERSION,
            software="sim",
            now=0,
            uuid=str(self.index),
            name=f"n{self.index}",
            addresses=(f"/sim/{self.index}",),
            summary=capability_of(self.spec),
            accepts_work=self.spec.accepts_work,
        )

    # ---------------------------------------------------------------------------------------------------------- stepping

    def feed(self, stream: str, stimulus: Stimulus) -> None:
        """Gives a stimulus to one machine, and performs whatever follows."""
        self._inbox.append((stream, stimulus))
        if not self._busy:
            self._drain()

    def _drain(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while self._inbox:
                self._step(*self._inbox.popleft())
        finally:
            self._busy = False
        self.world.rested(self)

    def _step(self, stream: str, stimulus: Stimulus) -> None:
        key = stream[0]
        part = PARTS[key]
        before = self.states.get(stream)
        if before is None:
            if not isinstance(stimulus, _OPENERS):
                return  # about something that is over
            before = NEW[key]
        decision, after = self._decide(part, before, stimulus)
        come = self._note_work(stream, after)
        booked = [accounting.Posted(effect.entry) for effect in decision.effects if isinstance(effect, Book)]
        facts = [(stream, event) for event in decision.events if not isinstance(event, Transient)]
        facts += [(ACCOUNTS, entry) for entry in booked]
        self.log += facts
        if any(type(event).__name__ in WRITTEN_FIRST for _, event in facts):
            self._durable = len(self.log)  # written as a whole, and with all that was to be written soon
        logged = bool(facts)
        self.states[stream] = after
        for entry in booked:
            self.states[ACCOUNTS] = accounting.evolve(self.accounts, entry)
        self.world.stepped(self, stream, stimulus, before, decision)
        effects = decision.effects
        self.appends += logged
        dying = logged and self.appends in self.crash_points
        if dying:
            effects = effects[: self.crash_points.pop(self.appends)]
        for effect in effects:
            self._perform(stream, effect)
        self._take_turns(come)
        if dying:
            self.world.died(self)
        elif stream in self.states:
            self._arm(stream, part.next_deadline(after))

    def _note_work(self, stream: str, after: object) -> tuple[RequestId, ...]:
        """What a request has under way counts for the others. Gives those whose turn to seek has come by that."""
        if not isinstance(after, auction_state.Auction):
            return ()
        self.workload.note(RequestId(stream), after)
        return self.seekers.note(RequestId(stream), after)

    def _take_turns(self, come: tuple[RequestId, ...]) -> None:
        for request_id in come:
            if (announce := self.early.pop(request_id, None)) is not None:
                self._announce(request_id, announce)

    def _decide(self, part: Part, before: Any, stimulus: Stimulus) -> tuple[Decision, Any]:
        after = informed = before
        try:
            if isinstance(before, auction_state.Auction):
                informed, stimulus = self.workload.informed(before, stimulus)
            decision = part.decide(informed, stimulus, self.now)
            for event in decision.events:
                after = part.evolve(after, event)
        except Exception as error:
            raise Violation("no machine raises", f"{self!r}: {stimulus}: {error!r}") from error
        return decision, after

    def _arm(self, stream: str, deadline: int | None) -> None:
        """Arms the timer of a stream. An earlier one that is armed already stays: it comes for nothing and arms the next."""
        if deadline is None:
            self._armed.pop(stream, None)
            return
        at = deadline - self.offset
        armed = self._armed.get(stream)
        if armed is not None and armed <= at:
            return
        self._armed[stream] = at
        self.world.clock.at(at, self._wake, stream, at, self.life)

    def _wake(self, stream: str, at: int, life: int) -> None:
        if life != self.life or self._armed.get(stream) != at:
            return
        if self.frozen_until > self.world.clock.now:
            self.world.clock.at(self.frozen_until, self._wake, stream, at, life)
            return
        del self._armed[stream]
        state = self.states[stream]
        deadline = PARTS[stream[0]].next_deadline(state)
        if deadline is None:
            return
        if deadline > self.now:
            self._arm(stream, deadline)
            return
        self.feed(stream, TimeCame())
        if life == self.life and stream in self.states and stream not in self._armed:
            self._arm(stream, PARTS[stream[0]].next_deadline(self.states[stream]))

    # --------------------------------------------------------------------------------------------------------- receiving

    def receive(self, sender: PeerId, message: Message) -> None:
        """A message arrived, its sender proven."""
        if not self.up:
            return
        if self.frozen_until > self.world.clock.now:
            self.world.clock.at(self.frozen_until, self.receive, sender, message)
            return
        if isinstance(message, BidRequest) and not self.spec.accepts_work:
            return  # it only asks
        if self.liar is not None:
            self.liar.hears(message)
        if isinstance(message, Bid | SealedBid | Decline):
            took = self.rounds.answered(sender, message.request_id, message.round, self.now)
            if took is not None:
                self.ways.took(sender, took, self.now)
        routed = _ROUTES[type(message)](self, sender, message)
        if routed is None:
            return
        stream, stimulus = routed
        if stream[0] in "ra" and stream not in self.states:
            for answer in strays.answer(sender, message, self.accounts):
                self._perform(stream, answer)
            return
        self.feed(stream, stimulus)

    def overhear(self, author: PeerId, request: BidRequest) -> None:
        """A gossiped request arrived. Only nodes within its reach answer it."""
        if self.up and is_within(request.request_id, self.peer, request.reach):
            self.receive(author, request)

    def connected(self, peer: PeerId, address: str) -> None:
        """The network has a connection to a peer."""
        if self.up:
            self.feed(MEMBERS, membership_machine.PeerConnected(peer, (address,)))

    def disconnected(self, peer: PeerId, reason: str) -> None:
        """The network has lost it."""
        if self.up:
            self.feed(MEMBERS, membership_machine.PeerDisconnected(peer, reason))

    # -------------------------------------------------------------------------------------------------------- performing

    def _perform(self, stream: str, effect: Effect) -> None:
        if type(effect) is Send:
            says = (effect.message,) if self.liar is None else self.liar.says(self, effect.message)
            for message in says:
                self.world.network.send(self, effect.peer, message)
        else:
            _PERFORMERS[type(effect)](self, stream, effect)

    def _book(self, _stream: str, effect: Book) -> None:
        """The entry is in the log and in the live book already: told again, it changes nothing."""
        self.feed(ACCOUNTS, accounting.EntryWritten(effect.entry))
        self._show_credit(effect.entry.peer)

    def _show_credit(self, *peers: PeerId) -> None:
        for peer in peers:
            self.feed(BOOK, offer_state.CreditSeen(peer, self.accounts.credit(peer)))

    def later(self, span: int, stream: str, stimulus: Stimulus) -> None:
        """An outcome that takes time; lost if the process dies first."""
        self.world.clock.after(span, self._outcome, stream, stimulus, self.life)

    def _outcome(self, stream: str, stimulus: Stimulus, life: int) -> None:
        if life == self.life:
            self.feed(stream, stimulus)

    def _announce(self, stream: str, effect: auction_effects.Announce) -> None:
        if stream not in self.states:
            return
        ahead = self.seekers.ahead(RequestId(stream))
        if ahead is not None:
            self.early[stream] = effect
            self.feed(stream, auction_stimuli.TurnPending(effect.request.round, ahead))
            return
        asked = audience(
            self.membership,
            effect.request,
            self_bids=self.spec.accepts_work,
            only=auction_state.terms_of(self.states[stream]).only or None,
            aside={peer: found for peer in self.membership.peers if (found := self.set_aside(peer)) is not None},
        )
        for peer in asked.direct:
            self.world.network.send(self, peer, asked.request)
        if asked.gossip:
            self.world.network.gossip(self, asked.request)
        request, unawaited = effect.request, self.rounds.unanswered(asked.direct, self.now)
        self.rounds.asked(request.request_id, request.round, asked.direct, self.now, request.wait_ms)
        told = auction_stimuli.Announced(
            request.round, asked.direct, asked.gossip, asked.known, asked.passed_over, unawaited
        )
        self.feed(stream, told)

    def _open_allocation(self, _stream: str, effect: offer_state.OpenAllocation) -> None:
        opened = Opened(effect.reservation, effect.task, self.book.invoke_within_ms)
        self.feed(effect.reservation.allocation_id, opened)

    def _tell_joined(self, _stream: str, effect: membership_machine.TellJoined) -> None:
        for stream, state in list(self.states.items()):
            if stream[0] == "r":
                self.feed(stream, auction_stimuli.PeerThere(effect.peer))
            elif stream[0] == "a" and _requester_of(state) == effect.peer:
                self.feed(stream, RequesterBack())

    def _tell_lost(self, _stream: str, effect: membership_machine.TellLost) -> None:
        for stream, state in list(self.states.items()):
            if stream[0] == "r":
                self.feed(stream, auction_stimuli.PeerLost(effect.peer, effect.ours))
            elif stream[0] == "a" and _requester_of(state) == effect.peer:
                self.feed(stream, RequesterGone())

    def note(self, event: Event) -> None:
        """What the next ranking knows of providers."""
        for provider, source, kind in seen_in(event):
            self.record.note(provider, source, kind, self.now)

    def facts_of(self, peer: PeerId) -> BidderFacts:
        """What it knows of a bidder itself."""
        known, evidence = self.membership.peers.get(peer), self.record.of(peer)
        aside, way_us, answers_ms = self.set_aside(peer), self.ways.us(peer), self.answer_times.ms(peer)
        return bidder_facts(
            known, evidence, self.now, own=peer == self.peer, aside=aside, way_us=way_us, answers_ms=answers_ms
        )

    def bidder(self, peer: PeerId) -> Bidder:
        """The same, for its silence. Where it is, nobody here sees."""
        return Bidder(peer, has_delivered=Kind.KEPT in self.record.of(peer).counts or peer == self.peer)

    def _let_down(self, _stream: str, told: auction_effects.LetDown) -> None:
        self.silence.let_down(self.bidder(told.provider), told.word, told.about, told.since, told.at)
        if told.word is Word.ANSWER:
            self.answer_times.missed(told.provider, told.at - told.since)

    def _heard_from(self, _stream: str, told: auction_effects.HeardFrom) -> None:
        self.silence.heard(self.bidder(told.provider), told.word, told.at)
        if told.took_ms is not None:
            self.answer_times.took(told.provider, told.took_ms)

    def set_aside(self, peer: PeerId) -> SetAside | None:
        """That it was silent lately."""
        return self.silence.set_aside(self.bidder(peer), self.now)


_OPENERS: Final = (auction_stimuli.Submitted, Opened)
_OVER: Final = {
    auction_state.Auction: auction_state.AuctionPhase.ENDED,
    Allocation: LifePhase.CLOSED,
}


def capability_of(spec: NodeSpec) -> Capability:
    """What a simulated machine has."""
    return Capability(
        resources=Resources(spec.cores * CORE, spec.memory, 0, spec.gpus),
        architecture="x86_64",
        cpu_score=1_000,
        executors=(ExecutorOffer("sandbox", "sim", Isolation.NAMESPACES),),
        max_wall_ms=24 * HOUR,
    )


def _requester_of(state: Allocation) -> PeerId | None:
    return state.reservation.requester if state.reservation is not None else None


_Routed = tuple[str, Stimulus] | None


def _hear_status(_node: SimNode, sender: PeerId, message: AllocationStatus) -> _Routed:
    complete = message.ending is not None and not message.outputs
    return message.request_id, auction_stimuli.StatusHeard(sender, message, complete)


_ROUTES: Final[dict[type[Message], Callable[[SimNode, PeerId, Any], _Routed]]] = {
    BidRequest: lambda _node, sender, m: (BOOK, offer_state.RequestHeard(sender, m)),
    Closing: lambda _node, sender, m: (BOOK, offer_state.ClosingHeard(sender, m)),
    Commit: lambda _node, sender, m: (BOOK, offer_state.CommitHeard(sender, m)),
    Release: lambda _node, sender, m: (BOOK, offer_state.ReleaseHeard(sender, m)),
    Bid: lambda node, sender, m: (m.request_id, auction_stimuli.BidHeard(sender, m, node.facts_of(sender))),
    SealedBid: lambda node, sender, m: (m.request_id, auction_stimuli.SealHeard(sender, m, node.facts_of(sender))),
    Decline: lambda _node, sender, m: (m.request_id, auction_stimuli.DeclineHeard(sender, m)),
    CommitAck: lambda _node, sender, m: (m.request_id, auction_stimuli.CommitAcked(sender, m)),
    CommitRefused: lambda _node, sender, m: (m.request_id, auction_stimuli.CommitTurnedAway(sender, m)),
    InvocationAck: lambda _node, sender, m: (m.request_id, auction_stimuli.InvocationAnswered(sender, m)),
    AllocationStatus: _hear_status,
    Invocation: lambda _node, sender, m: (m.allocation_id, Invoked(sender, m.request_id, m.task)),
    Cancel: lambda _node, sender, m: (m.allocation_id, CancelHeard(sender, m.request_id)),
    Resize: lambda _node, sender, m: (BOOK, offer_state.ResizeHeard(sender, m)),
    Resized: lambda _node, sender, m: (m.request_id, auction_stimuli.ResizeAnswered(sender, m)),
    Receipt: lambda _node, sender, m: (m.allocation_id, ReceiptHeard(sender, m)),
    Iou: lambda _node, sender, m: (ACCOUNTS, accounting.IouHeard(sender, m)),
    Hello: lambda _node, sender, m: (MEMBERS, membership_machine.HelloHeard(sender, m)),
    Probe: lambda _node, sender, m: (MEMBERS, membership_machine.ProbeHeard(sender, m)),
}
"""Which machine meets a message, and as what."""

_PERFORMERS: Final[dict[type[Effect], Callable[[SimNode, str, Any], None]]] = {
    auction_effects.Announce: SimNode._announce,
    auction_effects.Collect: lambda node, _stream, effect: node.world.collect(node, effect),
    auction_effects.Compare: lambda node, stream, effect: node.world.compare(node, stream, effect),
    auction_effects.LetDown: SimNode._let_down,
    auction_effects.HeardFrom: SimNode._heard_from,
    auction_effects.Conclude: SimNode._conclude,
    Book: SimNode._book,
    accounting.TellForgiven: lambda _node, _stream, _effect: None,  # nothing is forgiven here: it takes an owner
    offer_state.OpenAllocation: SimNode._open_allocation,
    offer_state.TellAllocation: lambda node, _stream, effect: node.feed(effect.allocation_id, effect.wish),
    FetchInputs: lambda node, stream, effect: node.world.fetch(node, AllocationId(stream), effect.requester),
    Execute: lambda node, stream, effect: node.machine.execute(node, AllocationId(stream), effect.task),
    StopRun: lambda node, stream, effect: node.machine.stop(AllocationId(stream), effect.grace_ms),
    FreezeRun: lambda node, stream, _effect: node.machine.freeze(AllocationId(stream)),
    ThawRun: lambda node, stream, _effect: node.machine.thaw(AllocationId(stream)),
    StoreOutputs: lambda node, stream, effect: node.world.store(node, AllocationId(stream), effect.task),
    offer_state.ChangeSize: lambda node, _stream, effect: node.feed(
        effect.change.allocation_id, resizing.SizeWished(effect.change, effect.resources)
    ),
    resizing.SetSize: lambda node, stream, effect: node.feed(stream, resizing.SizeSet(effect.number)),
    resizing.SettleSize: lambda node, stream, effect: node.feed(
        BOOK, offer_state.SizeSettled(AllocationId(stream), effect.number, effect.resources, effect.price)
    ),
    FreeCapacity: lambda node, _stream, effect: node.feed(BOOK, offer_state.AllocationOver(effect.allocation_id)),
    Close: SimNode._conclude,
    Blame: lambda _node, _stream, _effect: None,  # nobody is muted here: the invariants are to hold with liars at work
    membership_machine.Dial: lambda node, _stream, effect: node.world.network.dial(node, effect.peer),
    membership_machine.Drop: lambda node, _stream, effect: node.world.network.drop(node, effect.peer),
    membership_machine.TellJoined: SimNode._tell_joined,
    membership_machine.TellLost: SimNode._tell_lost,
}
"""How each effect is performed."""
