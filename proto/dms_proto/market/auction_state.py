"""The requester's side of the market, as data: what one request can meet, what is remembered of it, what it can want done.

One request is one job: `count` slots, each to be filled by one allocation somewhere. A slot's life::

    SEEKING ──award──▶ COMMITTING ──ack──▶ HELD ──ended──▶ COLLECTING ──▶ DONE
       ▲                   │ refused, silent   │ provider lost   │ node's fault, or the job's own on a first node
       └───────────────────┴───────────────────┴─────────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.capability import Capability, Price
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId, allocation_id
from dms_proto.machine import Effect, Event, Stimulus, Transient
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.preferences import Preferences
from dms_proto.market.ranking import Decision as RankingDecision
from dms_proto.market.second_price import OpeningFlaw
from dms_proto.messages import (
    AllocationStatus,
    Award,
    Bid,
    BidRequest,
    Clause,
    CommitAck,
    CommitRefused,
    Decline,
    InvocationAck,
    Phase,
    Pricing,
    SealedBid,
)
from dms_proto.reputation import Kind
from dms_proto.reputation.silence import SetAside, Word
from dms_proto.reputation.sources import UNKNOWN
from dms_proto.rules import MAX_COUNT
from dms_proto.units import MINUTE
from dms_proto.verification.chance import shuffled
from dms_proto.verification.comparing import Camp, Grouping
from dms_proto.verification.policy import Verification
from dms_proto.verification.quorum import Result
from dms_proto.verification.spot_check import SpotChecks
from dms_proto.work import Ending, EndReason, Output, Task, Usage

MAX_BIDS: Final = 256
"""Bids kept per request; more are released unread."""
MAX_BIDS_EACH: Final = 4
"""Of these by one provider: who has bid for what was free bids again when more is."""
SHARE: Final = 4
"""One source has at most one in so many of all bids, sealed or open, that a request keeps."""
MAX_ANSWERS: Final = 2_048
"""Nodes whose answers are remembered per request; bounds what strangers can make us remember."""
MAX_NOTED: Final = 32
"""Nodes noted per round as passed over: silence costs nothing, and must not fill the log."""

KNOWN: Final = -1
"""Stands beside the numbers of slots for the known answer of a canary."""


class Canary(msgspec.Struct, frozen=True):
    """Earlier work of this node whose result was accepted, given out once more as if it were new; see `verification.policy`.

    Attributes:
        request_id, piece, count: which work it was: piece `piece` of `count`.
        result: what was accepted.
        right: who gave it: one, if it was taken as it came.
        asked: everybody who has seen the work since.
        given: what was accepted, as a comparator is shown it.
    """

    request_id: RequestId
    piece: int
    count: int
    result: Result
    right: tuple[Answer, ...]
    asked: tuple[Answer, ...]
    given: Given = msgspec.field(default_factory=lambda: Given(KNOWN, AllocationId("")))

    @property
    def is_confirmed(self) -> bool:
        """Whether somebody else than who gave the result has agreed with it before."""
        return len(self.right) > 1


class Given(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one answer left, and where it is kept here.

    Attributes:
        index: of its slot; `KNOWN`.
        allocation_id: whose log holds its standard output.
        outputs: its files, by digest.
        printed_bytes: how much of that standard output is its own.
    """

    index: int
    allocation_id: AllocationId
    outputs: tuple[Output, ...] = ()
    printed_bytes: int = 0


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one copy of a piece of work gave, as far as judging goes. `price`: micro-credits that would be owed for it."""

    slot: int
    provider: PeerId
    allocation_id: AllocationId
    price: int = 0
    source: str = UNKNOWN


class SpotCheck(msgspec.Struct, frozen=True):
    """That a request is a spot check of one provider's benchmark; see `market.spot_checks`.

    Attributes:
        provider: who is checked; nobody else is asked.
        claimed: the score in its bid, thousandths of the reference core.
        rounds: how much work it is; see `verification.spot_work`.
        before: what checks of it had found before.
        answer: digest of what the program prints; this node has worked it out itself.
    """

    provider: PeerId
    claimed: int
    rounds: int
    before: SpotChecks
    answer: Digest = Digest("")


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one request asks of the market.

    Attributes:
        request_id: the job.
        requester: this node.
        name: for people.
        task: what every allocation runs; its environment gets DMS_INDEX and DMS_COUNT.
        needs: what each allocation requires.
        count: how many independent allocations.
        bids_wanted: how many bids make a choice.
        max_price: micro-credits per allocation.
        budget: micro-credits for all attempts of all allocations together; 0 for no limit.
        preferences: how bids are compared.
        window_ms: longest wait for bids in a round.
        ack_timeout_ms: how long a winner may be silent, or a bidder that is to open its bid.
        queue_ms: how long to wait for capacity that exists but is not free.
        patience_ms: how long to wait when no known node could ever serve it.
        deadline_at: Unix ms by which it must be over; 0 for none.
        job_failures: distinct nodes on which the job's own failure is final.
        node_faults: node faults after which a slot is given up.
        priority: order among this node's own requests.
        verify: how its results are checked.
        canary, spot_check: which known work this is, whose benchmark it measures; None: none.
        only: the one node that is asked; empty: whoever can.
        seed: secret of this node, drawn for this request; what is drawn from it no provider can foresee. Never sent.
        pricing: what the winner is paid.
    """

    request_id: RequestId
    requester: PeerId
    task: Task
    needs: Capability
    name: str = ""
    count: int = 1
    bids_wanted: int = 3
    max_price: int = 0
    preferences: Preferences = Preferences()
    window_ms: int = 250
    ack_timeout_ms: int = 500
    queue_ms: int = 10 * MINUTE
    patience_ms: int = 0
    deadline_at: int = 0
    job_failures: int = 2
    node_faults: int = 5
    priority: int = 0
    budget: int = 0
    verify: Verification = Verification()
    seed: bytes = b""
    canary: Canary | None = None
    spot_check: SpotCheck | None = None
    pricing: Pricing = Pricing.FIRST_PRICE
    only: PeerId = PeerId("")

    def number_of(self, index: int) -> int:
        """The number by which providers know a slot. Of results that are checked it tells nothing: not which are copies, nor how many there are."""
        return shuffled(self.seed, index, MAX_COUNT) if self.verify.is_on else index

    def allocation_of(self, bid_id: BidId, index: int) -> AllocationId:
        """The allocation that fills a slot under a bid."""
        return allocation_id(bid_id, self.number_of(index))


