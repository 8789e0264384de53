"""What the node actor hears from other nodes: frames in, and each message to whoever it concerns.

::

    frame ── gate ──▶ _open ──▶ _route ──▶ a machine of the node      requests, commits, hellos, IOUs …
                        │                ├▶ an orchestrator           bids, declines, acknowledgements, statuses
                        │                └▶ an allocation             invocations, cancels, receipts
                        └── refused: answered, or its sender muted
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from dms_actors.gate import Muted
from dms_actors.letters import TabQuestion, Told
from dms_actors.node_parts import NodeParts
from dms_actors.ports import FrameReceived
from dms_actors.proofs import NO_FRAME, Heard, record_heard
from dms_actors.shell import Shell, Turn
from dms_proto.accounts.machine import ClaimStated, IouHeard, LateReceiptHeard
from dms_proto.allocation.resizing import SizeWished
from dms_proto.allocation.stimuli import CancelHeard, Invoked, ReceiptHeard
from dms_proto.grants.access import NOTHING_SHOWN, Credential, in_words, refusals
from dms_proto.grants.rights import may_need_right, uses_of
from dms_proto.grants.trust import RenewalAsked, RevocationsHeard, issuer_of
from dms_proto.ids import AllocationId, PeerId
from dms_proto.lineage import predecessors
from dms_proto.machine import Effect, Stimulus
from dms_proto.market import auction_stimuli, strays
from dms_proto.market.offer_judgement import access_to
from dms_proto.market.offer_state import ChangeSize, ClosingHeard, CommitHeard, ReleaseHeard, RequestHeard, ResizeHeard
from dms_proto.market.reach import is_within
from dms_proto.membership import machine as membership
from dms_proto.membership.machine import HelloHeard
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
    DatasetHeld,
    DatasetWanted,
    Decline,
    GrantGiven,
    GrantWanted,
    Hello,
    Holders,
    HoldersWanted,
    Invocation,
    InvocationAck,
    Iou,
    Probe,
    Receipt,
    Refusal,
    Release,
    Resize,
    Resized,
    SealedBid,
    Serve,
    TabSigned,
    TabStated,
    TabWanted,
)
from dms_proto.pool.callers import missing_right, tariff_for
from dms_proto.tabs.kept import SignatureHeard
from dms_proto.tabs.used import StatementHeard
from dms_proto.wire import Envelope, Offence

log = logging.getLogger(__name__)


class Origin(NamedTuple):
    """How a message came: the id of its envelope, what it showed, its frame, the id of what it answers. What a node tells itself has no frame."""

    cause_id: str
    shown: Credential = NOTHING_SHOWN
    heard: Heard = NO_FRAME
    is_gossip: bool = False
    answers: str = ""


class NodeHearing(NodeParts):
    """A node that hears what others say."""

    # ----------------------------------------------------------------------------------------------------------- frames

    def _open(self, turn: Turn, frame: bytes, via: PeerId, topic: str, now: int) -> None:
        opened = self._gate.open(frame, via, topic, now)
        match opened:
            case Envelope():
                turn.speaker = opened.sender
                shown = self._shown_with(opened, now) if may_need_right(opened.message) else NOTHING_SHOWN
                origin = Origin(opened.id.hex(), shown, Heard(frame, now), bool(topic), opened.cause)
                if shown.rights is not None and self._strangers.showed_grant(opened.sender, shown.rights.until):
                    self._spared.settle((opened.sender,), now)
                if topic:
                    self._strangers.heard_of(opened.sender, via)
                self._route(turn, opened.sender, opened.message, origin, now)
            case Refusal():
                self._world.post.send(via, opened, "")
            case Muted():
                self._mute(opened)

    def speaker(self, message: object) -> PeerId | None:
        """Who handed on gossip has not written it, and cannot know whether it can be handled."""
        return message.peer if isinstance(message, FrameReceived) else super().speaker(message)

    def blame(self, peer: PeerId, now: int) -> None:
        """See `MachineActor.blame`."""
        self._blame(peer, Offence.UNHANDLED, now)

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
        if self.book.state.policy.is_public and not isinstance(message, AllocationMessage | TabWanted):
            return NOTHING_SHOWN
        begun = isinstance(message, Invocation) and self._children.is_held_by(opened.sender, message.allocation_id)
        read = self._reading.by(opened.sender, now)
        return self.grants.state.credential(opened.auth, opened.sender, now, read, begun=begun)

    # --------------------------------------------------------------------------------------------------------- messages

    def _route(  # noqa: C901, PLR0912, PLR0915 - one case per kind
        self, turn: Turn, peer: PeerId, message: AnyMessage, origin: Origin, now: int
    ) -> None:
        """Hands a message to whoever it concerns. A name that was succeeded is over: whoever still has its key is nobody."""
        cause = origin.cause_id
        if self._is_succeeded(peer) and not isinstance(message, Hello):  # which is answered with the reason
            return
        match message:
            case BidRequest():
                self._hear_request(turn, peer, message, origin, now)
            case (
                Bid()
                | SealedBid()
                | Decline()
                | CommitAck()
                | CommitRefused()
                | InvocationAck()
                | AllocationStatus()
                | Resized()
            ):
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
            case Resize():
                self._hear_resize(turn, peer, message, origin, now)
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
            case HoldersWanted() | Holders() | Serve() | DatasetWanted() | DatasetHeld():
                self._world.data(peer, message)
            case TabWanted():
                self._world.calls(self._tab_question(peer, message, origin))
            case TabStated() if self._meter.may_write(peer, now):
                self._meter.heard(peer, origin.heard.frame, now)
                self._world.calls(Told(StatementHeard(peer, message, origin.heard.frame), cause, origin.heard, peer))
            case TabStated():
                log.info(
                    "a tab's sum of %s is not signed: no room is left for it in the log budget; it is told again", peer
                )
            case TabSigned():
                credit = self.book.state.credit_left(peer)
                signed = SignatureHeard(peer, message, origin.heard.frame, credit, self._tabs_known)
                self._world.calls(Told(signed, cause, origin.heard, peer))
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

    # ------------------------------------------------------------------------------------------------------ of the node

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

    def _tab_question(self, peer: PeerId, wanted: TabWanted, origin: Origin) -> TabQuestion:
        book, shown = self.book.state, origin.shown
        refused = missing_right(book, peer, shown)
        return TabQuestion(
            peer,
            wanted,
            tariff_for(book, peer, shown),
            book.credit_left(peer),
            self._tabs_known,
            refused,
            origin.cause_id,
        )

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

    def _hear_request(self, turn: Turn, peer: PeerId, request: BidRequest, origin: Origin, now: int) -> None:
        if not self._provides or (origin.is_gossip and not is_within(request.request_id, self._peer_id, request.reach)):
            return
        self._world.post.learn(peer, request.reply_to)
        asking = RequestHeard(peer, request, origin.shown, self._meter.may_write(peer, now), self._world.held(request))
        events = self._decide(turn, self.book, asking, now, origin.cause_id)
        self._proofs.asked(turn, asking, events, origin.heard)

    def _hear_commit(self, turn: Turn, peer: PeerId, commit: Commit, origin: Origin, now: int) -> None:
        committing = CommitHeard(peer, commit, origin.shown, self._meter.may_write(peer, now))
        events = self._decide(turn, self.book, committing, now, origin.cause_id)
        written = len(turn.rows)
        self._proofs.committed(turn, committing, events, origin.heard, origin.cause_id)
        if len(turn.rows) > written:
            self._meter.kept(peer, turn.rows[written:], now)
            # What it is to run is written down once more, with its allocation.
            self._meter.heard(peer, origin.heard.frame, now)

    def _hear_resize(self, turn: Turn, peer: PeerId, change: Resize, origin: Origin, now: int) -> None:
        """What is taken is written down, and told to the allocation, which answers; its requester has signed it."""
        asking = ResizeHeard(peer, change, origin.shown, self._meter.may_write(peer, now))
        if self._decide(turn, self.book, asking, now, origin.cause_id):
            record_heard(turn, change.request_id, origin.heard, origin.cause_id)
            self._meter.heard(peer, origin.heard.frame, now)

    def _hear_invocation(self, peer: PeerId, message: Invocation, origin: Origin, now: int) -> None:
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

    # ----------------------------------------------------------------------------- of an orchestrator, of an allocation

    def perform(self, shell: Shell[Any], effect: Effect, cause_id: str) -> None:
        """What was heard for an allocation, and its machine of the node has agreed to."""
        match effect:
            case ChangeSize(change=change, resources=resources):
                self._to_allocation(self._peer_id, change.allocation_id, SizeWished(change, resources), cause_id)
            case _:
                raise TypeError(f"no hands for {effect!r}")

    def _to_allocation(
        self, by: PeerId, allocation_id: AllocationId, stimulus: Stimulus, cause: str, heard: Heard = NO_FRAME
    ) -> None:
        self._world.allocations.tell(allocation_id, Told(stimulus, cause, heard, by))

    def _to_orchestrator(
        self,
        peer: PeerId,
        message: Bid | SealedBid | Decline | CommitAck | CommitRefused | InvocationAck | AllocationStatus | Resized,
        origin: Origin,
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
            case Resized():
                return auction_stimuli.ResizeAnswered(peer, message)
            case _:
                raise TypeError(f"not for an orchestrator: {message!r}")
