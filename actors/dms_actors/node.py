"""The Node actor: hears everything, keeps the offer book and the membership, starts Orchestrators and Allocations and routes to them.

::

    network, owner ──▶ Node ──▶ offer book (capacity, bids)      ──▶ answers, new Allocation actors
                        │  ├──▶ membership (who is there)        ──▶ hellos, probes, dials
                        │  └──▶ accounts (who owes whom)         ──▶ IOUs, and what a peer may still owe, to the offer book
                        │  └──▶ trust (whose grants count)       ──▶ the rights a request comes with
                        ├──▶ Orchestrator, one per request of ours ──▶ bids, commits, invocations
                        └──▶ Allocation, one per piece of work here ──▶ runs, statuses

It drains its mailbox in batches: one transaction for the batch, then the effects. Children tell it what ends; it never waits for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from dms_actors import abandonment
from dms_actors.behaviour import Forward, Runtime
from dms_actors.canaries import Canaries
from dms_actors.children import Children
from dms_actors.gate import Gate, Muted
from dms_actors.grant_reading import GrantReading
from dms_actors.letters import (
    AllocationAbandoned,
    AllocationClosed,
    AnnounceWanted,
    AttemptNoted,
    BenchmarkNoted,
    Blamed,
    CheckReady,
    CheckUnderWay,
    Delivered,
    FindActor,
    ListenFor,
    PieceJudged,
    RequestAbandoned,
    RequestOver,
    ShowState,
    ShowUsed,
    SlotAwarded,
    StopListening,
    Submit,
    Told,
    WantGrant,
)
from dms_actors.listeners import Listeners
from dms_actors.log_messages import LogMessages
from dms_actors.machine_actor import MachineActor
from dms_actors.meter import Meter
from dms_actors.past import Past
from dms_actors.ports import FrameReceived, GossipReceived, NetworkDown, NetworkUp, PeerDown, PeerFound, PeerUp
from dms_actors.proofs import NO_FRAME, Heard, ProviderProofs
from dms_actors.providers import Providers
from dms_actors.shell import Machine, Shell, Turn
from dms_actors.spared import Spared
from dms_actors.strangers import Strangers
from dms_actors.world import World
from dms_proto.accounts import machine as accounting
from dms_proto.accounts.book import Accounts
from dms_proto.accounts.machine import (
    ACCOUNTS_STREAM,
    ClaimStated,
    EntryWritten,
    IouHeard,
    LateReceiptHeard,
    TellForgiven,
)
from dms_proto.allocation.machine import CancelHeard, Invoked, ReceiptHeard, RequesterBack, RequesterGone
from dms_proto.capability import Price
from dms_proto.fair_memory import FairMemory
from dms_proto.grants import trust
from dms_proto.grants.access import NOTHING_SHOWN, Credential, in_words, refusals
from dms_proto.grants.rights import may_need_right, uses_of
from dms_proto.grants.trust import Renew, RenewalAsked, RevocationsHeard, Trust, issuer_of
from dms_proto.heirs import PeerRenamed
from dms_proto.ids import AllocationId, BidId, Digest, PeerId
from dms_proto.lineage import predecessors
from dms_proto.machine import Blame, Effect, Event, Send, Stimulus
from dms_proto.market import auction_effects, auction_stimuli, offer_book, offer_fold, offer_state, strays
from dms_proto.market.auction_events import BenchmarkChecked
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import BidderFacts, Candidate
from dms_proto.market.offer_judgement import access_to, is_known
from dms_proto.market.offer_state import (
    ClosingHeard,
    CommitHeard,
    CreditSeen,
    OfferBook,
    OpenAllocation,
    ReleaseHeard,
    RequestHeard,
)
from dms_proto.market.reach import is_within
from dms_proto.market.spot_checks import answered, check_terms, seed_of
from dms_proto.membership import machine as membership
from dms_proto.membership.audience import audience
from dms_proto.membership.machine import Dial, Drop, HelloHeard, Inherit, Membership, TellJoined, TellLost
from dms_proto.messages import (
    AllocationMessage,
    AllocationStatus,
    AnyMessage,
    Bid,
    BidRequest,
    Cancel,
    Closing,
    Commit,
    CommitAck,
    CommitRefused,
    Decline,
    GrantGiven,
    GrantWanted,
    Hello,
    Invocation,
    InvocationAck,
    Iou,
    Probe,
    Receipt,
    Refusal,
    Release,
    SealedBid,
)
from dms_proto.reputation import Evidence
from dms_proto.reputation.silence import FIRST_PAUSE_MS, SetAside
from dms_proto.wire import Envelope, Offence

log = logging.getLogger(__name__)

MARKET_STREAM: Final = "market"
PEERS_STREAM: Final = "peers"
TRUST_STREAM: Final = "trust"
MOST_SEALS: Final = 4_096
"""Sealed bids whose opening is heard even if nothing more may be written for its bidder by then; who has most makes room."""
BOOK: Final[Machine[OfferBook]] = Machine(
    offer_book.decide, offer_fold.evolve, offer_book.next_deadline, offer_book.resume
)
TRUST: Final[Machine[Trust]] = Machine(trust.decide, trust.evolve, trust.next_deadline, trust.resume)
MEMBERS: Final[Machine[Membership]] = Machine(
    membership.decide, membership.evolve, membership.next_deadline, membership.resume
)
ACCOUNTS: Final[Machine[Accounts]] = Machine(
    accounting.decide, accounting.evolve, accounting.next_deadline, accounting.resume
)


class NodeState(NamedTuple):
    """The node's live state, as shown to its owner."""

    book: OfferBook
    membership: Membership
    accounts: Accounts
    requests: tuple[str, ...]
    allocations: tuple[str, ...]
    evidence: Mapping[PeerId, Evidence]
    benchmarks: Mapping[PeerId, BenchmarkChecked]
    refused: Mapping[str, int]
    grants: Trust
    set_aside: Mapping[PeerId, SetAside] = {}
    """Peers whose bids are taken last, since they were silent lately when they had won."""
    unanswered: Mapping[PeerId, int] = {}
    """Peers that are not waited for, and how many rounds in a row they have left unanswered."""