# ---------------------------------------------------------------------------------------------------------------- stimuli


class Submitted(Stimulus, frozen=True):
    """The owner wants this done."""

    terms: Terms


class Announced(Stimulus, frozen=True):
    """The shell has announced a round: to whom directly, whether by gossip, and how many nodes it knows besides.

    `passed_over`: not asked by name, since they are taken last. `unawaited`: of those asked, who is not waited for, and how many rounds in a row
    they have left unanswered.
    """

    round: int
    asked: tuple[PeerId, ...]
    gossiped: bool
    known: int
    passed_over: Mapping[PeerId, SetAside] = {}
    unawaited: Mapping[PeerId, int] = {}


class BidHeard(Stimulus, frozen=True):
    """A bid from `provider`."""

    provider: PeerId
    bid: Bid
    facts: BidderFacts


class SealHeard(Stimulus, frozen=True):
    """A sealed bid from `provider`."""

    provider: PeerId
    sealed: SealedBid
    facts: BidderFacts


class DeclineHeard(Stimulus, frozen=True):
    """A decline from `provider`."""

    provider: PeerId
    decline: Decline


class CommitAcked(Stimulus, frozen=True):
    """The provider accepted a commit."""

    provider: PeerId
    ack: CommitAck


class CommitTurnedAway(Stimulus, frozen=True):
    """The provider refused a commit."""

    provider: PeerId
    refused: CommitRefused


class InvocationAnswered(Stimulus, frozen=True):
    """The provider answered an invocation."""

    provider: PeerId
    answer: InvocationAck


