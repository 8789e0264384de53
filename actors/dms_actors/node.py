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

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from dms_actors import abandonment
from dms_actors.behaviour import Forward
from dms_actors.canaries import Canaries
from dms_actors.draft import Draft
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
    HeldOnTabs,
    ListenFor,
    PieceJudged,
    RequestAbandoned,
    RequestOver,
    ShowAhead,
    ShowState,
    ShowUsed,
    SlotAwarded,
    StopListening,
    Submit,
    TellAgain,
    Told,
    TurnsCame,
    WantGrant,
)
from dms_actors.node_hearing import NodeHearing, Origin
from dms_actors.ports import FrameReceived, GossipReceived, NetworkDown, NetworkUp, PeerDown, PeerFound, PeerUp
from dms_actors.shell import Shell, Turn
from dms_proto.accounts.book import Accounts
from dms_proto.accounts.machine import TellForgiven
from dms_proto.allocation.stimuli import RequesterBack, RequesterGone
from dms_proto.grants.trust import Renew, Trust
from dms_proto.ids import Digest, PeerId
from dms_proto.machine import Blame, Effect, Send, earliest
from dms_proto.market import auction_effects, auction_stimuli
from dms_proto.market.auction_events import BenchmarkChecked
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import Candidate
from dms_proto.market.offer_judgement import is_known
from dms_proto.market.offer_state import OfferBook, OpenAllocation, TellAllocation
from dms_proto.market.spot_checks import answered, check_terms, seed_of
from dms_proto.membership import machine as membership
from dms_proto.membership.audience import audience
from dms_proto.membership.machine import Dial, Drop, Inherit, Membership, TellJoined, TellLost
from dms_proto.messages import Bid, GrantWanted
from dms_proto.reputation import Evidence
from dms_proto.reputation.silence import SetAside


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


class Node(NodeHearing):
    """The node."""

    # -------------------------------------------------------------------------------------------------------- beginning

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
        self._world.calls(TellAgain())

    def turn_written(self, turn: Turn) -> None:
        """Also: what may come to be owed from now on rests on the accounts as they are now."""
        super().turn_written(turn)
        self._world.obligations.note(self.accounts.state)

    def is_kept(self, message: object) -> bool:
        """Also who came, went or was given up: it is said once."""
        once = PeerUp | PeerDown | NetworkUp | RequestAbandoned | AllocationAbandoned
        return super().is_kept(message) or isinstance(message, once)

    def stands_alone(self, message: object) -> bool:
        """An orchestrator that was started is there, whatever could not be written beside it."""
        return isinstance(message, Submit | FindActor)

    # --------------------------------------------------------------------------------------------------------- messages

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
                self._route(turn, self._peer_id, delivered, Origin(cause_id), now)
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
            case AnnounceWanted():
                self._want(message)
            case TurnsCame(request_ids=request_ids):
                self._asking.begin(request_ids)
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
                self._asking.forget(request_id)
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
                self._asking.forget(request_id)
                self._world.obligations.stake(request_id, {})
                self._world.workload.forget(request_id)
                self._asking.begin(self._world.seekers.forget(request_id))
                abandonment.request(self._world, turn, request_id, now)
            case AllocationAbandoned(allocation_id=allocation_id):
                self._children.forget(allocation_id)
                abandonment.allocation(self._world, turn, self.book, allocation_id, now)
            case HeldOnTabs(amounts=amounts, agreed=agreed):
                self._held_on_tabs = +Counter({**self._held_on_tabs, **amounts})
                self._tabs_known = agreed
                for peer in amounts:
                    self._show_credit(turn, self.accounts.state.present(peer), now, "tabs")
            case FindActor(id=id_):
                return self._children.find(id_)
            case ShowState():
                return self._shown(now)
            case ShowAhead(request_ids=request_ids):
                ahead = ((request_id, self._world.seekers.ahead(request_id)) for request_id in request_ids)
                return {request_id: number for request_id, number in ahead if number is not None}
            case ShowUsed():
                return self._strangers.used(now)
            case _:
                raise TypeError(f"the node does not understand {message!r}")
        return None

    # -------------------------------------------------------------------------------------- what it thinks of providers

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

    def _came(self, turn: Turn, came: membership.PeerConnected, now: int) -> None:
        """A stranger for which nothing more may be written is not let in: that it came and went would be."""
        self._strangers.came(came.peer, came.remote)
        if not self._meter.may_write(came.peer, now):
            self._world.post.drop(came.peer, "there is no room left in the log budget for it")
            return
        self._meter.came(came.peer, self._children.held_by(came.peer), now)
        self._decide(turn, self.members, came, now, "network")

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

    # --------------------------------------------------------------------------------------------------------- requests

    def receive(self, batch: Sequence[object], now: int) -> Sequence[object] | Draft:
        """Also: sends out the rounds whose turn it is. One that cannot go out keeps back no other, and undoes nothing."""
        handled = super().receive(batch, now)
        for wanted in self._asking.due(now):
            try:
                self._announce(wanted, now)
            except Exception as error:  # noqa: BLE001 - as with a message that cannot be handled
                self._spoiled(wanted, None, error, now)
        return handled

    def deadline(self) -> int | None:
        """Also: when waiting rounds may go out."""
        return earliest(super().deadline(), self._asking.deadline())

    def _want(self, wanted: AnnounceWanted) -> None:
        """A round is to go out; its request is told if it has to wait for its turn."""
        ahead = self._asking.want(wanted)
        if ahead is not None:
            pending = auction_stimuli.TurnPending(wanted.request.round, ahead)
            self._world.orchestrators.tell(wanted.request.request_id, Told(pending, wanted.cause_id))

    def _announce(self, wanted: AnnounceWanted, now: int) -> None:
        request, cause_id, only = wanted
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

    # ---------------------------------------------------------------------------------------------------------- effects

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
            case TellAllocation(allocation_id=allocation_id, wish=wish):
                self._world.allocations.tell(allocation_id, Told(wish, cause_id))
            case TellForgiven():
                self._past.tell_forgiven(effect, self._world.post, cause_id)
            case Renew():
                self._world.renewals.give(effect, cause_id)
            case Dial(peer=peer, addresses=addresses, giver=giver):
                self._world.post.dial(peer, addresses, giver)
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
                super().perform(shell, effect, cause_id)
