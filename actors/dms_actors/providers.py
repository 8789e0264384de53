"""What this node thinks of providers: how their work went, what checks of their benchmarks found, and who was silent when it had won.

::

    requests of this node ── AttemptNoted, BenchmarkNoted, LetDown, HeardFrom ──▶ Providers ──▶ facts that go with a bid
    what providers say late ─────────────────────────────────────────────────────▶    └─────▶ who is set aside, for how long and why
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dms_actors.letters import AttemptNoted, BenchmarkNoted
from dms_proto.ids import PeerId
from dms_proto.market.auction_effects import HeardFrom, LetDown
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.spot_checks import Benchmarks
from dms_proto.membership.bidder import bidder_facts
from dms_proto.membership.machine import Peer
from dms_proto.membership.ways import Ways
from dms_proto.messages import (
    AllocationStatus,
    AnyMessage,
    Bid,
    BidRequest,
    CommitAck,
    CommitRefused,
    Decline,
    SealedBid,
)
from dms_proto.reputation import Kind, Record
from dms_proto.reputation.answer_times import AnswerTimes
from dms_proto.reputation.rounds import Rounds
from dms_proto.reputation.silence import Bidder, SetAside, Silence, Word, answers_to, word_of


class Providers:
    """One per node actor; lives on its thread.

    Args:
        source_of: where a peer is.
        is_ours: whether a peer is this node, or its owner's.
        silence_pause_ms: for how long one that was silent is set aside at first.

    Attributes:
        record: how their work for this node went.
        benchmarks: what spot checks of them have found.
    """

    def __init__(
        self, source_of: Callable[[PeerId], str], is_ours: Callable[[PeerId], bool], silence_pause_ms: int
    ) -> None:
        self.record = Record()
        self.benchmarks = Benchmarks()
        self._source_of = source_of
        self._is_ours = is_ours
        self._silence = Silence(silence_pause_ms)
        self._rounds = Rounds()
        self._ways = Ways()
        self._answer_times = AnswerTimes()

    def begin(self) -> None:
        """What is in the log is noted anew from there. Who was silent is not."""
        self.record, self.benchmarks = Record(), Benchmarks()

    def note(self, note: AttemptNoted | BenchmarkNoted) -> None:
        """One more observation."""
        match note:
            case AttemptNoted(provider=provider, source=source, kind=kind, at=at):
                self.record.note(provider, source, kind, at)
            case BenchmarkNoted(finding=finding):
                self.benchmarks.note(finding)

    def inherit(self, old: PeerId, new: PeerId) -> None:
        """A peer has a new name: what was seen of it goes with it."""
        self.record.inherit(old, new)
        self.benchmarks.inherit(old, new)

    def heard(self, told: LetDown | HeardFrom) -> None:
        """A request of this node has waited for a provider in vain, or has heard from it."""
        bidder = self._bidder(told.provider)
        match told:
            case LetDown(word=word, about=about, since=since, at=at):
                self._silence.let_down(bidder, word, about, since, at)
                if word is Word.ANSWER:
                    self._answer_times.missed(told.provider, at - since)
            case HeardFrom(word=word, at=at, took_ms=took_ms):
                self._silence.heard(bidder, word, at)
                if took_ms is not None:
                    self._answer_times.took(told.provider, took_ms)

    def answered(self, peer: PeerId, message: AnyMessage, now: int) -> None:
        """A provider answers a request, or says something about a bid or an allocation, late perhaps. What it was not asked for is no answer."""
        match message:
            case Bid() | SealedBid() | Decline():
                took = self._rounds.answered(peer, message.request_id, message.round, now)
                if took is not None:
                    self._ways.took(peer, took, now)
                return
            case CommitAck(request_id=request_id, bid_id=bid_id, terms=terms):
                said = answers_to(request_id, bid_id, terms)[1]
            case CommitRefused(request_id=request_id, bid_id=bid_id):
                said = answers_to(request_id, bid_id, "")[0]
            case AllocationStatus(request_id=request_id, allocation_id=allocation_id):
                said = word_of(request_id, allocation_id)
            case _:
                return
        self._silence.answered(self._bidder(peer), said, now)

    def asked(self, request: BidRequest, peers: Iterable[PeerId], now: int) -> None:
        """`peers` are asked by name."""
        self._rounds.asked(request.request_id, request.round, peers, now, request.wait_ms)

    def unanswered(self, peers: Iterable[PeerId], now: int) -> Mapping[PeerId, int]:
        """Those of `peers` that are not waited for, and how many rounds in a row they have left unanswered."""
        return self._rounds.unanswered(peers, now)

    def set_aside(self, peers: Iterable[PeerId], now: int) -> Mapping[PeerId, SetAside]:
        """Those of `peers` whose bids are taken last."""
        return {
            peer: aside for peer in peers if (aside := self._silence.set_aside(self._bidder(peer), now)) is not None
        }

    def facts(self, peer: PeerId, known: Peer | None, now: int, *, own: bool) -> BidderFacts:
        """What goes with a bid of a peer. `known`: what the membership knows of it."""
        aside = self._silence.set_aside(self._bidder(peer), now)
        way_us, answers_ms = self._ways.us(peer), self._answer_times.ms(peer)
        return bidder_facts(
            known, self.record.of(peer), now, own=own, aside=aside, way_us=way_us, answers_ms=answers_ms
        )

    def _bidder(self, peer: PeerId) -> Bidder:
        has_delivered = Kind.KEPT in self.record.of(peer).counts or self._is_ours(peer)
        return Bidder(peer, self._source_of(peer), has_delivered)