class StatusHeard(Stimulus, frozen=True):
    """A status of an allocation. `complete`: nothing is left to fetch (no outputs, all logs are here)."""

    provider: PeerId
    status: AllocationStatus
    complete: bool = False


class Collected(Stimulus, frozen=True):
    """Logs and outputs of an ended allocation are here and verified; or (`failed` non-empty) cannot be had any more."""

    allocation_id: AllocationId
    failed: str = ""


class Compared(Stimulus, frozen=True):
    """What a comparator has said of the answers `asked` about, or why it could not. `comparator`: with its version."""

    piece: int
    asked: tuple[int, ...]
    grouping: Grouping
    comparator: str


class PeerLost(Stimulus, frozen=True):
    """The connection to a peer is gone. `ours`: because this node's own network is down."""

    peer: PeerId
    ours: bool = False


class PeerThere(Stimulus, frozen=True):
    """A peer joined, or came back."""

    peer: PeerId


class Restarted(Stimulus, frozen=True):
    """The node process is new and nobody is connected yet: providers are innocent, and get time to be reached again."""


class CancelAsked(Stimulus, frozen=True):
    """The owner wants it stopped."""


class AllocationCancelAsked(Stimulus, frozen=True):
    """The owner wants one allocation stopped, and its slot not tried elsewhere; the others go on."""

    allocation_id: AllocationId


# ----------------------------------------------------------------------------------------------------------------- events


class RequestOpened(Event, frozen=True):
    """A request was accepted from the owner."""

    terms: Terms
    at: int


class RoundCalled(Event, frozen=True):
    """A round of asking is due; the shell chooses whom to ask."""

    round: int


class RequestAnnounced(Event, frozen=True):
    """A round of asking went out.

    `passed_over`: not asked by name, since they are taken last; `MAX_NOTED` of them. `unawaited`: asked, and not waited for where somebody else
    bids, since they have left so many rounds in a row unanswered.
    """

    round: int
    asked: tuple[PeerId, ...]
    gossiped: bool
    known: int
    window_until: int
    passed_over: Mapping[PeerId, SetAside] = {}
    unawaited: Mapping[PeerId, int] = {}


class BidReceived(Event, frozen=True):
    """A bid came in."""

    provider: PeerId
    bid: Bid
    facts: BidderFacts
    usable_until: int


class SealReceived(Event, frozen=True):
    """A sealed bid came in."""

    provider: PeerId
    sealed: SealedBid
    facts: BidderFacts
    usable_until: int


class SealsListed(Event, frozen=True):
    """No more sealed bids count but these, whose bidders have until `open_until` to open them. `seals`: as their bidders were told."""

    bid_ids: tuple[BidId, ...]
    seals: tuple[Digest, ...]
    open_until: int


class OpeningRefused(Event, frozen=True):
    """A sealed bid does not count any more: it was opened otherwise than it was sealed, or not at all. `source`: see `reputation.sources`."""

    bid_id: BidId
    provider: PeerId
    flaw: OpeningFlaw
    source: str = UNKNOWN


class DeclineReceived(Event, frozen=True):
    """A node declined, with its reasons."""

    provider: PeerId
    round: int
    clauses: tuple[Clause, ...]


class AwardMade(Event, frozen=True):
    """Bids were compared and slots awarded. `decision` is all that went into it: replaying it gives the same order.

    `taken`: the slots that each bid gets. `paid`: what the winner of a second price is paid, and why.
    """

    decision: RankingDecision
    taken: tuple[tuple[BidId, tuple[int, ...]], ...] = msgspec.field(name="awards")
    ack_until: int
    paid: Award | None = None


class CommitConfirmed(Event, frozen=True):
    """The provider holds the capacity."""

    bid_id: BidId
    at: int


class CommitFailed(Event, frozen=True):
    """A winner was silent or refused; its slots seek again. `source`: where it is, of a newcomer that was silent; else empty."""

    bid_id: BidId
    provider: PeerId
    why: str
    source: str = ""


class CommitAwaited(Transient, frozen=True):
    """This node was itself late to look for an acknowledgement: there is time for it `until` then, once."""

    bid_id: BidId
    until: int