class _Origin(NamedTuple):
    """How a message came: the id of its envelope, what it showed, its frame, the id of what it answers. What a node tells itself has no frame."""

    cause_id: str
    shown: Credential = NOTHING_SHOWN
    heard: Heard = NO_FRAME
    is_gossip: bool = False
    answers: str = ""


class Node(MachineActor):
    """The node."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        world: World,
        gate: Gate,
        strangers: Strangers,
        book: OfferBook,
        accounts: Accounts,
        hello: Hello,
        ask_directly: bool = True,
        spot_check_price: int = 0,
        silence_pause_ms: int = FIRST_PAUSE_MS,
    ) -> None:
        self.book = Shell(BOOK, MARKET_STREAM, book)
        self.members = Shell(MEMBERS, PEERS_STREAM, Membership(book.me))
        self.accounts = Shell(ACCOUNTS, ACCOUNTS_STREAM, accounts)
        former = tuple(PeerId(record.old) for record in hello.successions)
        self.grants = Shell(TRUST, TRUST_STREAM, Trust(book.me, former))
        super().__init__(world.journal, (self.book, self.members, self.accounts, self.grants), world.mishaps)
        self._peer_id = book.me
        self._hello = hello
        self._world = world
        self._gate = gate
        self._strangers = strangers
        self._meter = Meter(strangers, self._is_named)
        self._spared = Spared(strangers, world.post.spare)
        self._reading = GrantReading(world.read_grant, strangers.source, strangers.is_let_in)
        self._appliers: dict[type[Stimulus], Callable[[Turn, Any, int, str], None]] = {
            kind: apply
            for table, apply in (
                (trust.TABLE, self._apply_to_grants),
                (accounting.TABLE, self._account),
                (membership.TABLE, self._apply_to_members),
                (offer_book.TABLE, self._apply_to_book),
            )
            for _, kind in table
        }
        self._appliers[PeerRenamed] = self._rename  # met by more than one of them
        self._provides = hello.accepts_work
        self._ask_directly = ask_directly
        self._children = Children(runtime, world, self)
        self._providers = Providers(strangers.source, lambda peer: is_known(self.book.state, peer), silence_pause_ms)
        self._canaries = Canaries(world.journal, world.collector.is_here, self._children.open_request)
        self._seals: FairMemory[tuple[PeerId, BidId], int] = FairMemory(MOST_SEALS)
        self._listeners = Listeners()
        self._spot_check_price = spot_check_price
        self._logs = LogMessages(world, self._children, self._listeners, self.book)
        self._past = Past(world.journal)
        self._proofs = ProviderProofs(world.journal, strangers.source)

    # ------------------------------------------------------------------------------------------------------ beginning

    def begin(self, turn: Turn, now: int) -> None:
        """Nobody is connected yet; what was not over goes on."""
        self.members.state = membership.after_restart(self.members.state)
        survey = self._world.survey()
        self._providers.begin()
        for note in survey.notes:
            self._note(note)
        self._canaries = Canaries(
            self._world.journal, self._world.collector.is_here, self._children.open_request, survey.verdicts
        )
        self._world.obligations.note(self.accounts.state)
        book = self.book.state
        self._children.resume(survey, book.ledger.reservations, book.invoke_within_ms)
        for peer in self.accounts.state.known:
            self._show_credit(turn, peer, now, "restart")
        self._describe(turn, now)
        self._spare_named(now)
        super().begin(turn, now)
        self._world.introduce()

    def turn_written(self, turn: Turn) -> None:
        """Also: what may come to be owed from now on rests on the accounts as they are now."""
        super().turn_written(turn)
        self._world.obligations.note(self.accounts.state)

    def is_kept(self, message: object) -> bool:
        """Also who came, went or was given up: it is said once."""
        once = PeerUp | PeerDown | NetworkUp | RequestAbandoned | AllocationAbandoned
        return super().is_kept(message) or isinstance(message, once)

    def speaker(self, message: object) -> PeerId | None:
        """Who handed on gossip has not written it, and cannot know whether it can be handled."""
        return message.peer if isinstance(message, FrameReceived) else super().speaker(message)

    def blame(self, peer: PeerId, now: int) -> None:
        """See `MachineActor.blame`."""
        self._blame(peer, Offence.UNHANDLED, now)

    def stands_alone(self, message: object) -> bool:
        """An orchestrator that was started is there, whatever could not be written beside it."""
        return isinstance(message, Submit | FindActor)

    # ------------------------------------------------------------------------------------------------------- messages

    def handle(  # noqa: C901, PLR0912, PLR0915 - a dispatch table in code
        self, turn: Turn, message: object, now: int
    ) -> object:
        """One message from the network, the owner or a child."""
        match message:
            case FrameReceived(peer=peer, frame=frame):
                self._open(turn, frame, peer, "", now)
            case GossipReceived(topic=topic, forwarder=forwarder, frame=frame):
                self._open(turn, frame, forwarder, topic, now)
            case Delivered(message=delivered, cause_id=cause_id):
                self._route(turn, self._peer_id, delivered, _Origin(cause_id), now)
            case Told(stimulus=stimulus, cause_id=cause_id):
                self._apply(turn, stimulus, now, cause_id)
            case PeerUp(peer=peer, addresses=addresses, relayed=relayed, remote=remote):
                self._came(turn, membership.PeerConnected(peer, addresses, relayed, remote), now)
            case PeerDown(peer=peer, reason=reason):
                self._apply(turn, membership.PeerDisconnected(peer, reason), now, "network")
            case PeerFound() | NetworkDown():
                pass  # the network dials whom it finds, and names every peer it lost
            case NetworkUp(addresses=addresses):
                self._hello = msgspec.structs.replace(self._hello, addresses=addresses)
                self._describe(turn, now)
            case ListenFor(key=key, hear=hear):
                self._listeners.begin(key, hear)
            case StopListening(key=key, hear=hear):
                self._listeners.end(key, hear)
            case Submit(terms=terms):
                return Forward(self._children.open_request(terms.request_id), message)
            case AnnounceWanted(request=request, cause_id=cause_id, only=only):
                self._announce(request, cause_id, only, now)
            case AttemptNoted() | BenchmarkNoted():
                self._note(message)
            case PieceJudged(terms=terms, judged=judged):
                self._canaries.judged(terms, judged)
            case SlotAwarded(terms=terms, taken=taken):
                self._check_benchmark(terms, taken, now)
            case CheckUnderWay(provider=provider, at=at):
                self._providers.benchmarks.sent(provider, at)
            case CheckReady(terms=terms):
                self._children.open_request(terms.request_id).tell(Submit(terms, "spot check"))
            case RequestOver(request_id=request_id):
                self._children.request_over(request_id)
            case AllocationClosed(allocation_id=allocation_id):
                self._children.allocation_over(allocation_id)
            case WantGrant(issuer=issuer, grant=grant):
                self._world.post.send(issuer, GrantWanted(grant), "renewal")
            case auction_effects.LetDown() | auction_effects.HeardFrom():
                self._providers.heard(message)
            case Blamed(peer=peer, offence=offence):
                self._blame(peer, offence, now)
            case RequestAbandoned(request_id=request_id):
                self._world.obligations.stake(request_id, {})
                abandonment.request(self._world, turn, request_id, now)
            case AllocationAbandoned(allocation_id=allocation_id):
                self._children.forget(allocation_id)
                abandonment.allocation(self._world, turn, self.book, allocation_id, now)
            case FindActor(id=id_):
                return self._children.find(id_)
            case ShowState():
                return self._shown(now)
            case ShowUsed():
                return self._strangers.used(now)
            case _:
                raise TypeError(f"the node does not understand {message!r}")
        return None

    def _note(self, note: AttemptNoted | BenchmarkNoted | Inherit) -> None:
        if isinstance(note, Inherit):
            self._inherit(note.old, note.new)
        else:
            self._providers.note(note)

    def _check_benchmark(self, beside: Terms, taken: Candidate, now: int) -> None:
        """Has a spot check of a provider prepared, where one is due beside an award; it goes out when this node knows the answer."""
        is_own = is_known(self.book.state, taken.provider)
        benchmarks = self._providers.benchmarks
        if not self._spot_check_price or is_own or not benchmarks.is_due(beside, taken, now):
            return
        terms = check_terms(beside, taken, benchmarks.before(taken.provider), self._spot_check_price)
        if terms.spot_check is None or self._world.journal.read_stream(terms.request_id):
            return
        benchmarks.sent(taken.provider, now)

        def ready(answer: Digest) -> None:
            if self.me is not None:
                self.me.tell(CheckReady(answered(terms, answer)))

        self._world.work_out(seed_of(beside, taken.provider), terms.spot_check.rounds, ready)

    def _inherit(self, old: PeerId, new: PeerId) -> None:
        """A peer has proven a new name: what was seen of it, what it owes, has at stake and is kept away for go with it.

        Also said anew at each start; a repeat changes nothing.
        """
        self._providers.inherit(old, new)
        self._world.post.inherit(old, new)
        if self.me is not None:
            self.me.tell(Told(PeerRenamed(old, new), "succession"))

    def _is_named(self, peer: PeerId) -> bool:
        """Whether the owner has named a peer: what it causes to be written is the owner's wish."""
        named = is_known(self.book.state, peer) or peer in self.grants.state.anchors
        return named or peer in self.accounts.state.limits

    def _spare_named(self, now: int) -> None:
        let_in = dict.fromkeys((*self.grants.state.added, *self.accounts.state.limits), 0)
        self._spared.name({**self.grants.state.holders, **let_in}, now)

    def _decide(self, turn: Turn, shell: Shell[Any], stimulus: Stimulus, now: int, cause_id: str) -> Sequence[Event]:
        """Lets a machine decide; whoever its events are owed to pays for them in the log budget."""
        written = len(turn.rows)
        events = turn.apply(shell, stimulus, now, cause_id).events
        self._meter.decided(events, turn.rows[written:], now)
        return events

    def _came(self, turn: Turn, came: membership.PeerConnected, now: int) -> None:
        """A stranger for which nothing more may be written is not let in: that it came and went would be."""
        self._strangers.came(came.peer, came.remote)
        if not self._meter.may_write(came.peer, now):
            self._world.post.drop(came.peer, "there is no room left in the log budget for it")
            return
        self._meter.came(came.peer, self._children.held_by(came.peer), now)
        self._decide(turn, self.members, came, now, "network")

    def _apply(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        apply = self._appliers.get(type(stimulus))
        if apply is None:
            raise TypeError(f"no machine of the node meets {stimulus!r}")
        apply(turn, stimulus, now, cause_id)

    def _apply_to_book(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        if self._decide(turn, self.book, stimulus, now, cause_id):
            self._describe(turn, now)

    def _apply_to_members(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        self._decide(turn, self.members, stimulus, now, cause_id)

    def _apply_to_grants(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        events = turn.apply(self.grants, stimulus, now, cause_id).events
        if any(map(trust.takes_back, events)):
            self._spared.settle(self._strangers.doubt_grants(), now)
        if events:
            self._spare_named(now)
            self._describe(turn, now)

    def _account(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        """What changes what a peer owes, or may owe, changes which of its requests are bid on."""
        limits = self.accounts.state.limits
        for event in self._decide(turn, self.accounts, stimulus, now, cause_id):
            self._show_credit(turn, self.accounts.state.present(accounting.concerned(event)), now, cause_id)
        if self.accounts.state.limits is not limits:
            self._spare_named(now)
        if isinstance(stimulus, EntryWritten) and (heir := self.members.state.heirs.get(stimulus.entry.peer)):
            # Its accounts begin with work that was agreed under a name that is over: there was nothing to inherit before.
            self._rename(turn, PeerRenamed(stimulus.entry.peer, heir), now, cause_id)

    def _rename(self, turn: Turn, renamed: PeerRenamed, now: int, cause_id: str) -> None:
        self._gate.inherit(renamed.old, renamed.new, now)
        self._strangers.inherit(renamed.old, renamed.new)
        self._spared.settle((renamed.new,), now)
        self._account(turn, renamed, now, cause_id)
        self._apply_to_book(turn, renamed, now, cause_id)

    def _show_credit(self, turn: Turn, peer: PeerId, now: int, cause_id: str) -> None:
        self._decide(turn, self.book, CreditSeen(peer, self.accounts.state.credit(peer)), now, cause_id)

    def _describe(self, turn: Turn, now: int) -> None:
        """Tells the peers when what this node says of itself has changed: addresses, capability, whether it takes work."""
        book = self.book.state
        summary = msgspec.structs.replace(book.capability, price=Price())
        accepts = self._provides and book.phase is offer_state.BookPhase.OPEN
        grants = self.grants.state
        hello = msgspec.structs.replace(
            self._hello,
            summary=summary,
            accepts_work=accepts,
            anchors=grants.anchors if book.policy.asks_for_grants else (),
            revoked=grants.told(now),
        )
        turn.apply(self.members, membership.SelfDescribed(hello), now, "self")

    def _shown(self, now: int) -> NodeState:
        return NodeState(
            self.book.state,
            self.members.state,
            self.accounts.state,
            self._world.orchestrators.ids(),
            self._world.allocations.ids(),
            self._providers.record.all(),
            self._providers.benchmarks.all(),
            dict(self._gate.refused),
            self.grants.state,
            self._providers.set_aside(self.members.state.peers, now),
            self._providers.unanswered(self.members.state.peers, now),
        )

    # --------------------------------------------------------------------------------------------------------- frames

    def _open(self, turn: Turn, frame: bytes, via: PeerId, topic: str, now: int) -> None:
        opened = self._gate.open(frame, via, topic, now)
        match opened:
            case Envelope():
                turn.speaker = opened.sender
                shown = self._shown_with(opened, now) if may_need_right(opened.message) else NOTHING_SHOWN
                origin = _Origin(opened.id.hex(), shown, Heard(frame, now), bool(topic), opened.cause)
                if shown.rights is not None and self._strangers.showed_grant(opened.sender, shown.rights.until):
                    self._spared.settle((opened.sender,), now)
                if topic:
                    self._strangers.heard_of(opened.sender, via)
                self._route(turn, opened.sender, opened.message, origin, now)
            case Refusal():
                self._world.post.send(via, opened, "")
            case Muted():
                self._mute(opened)

    def _blame(self, peer: PeerId, offence: Offence, now: int) -> None:
        muted = self._gate.blame(peer, offence, now) if peer != self._peer_id else None
        if muted is not None:
            self._mute(muted)

    def _is_here(self, peer: PeerId) -> bool:
        known = self.members.state.peers.get(peer)
        return known is not None and known.phase in (membership.PeerPhase.CONNECTED, membership.PeerPhase.GREETED)

    def _mute(self, muted: Muted) -> None:
        self._world.post.drop(muted.peer, f"muted, last for: {muted.offence}")

    def _shown_with(self, opened: Envelope, now: int) -> Credential:
        """The rights that a message from another node comes with. Not looked at where everybody is served."""
        message = opened.message
        if self.book.state.policy.is_public and not isinstance(message, AllocationMessage):
            return NOTHING_SHOWN
        begun = isinstance(message, Invocation) and self._children.is_held_by(opened.sender, message.allocation_id)
        read = self._reading.by(opened.sender, now)
        return self.grants.state.credential(opened.auth, opened.sender, now, read, begun=begun)

    def _route(  # noqa: C901, PLR0912 - one case per kind
        self, turn: Turn, peer: PeerId, message: AnyMessage, origin: _Origin, now: int
    ) -> None:
        """Hands a message to whoever it concerns. A name that was succeeded is over: whoever still has its key is nobody."""
        cause = origin.cause_id
        if self._is_succeeded(peer) and not isinstance(message, Hello):  # which is answered with the reason
            return
        match message:
            case BidRequest():
                self._hear_request(turn, peer, message, origin, now)
            case Bid() | SealedBid() | Decline() | CommitAck() | CommitRefused() | InvocationAck() | AllocationStatus():
                if isinstance(message, AllocationStatus) and message.ending is not None:
                    self._account(turn, ClaimStated(peer, message.allocation_id, message.price), now, cause)
                self._to_orchestrator(peer, message, origin, now)
            case Closing():
                events = self._decide(turn, self.book, ClosingHeard(peer, message), now, cause)
                self._proofs.closed(turn, peer, events, origin.heard)
            case Commit():
                self._hear_commit(turn, peer, message, origin, now)
            case Release():
                self._decide(turn, self.book, ReleaseHeard(peer, message), now, cause)
            case Invocation():
                self._hear_invocation(peer, message, origin, now)
            case Cancel(request_id=request_id, allocation_id=allocation_id):
                self._to_allocation(peer, allocation_id, CancelHeard(peer, request_id), cause)
            case Receipt(allocation_id=allocation_id) if self._world.allocations.get(allocation_id) is None:
                answers = self._past.was_told(allocation_id, origin.answers)
                self._account(turn, LateReceiptHeard(peer, message, origin.heard.frame, answers), now, cause)
            case Receipt(allocation_id=allocation_id):
                if self._children.is_held_by(peer, allocation_id):
                    self._meter.heard(peer, origin.heard.frame, now)
                self._to_allocation(peer, allocation_id, ReceiptHeard(peer, message), cause, origin.heard)
            case Iou() if self._meter.may_write(peer, now):
                self._account(turn, IouHeard(peer, message), now, cause)
            case Iou():
                log.info(
                    "an IOU of %s is not kept: no room is left for it in the log budget; its next one may be", peer
                )
            case GrantWanted(grant=grant):
                self._hear_grant_wanted(turn, peer, grant, cause, now)
            case GrantGiven(grant=grant):
                self._world.renewals.keep(peer, grant)
            case AllocationMessage():
                self._logs.hear(peer, message, origin.shown, cause)
            case Hello():
                self._hear_hello(turn, peer, message, cause, now)
            case Refusal(about=about) if self._listeners.pass_on(f"about:{about}", peer, message):
                pass
            case Probe(nonce=nonce, reply=True) if self._listeners.pass_on(f"probe:{nonce}", peer, message):
                pass
            case Probe():
                self._decide(turn, self.members, membership.ProbeHeard(peer, message), now, cause)
            case Refusal(code=code, detail=detail):
                log.warning("peer %s refused a message of ours: %s %s", peer, code, detail)

    def _is_succeeded(self, name: PeerId) -> bool:
        """Whether a name is over. The accounts know it as long as there are any, the membership as long as it knows the heir."""
        return name in self.members.state.heirs or name in self.accounts.state.heirs

    def _hear_hello(self, turn: Turn, peer: PeerId, hello: Hello, cause: str, now: int) -> None:
        """Past its log budget a stranger cannot say anything new of itself, and who has not been greeted yet is not."""
        if not self._meter.may_write(peer, now):
            known = self.members.state.peers.get(peer)
            if known is None or known.phase is not membership.PeerPhase.GREETED:
                self._world.post.drop(peer, "there is no room left in the log budget for it")
            return
        self._world.post.learn(peer, hello.addresses)
        self._world.post.learn_anchors(peer, hello.anchors)
        self._decide(turn, self.members, self._as_proven(peer, hello), now, cause)
        if hello.revoked:
            self._world.post.learn_revocations(hello.revoked)
            delegations = self.grants.state.delegations(hello.revoked, self._reading.by(peer, now))
            self._apply(turn, RevocationsHeard(hello.revoked, delegations), now, cause)

    def _hear_grant_wanted(self, turn: Turn, peer: PeerId, grant: bytes, cause: str, now: int) -> None:
        """Anybody may send one: verified only when it names this node as the issuer."""
        proven = self._reading.by(peer, now)(grant) if issuer_of(grant) == self._peer_id else None
        self._apply(turn, RenewalAsked(peer, grant, proven), now, cause)

    def _as_proven(self, peer: PeerId, hello: Hello) -> HelloHeard:
        """A hello with what its successions prove. What is as it was when the peer was greeted was proven then."""
        known = self.members.state.peers.get(peer)
        before = known.hello if known is not None else None
        if before is not None and (before.uuid, before.successions) == (hello.uuid, hello.successions):
            return HelloHeard(peer, hello)
        try:
            return HelloHeard(peer, hello, predecessors(peer, hello.uuid, hello.successions))
        except ValueError as error:
            return HelloHeard(peer, hello, doubt=f"its identity is not proven: {error}")

    def _hear_request(self, turn: Turn, peer: PeerId, request: BidRequest, origin: _Origin, now: int) -> None:
        if not self._provides or (origin.is_gossip and not is_within(request.request_id, self._peer_id, request.reach)):
            return
        self._world.post.learn(peer, request.reply_to)
        asking = RequestHeard(peer, request, origin.shown, self._meter.may_write(peer, now), self._world.held(request))
        events = self._decide(turn, self.book, asking, now, origin.cause_id)
        self._proofs.asked(turn, asking, events, origin.heard)

    def _hear_commit(self, turn: Turn, peer: PeerId, commit: Commit, origin: _Origin, now: int) -> None:
        committing = CommitHeard(peer, commit, origin.shown, self._meter.may_write(peer, now))
        events = self._decide(turn, self.book, committing, now, origin.cause_id)
        written = len(turn.rows)
        self._proofs.committed(turn, committing, events, origin.heard, origin.cause_id)
        if len(turn.rows) > written:
            self._meter.kept(peer, turn.rows[written:], now)
            # What it is to run is written down once more, with its allocation.
            self._meter.heard(peer, origin.heard.frame, now)

    def _hear_invocation(self, peer: PeerId, message: Invocation, origin: _Origin, now: int) -> None:
        if self._world.allocations.get(message.allocation_id) is None:
            self._answer_stray(peer, message, origin.cause_id, now)
        else:
            self._meter.heard(peer, origin.heard.frame, now)
        missing = self._missing_right(peer, message, origin.shown)
        invoked = Invoked(peer, message.request_id, message.task, missing)
        self._to_allocation(peer, message.allocation_id, invoked, origin.cause_id)

    def _missing_right(self, peer: PeerId, message: Invocation, shown: Credential) -> str:
        """The right that an invocation lacks, for what was committed: what its task says of that is not to be trusted."""
        reservation = self.book.state.ledger.reservations.get(message.allocation_id)
        if reservation is None:  # over, or of no commit: nothing will begin
            return ""
        access = access_to(self.book.state, peer, reservation.resources)
        missing = next(refusals(access, uses_of(message), shown), None)
        return "" if missing is None else f"not granted: {in_words(missing)}"

    def _to_allocation(
        self, by: PeerId, allocation_id: AllocationId, stimulus: Stimulus, cause: str, heard: Heard = NO_FRAME
    ) -> None:
        self._world.allocations.tell(allocation_id, Told(stimulus, cause, heard, by))

    def _to_orchestrator(
        self,
        peer: PeerId,
        message: Bid | SealedBid | Decline | CommitAck | CommitRefused | InvocationAck | AllocationStatus,
        origin: _Origin,
        now: int,
    ) -> None:
        if self._listeners.pass_on(message.request_id, peer, message):
            return
        self._providers.answered(peer, message, now)
        if self._world.orchestrators.get(message.request_id) is None:
            self._answer_stray(peer, message, origin.cause_id, now)
        elif isinstance(message, Bid) and self._seals.take((peer, message.bid_id)) is not None:
            # It is owed: whether its bidder is heard was decided with its seal.
            self._meter.heard(peer, origin.heard.frame, now)
        elif isinstance(message, Bid | SealedBid | Decline) and not self._meter.may_write(peer, now):
            return  # a provider that answers without end; its bid lapses
        elif not isinstance(message, AllocationStatus) or message.ending is not None:  # how it goes is not written down
            self._meter.heard(peer, origin.heard.frame, now)
        told = Told(self._as_stimulus(peer, message, now), origin.cause_id, origin.heard, peer)
        if self._world.orchestrators.tell(message.request_id, told) and isinstance(message, SealedBid):
            self._seals.keep((peer, message.bid_id), peer, self._strangers.source(peer), now)

    def _answer_stray(self, peer: PeerId, message: AnyMessage, cause: str, now: int) -> None:
        is_as_heard: bool | None = False
        if isinstance(message, AllocationStatus) and message.ending is not None:
            is_as_heard = self._past.is_as_heard(message, now)
        if is_as_heard is None:
            return  # it will be told again
        for send in strays.answer(peer, message, self.accounts.state, is_as_heard=is_as_heard):
            self._world.post.send(send.peer, send.message, cause)

    def _as_stimulus(  # noqa: PLR0911 - one line per kind
        self, peer: PeerId, message: AnyMessage, now: int
    ) -> Stimulus:
        match message:
            case Bid():
                return auction_stimuli.BidHeard(peer, message, self._facts(peer, now))
            case SealedBid():
                return auction_stimuli.SealHeard(peer, message, self._facts(peer, now))
            case Decline():
                return auction_stimuli.DeclineHeard(peer, message)
            case CommitAck():
                return auction_stimuli.CommitAcked(peer, message)
            case CommitRefused():
                return auction_stimuli.CommitTurnedAway(peer, message)
            case InvocationAck():
                return auction_stimuli.InvocationAnswered(peer, message)
            case AllocationStatus():
                return auction_stimuli.StatusHeard(peer, message)
            case _:
                raise TypeError(f"not for an orchestrator: {message!r}")

    def _facts(self, peer: PeerId, now: int) -> BidderFacts:
        return self._providers.facts(peer, self.members.state.peers.get(peer), now, own=peer == self._peer_id)

    # ------------------------------------------------------------------------------------------------------- requests

    def _announce(self, request: BidRequest, cause_id: str, only: PeerId | None, now: int) -> None:
        chosen = audience(
            self.members.state,
            request,
            self_bids=self._provides,
            ask_directly=self._ask_directly,
            only=only,
            aside=self._providers.set_aside(self.members.state.peers, now) if not request.round else {},
        )
        address = self._world.orchestrators.get(request.request_id)
        if address is None:
            return
        hello = self.members.state.hello
        reply_to = tuple(hello.addresses[:2]) if hello is not None else ()
        asked = msgspec.structs.replace(chosen.request, reply_to=reply_to)
        self._world.post.announce(asked, chosen.direct, gossip=chosen.gossip, cause_id=cause_id)
        unawaited = self._providers.unanswered(chosen.direct, now)
        self._providers.asked(request, chosen.direct, now)
        told = auction_stimuli.Announced(
            request.round, chosen.direct, chosen.gossip, chosen.known, chosen.passed_over, unawaited
        )
        address.tell(Told(told, cause_id))

    # -------------------------------------------------------------------------------------------------------- effects

    def perform(  # noqa: C901, PLR0912 - one case per kind
        self, shell: Shell[Any], effect: Effect, cause_id: str
    ) -> None:
        """Sends, opens allocations, dials, drops, tells children who came and went."""
        match effect:
            case Send(peer=peer, message=message):
                frame = self._world.post.send(peer, message, cause_id)
                if not isinstance(message, Bid) or message.bid_id in self.book.state.ledger.locks:  # not of a dry run
                    self._proofs.sent(peer, message, frame, cause_id)
            case OpenAllocation():
                self._children.open_allocation(effect, self.book.state.invoke_within_ms, cause_id)
            case TellForgiven():
                self._past.tell_forgiven(effect, self._world.post, cause_id)
            case Renew():
                self._world.renewals.give(effect, cause_id)
            case Dial(peer=peer, addresses=addresses):
                self._world.post.dial(peer, addresses)
            case Drop(peer=peer, why=why):
                self._world.post.drop(peer, why)
            case Inherit(old=old, new=new):
                self._inherit(old, new)
            case Blame(peer=peer, offence=offence, if_here=if_here) if self.me is not None:
                if not if_here or self._is_here(peer):
                    self.me.tell(Blamed(peer, offence))
            case TellJoined(peer=peer):
                self._children.tell_of(peer, auction_stimuli.PeerThere(peer), RequesterBack(), cause_id)
            case TellLost(peer=peer, ours=ours):
                self._children.tell_of(peer, auction_stimuli.PeerLost(peer, ours), RequesterGone(), cause_id)
            case _:
                raise TypeError(f"no hands for {effect!r}")