class BidPassedOver(Event, frozen=True):
    """A bid was let go, since taking it could come to owe its provider more than this node's owner lets it; `clause` says how much."""

    bid_id: BidId
    provider: PeerId
    clause: Clause


class BidsReleased(Event, frozen=True):
    """Bids that are not needed were let go."""

    bid_ids: tuple[BidId, ...]
    withdrawn: tuple[PeerId, ...] = ()


class AllocationAdvanced(Event, frozen=True):
    """An allocation entered a phase, as was heard at `at` (Unix ms)."""

    slot: int
    allocation_id: AllocationId
    phase: Phase
    at: int = 0


class InvocationRepeated(Event, frozen=True):
    """Nothing was heard of an allocation since its commit: its invocation, which asks for the status, was sent again."""

    slot: int
    at: int


class ProviderSuspected(Event, frozen=True):
    """The way to a provider is gone; its allocations count as lost at `until` unless it returns."""

    peer: PeerId
    until: Mapping[int, int]


class ProviderReturned(Event, frozen=True):
    """A suspected provider is back."""

    peer: PeerId
    at: int = 0


class AllocationUsed(Transient, frozen=True):
    """The provider says what an allocation has used so far."""

    slot: int
    usage: Usage


class AllocationFinished(Event, frozen=True):
    """An allocation ended at its provider, as was heard at `at` (Unix ms); its results are being collected."""

    slot: int
    status: AllocationStatus
    at: int = 0


class AttemptEnded(Event, frozen=True):
    """One try at filling a slot is over. `final`: the slot is done; otherwise it seeks another node, `why` says so.

    `price` is what is owed for it; `claimed` what its provider asked, where that is more than the tariff gives.
    `source`: where its provider is; see `reputation.sources`.
    `exhausted`: it was one node fault more than are borne. `ending` is still what the provider did: that goes into what is known of it.
    `late_ms`: how much later than it should have its program began to run.
    """

    slot: int
    provider: PeerId
    allocation_id: AllocationId
    ending: Ending
    final: bool
    price: int = 0
    outputs: tuple[Output, ...] = ()
    why: str = ""
    claimed: int = 0
    source: str = UNKNOWN
    exhausted: bool = False
    late_ms: int = 0

    @property
    def slot_ending(self) -> Ending:
        """How the slot ends if this is its last attempt."""
        if not self.exhausted:
            return self.ending
        detail = f"last: {self.ending.reason}: {self.ending.detail}"
        return Ending(EndReason.RETRIES_EXHAUSTED, detail=detail, usage=self.ending.usage)


class CopyCalled(Event, frozen=True):
    """One more copy of a piece of work is to run, at somebody who has none: its result is to be checked, or those there are disagree."""

    piece: int


class ComparisonBegun(Event, frozen=True):
    """A comparator is asked which answers of a piece of work are the same: the `fresh` ones, among each other and as those that founded camps before.

    By slot; `KNOWN` for a known answer.
    """

    piece: int
    founders: tuple[int, ...]
    fresh: tuple[int, ...]


class ResultsCompared(Event, frozen=True):
    """A comparator has said which answers of a piece of work are the same, or that it cannot.

    Attributes:
        piece: from 0 to the request's count.
        at: Unix ms.
        comparator: as the job declares it, and its version.
        camps: all answers compared so far, by slot (`KNOWN`: a known answer), together with those that are the same. The first has founded the
            camp: it is what the others are the same as.
        unfit: of these, such as it could not compare with any other, and why.
        failed: why it could not compare; the piece is then undecided. Empty otherwise.
    """

    piece: int
    at: int
    comparator: str
    camps: tuple[Camp, ...] = ()
    unfit: Mapping[int, str] = {}
    failed: str = ""


class ResultJudged(Event, frozen=True):
    """It is clear, or given up, which result of a piece of work holds; its copies are paid by that. Once per piece.

    Attributes:
        piece: from 0 to the request's count.
        at: Unix ms.
        accepted: the slot whose result is the piece's; None: undecided.
        right: who agree with it, once it was checked.
        wrong: who do not; nothing is owed to them.
        unjudged: of whom nothing follows: taken as it is, undecided, or another end that may be the machine's doing.
        why: why it is undecided, for a person.
        canary: which earlier work it was whose result was accepted: its request and piece.
        overturned: who gave that result, if it is not the accepted one.
        confirmed: who gave it, if it is, and nobody had checked it until now.
        pieces: of the request; 0: not known.
        unfit: who gave what cannot be compared, though the accepted result can: of those unjudged, or of a canary then. They are paid, and no longer
            trusted.
    """

    piece: int
    at: int
    accepted: int | None = None
    right: tuple[Answer, ...] = ()
    wrong: tuple[Answer, ...] = ()
    unjudged: tuple[Answer, ...] = ()
    why: str = ""
    canary: tuple[RequestId, int] | None = None
    overturned: tuple[Answer, ...] = ()
    pieces: int = 0
    confirmed: tuple[Answer, ...] = ()
    unfit: tuple[Answer, ...] = ()

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Everybody who answered."""
        return self.right + self.wrong + self.unjudged


class BenchmarkChecked(Event, frozen=True):
    """A spot check of a provider's benchmark is over. Once per request that is one.

    Attributes:
        provider: who was checked.
        claimed: the score that it claims, thousandths of the reference core.
        measured: the score that was found; 0: none, or no right answer.
        at: Unix ms.
        checks: what checks of it have found, with this one.
        kind: the evidence that follows; None: it is in doubt, or nothing was found.
        source: where the provider is; see `reputation.sources`.
        why: for a person, why nothing was measured; empty otherwise.
    """

    provider: PeerId
    claimed: int
    measured: int
    at: int
    checks: SpotChecks
    kind: Kind | None = None
    source: str = UNKNOWN
    why: str = ""


class RequestWaiting(Event, frozen=True):
    """No usable bid: what stands in the way, and when it asks again."""

    why: str
    next_round_at: int
    since: int


class CancelRequested(Event, frozen=True):
    """It is to be stopped: the owner wants it, or its deadline passed."""

    give_up_at: int
    reason: EndReason = EndReason.CANCELLED


class AllocationCancelRequested(Event, frozen=True):
    """One allocation is to be stopped; its provider has until `give_up_at` (Unix ms) to confirm it."""

    slot: int
    allocation_id: AllocationId
    give_up_at: int


class RequestEnded(Event, frozen=True):
    """The request is over. `reason` has an owner (`work.OWNERS`); `detail` is one line for a person."""

    reason: EndReason
    detail: str
    at: int
    price: int


# ---------------------------------------------------------------------------------------------------------------- effects


class Announce(Effect, frozen=True):
    """Ask the market: whom and how, `membership.audience` decides; then say `Announced`."""

    request: BidRequest


class Collect(Effect, frozen=True):
    """Fetch and verify what an ended allocation left: logs and outputs; then say `Collected`."""

    provider: PeerId
    status: AllocationStatus


class Compare(Effect, frozen=True):
    """Ask a comparator which answers of a piece of work are the same (`verification.comparing`); then say `Compared`."""

    piece: int
    comparator: str
    founders: tuple[Given, ...]
    fresh: tuple[Given, ...]


class LetDown(Effect, frozen=True):
    """A provider said nothing in time about a bid of its own that was taken, or an allocation it acknowledged: remember it, for other requests.

    Attributes:
        provider: it.
        word: what was waited for.
        about: what it could have said, any of which would have done; see `reputation.silence`.
        since, at: Unix ms at which it was told, and at which it was waited for no longer.
    """

    provider: PeerId
    word: Word
    about: tuple[str, ...]
    since: int
    at: int


class HeardFrom(Effect, frozen=True):
    """A provider has said something of a commit or an allocation of this node, `at` Unix ms: forget, for other requests, that it was silent."""

    provider: PeerId
    word: Word
    at: int


class Conclude(Effect, frozen=True):
    """The request is over; nothing more will come."""


# ------------------------------------------------------------------------------------------------------------------ state


class SlotPhase(StrEnum):
    """Where one slot is."""

    SEEKING = "seeking"
    COMMITTING = "committing"
    HELD = "held"
    COLLECTING = "collecting"
    DONE = "done"


class Settled(msgspec.Struct, frozen=True):
    """What is owed to whom for an attempt that is over, so that a repeated receipt says the same, and only to its provider.

    `price` is in micro-credits.
    """

    provider: PeerId
    allocation_id: AllocationId
    price: int


class Slot(msgspec.Struct, frozen=True):
    """One of the request's allocations-to-be.

    Attributes:
        piece: the piece of work, from 0 to the request's count; where results are checked, several slots run copies of one.
        streak: the provider's checked results in a row that were right, as known at the award.
        source: where the provider is; see `reputation.sources`.
        is_newcomer: the provider had finished nothing for this node at the award.
        agreed: micro-credits for this allocation run to its wall limit: the most that is owed.
        tariff: by which what is owed is worked out from the usage.
        terms: `agreement.terms_digest` of what was agreed for it.
        held_since: Unix ms of the acknowledged commit.
        started_at: Unix ms at which it was heard that its program runs; 0: not heard.
        nudges, nudge_at: how often its invocation was repeated, and when it is next, while nothing is heard of it.
        lost_at: when the allocation counts as lost; 0 while the provider is there.
        failed_on, failure: nodes on which the job itself failed, and how it did last.
        faults: node faults so far.
        ending: of the last attempt.
        usage: what it has used so far, as its provider says; of the final figures the status tells.
        has_answered: its last attempt gave a result that is checked, and not by being stopped.
        give_up_at: its owner has cancelled it, and the provider has until then to confirm it; 0: not cancelled.
        ended_at: Unix ms at which its ending was heard; 0: not heard.
        was_away: the way to its provider was gone since the award, or this node was: when something was heard tells nothing.
        settled: its attempts that are over, in order.
    """

    index: int
    piece: int = 0
    phase: SlotPhase = SlotPhase.SEEKING
    bid_id: BidId = BidId("")
    provider: PeerId = PeerId("")
    source: str = UNKNOWN
    streak: int = 0
    is_newcomer: bool = False
    allocation_id: AllocationId = AllocationId("")
    allocation: Phase = Phase.COMMITTED
    number: int = -1
    agreed: int = 0
    tariff: Price = Price()
    terms: Digest = Digest("")
    held_since: int = 0
    started_at: int = 0
    nudges: int = 0
    nudge_at: int = 0
    lost_at: int = 0
    failed_on: tuple[PeerId, ...] = ()
    failure: Ending | None = None
    faults: int = 0
    attempts: int = 0
    ending: Ending | None = None
    status: AllocationStatus | None = None
    outputs: tuple[Output, ...] = ()
    price: int = 0
    usage: Usage = Usage()
    has_answered: bool = False
    give_up_at: int = 0
    ended_at: int = 0
    was_away: bool = False
    settled: tuple[Settled, ...] = ()
    heard: Mapping[AllocationId, Digest] = {}
    """`agreement.figures_digest` of each ending that was heard, so that no other one is confirmed."""


class OpenBid(msgspec.Struct, frozen=True):
    """A bid that can still be taken, or has been."""

    provider: PeerId
    bid: Bid
    facts: BidderFacts
    until: int
    ack_until: int = 0
    """0: not taken; otherwise when the provider's silence counts as refusal."""
    taken_at: int = 0
    is_awaited: bool = False
    """There was time for its acknowledgement once more."""
    slots: tuple[int, ...] = ()
    listed: tuple[Digest, ...] = ()
    """Of a bid that was sealed: the list on which it was opened."""
    most: int = 0
    """Likewise: micro-credits that the request it answers would pay."""
    award: Award | None = None

    @property
    def stake(self) -> int:
        """Micro-credits that may come to be owed for an allocation under it: its price, or where that is second all that is offered."""
        return max(self.bid.price, self.most) if self.bid.price else 0


class HeldSeal(msgspec.Struct, frozen=True):
    """A sealed bid that is not opened yet. `listed`: what its bidder was told when it was asked to open; empty: it was not asked yet."""

    provider: PeerId
    sealed: SealedBid
    facts: BidderFacts
    until: int
    listed: tuple[Digest, ...] = ()


class AuctionPhase(StrEnum):
    """Where the request is as a whole."""

    NEW = "new"
    OPEN = "open"
    CANCELLING = "cancelling"
    ENDED = "ended"


class SearchPhase(StrEnum):
    """Where the search for the slots that seek is."""

    IDLE = "idle"
    """Nothing is being looked for; or slots have just come back, and a round is called at once."""
    CALLED = "called"
    """A round is due; the shell has not yet said whom it asked."""
    WINDOW = "window"
    """Bids of this round are awaited."""
    OPENING = "opening"
    """Sealed bids are listed, and to be opened."""
    SHORT = "short"
    """Slots were awarded, and some are left over."""
    WAITING = "waiting"
    """Nobody can take them now; a pause until the next round, or until a standing request is answered."""


class Purse(msgspec.Struct, frozen=True):
    """What may come to be owed to one provider, in micro-credits.

    Attributes:
        most: for this request, all it has come to owe the provider included, if nothing else of this node were at work there.
        elsewhere: what other requests of this node have at work there, as if all of it ran to its limit.
    """

    most: int
    elsewhere: int = 0


class Auction(msgspec.Struct, frozen=True):
    """The requester's state of one request.

    Attributes:
        asked: everyone asked in the current round, and whether they answered.
        unawaited: of these, who is not waited for where somebody else bids.
        declines: the last reasons of each node.
        numbers: of the last bid heard from each node: an older or repeated one is old news.
        standing_at: nodes at which the request stands.
        faulty: in which round a node failed us; it is left out of the round after that.
        silent_at: by source, how many newcomers there were silent in this round when they had won.
        seals: sealed bids that are not opened yet.
        window_until: end of the current bidding window, or of the time for opening.
        next_round_at: when to ask again, while waiting.
        waiting_since: since when nobody could serve it; 0 when not so.
        waits: rounds in a row that found nothing.
        why: what it waits for.
        purses: what may come to be owed to each bidder. Never follows from events: whoever drives the machine says it with each stimulus
            (`obligations`), and for a provider without one there is no limit.
        comparing: by piece of work, what a comparator is being asked.
        comparisons: by piece of work, what it has said so far.
        verdicts: by piece of work, where results are checked.
        finding: of a spot check that is over.
    """

    terms: Terms | None = None
    phase: AuctionPhase = AuctionPhase.NEW
    opened_at: int = 0
    round: int = -1
    asked: Mapping[PeerId, bool] = {}
    unawaited: frozenset[PeerId] = frozenset()
    gossiped: bool = False
    known: int = 0
    declines: Mapping[PeerId, tuple[Clause, ...]] = {}
    bids: Mapping[BidId, OpenBid] = {}
    seals: Mapping[BidId, HeldSeal] = {}
    numbers: Mapping[PeerId, int] = {}
    standing_at: frozenset[PeerId] = frozenset()
    faulty: Mapping[PeerId, int] = {}
    silent_at: Mapping[str, int] = {}
    slots: tuple[Slot, ...] = ()
    search: SearchPhase = SearchPhase.IDLE
    window_until: int = 0
    next_round_at: int = 0
    waiting_since: int = 0
    waits: int = 0
    why: str = ""
    give_up_at: int = 0
    stopped_for: EndReason = EndReason.CANCELLED
    ending: RequestEnded | None = None
    decision: RankingDecision | None = None
    purses: Mapping[PeerId, Purse] = {}
    comparing: Mapping[int, ComparisonBegun] = {}
    comparisons: Mapping[int, ResultsCompared] = {}
    verdicts: Mapping[int, ResultJudged] = {}
    finding: BenchmarkChecked | None = None


def terms_of(auction: Auction) -> Terms:
    """What was submitted."""
    assert auction.terms is not None, "a new auction has no terms"
    return auction.terms
