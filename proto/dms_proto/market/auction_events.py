"""What happens to one request, as it is written down. Folded by `market.auction_fold`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId
from dms_proto.machine import Event, Transient
from dms_proto.market.auction_terms import Answer, Terms
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.ranking import Decision as RankingDecision
from dms_proto.market.second_price import OpeningFlaw
from dms_proto.messages import AllocationStatus, Award, Bid, Clause, Phase, Resize, Resized, SealedBid
from dms_proto.reputation import Kind
from dms_proto.reputation.silence import SetAside
from dms_proto.reputation.sources import UNKNOWN
from dms_proto.verification.comparing import Camp
from dms_proto.verification.spot_check import SpotChecks
from dms_proto.work import Ending, EndReason, Output, Usage


class RequestOpened(Event, frozen=True):
    """A request was accepted from the owner."""

    terms: Terms
    at: int


class RoundCalled(Event, frozen=True):
    """A round of asking is due; the shell chooses whom to ask."""

    round: int


class TurnAwaited(Event, frozen=True):
    """A round does not go out yet: `ahead` of this node's requests are before this one; see `seekers`."""

    round: int
    ahead: int


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
    """A winner was silent or refused; its slots seek again. `source`: where it is, of a newcomer that was silent; else empty.

    `unfit`: why it cannot run the work, now that it knows it, whenever it is asked; a `DeclineReceived` says the same.
    """

    bid_id: BidId
    provider: PeerId
    why: str
    source: str = ""
    is_silent: bool = False
    unfit: Clause | None = None


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


class ProviderFroze(Event, frozen=True):
    """An allocation stands still at its provider, which says why, and after how long it evicts it."""

    slot: int
    allocation_id: AllocationId
    why: str
    evict_after_ms: int
    at: int


class ProviderThawed(Event, frozen=True):
    """An allocation goes on."""

    slot: int
    allocation_id: AllocationId
    at: int


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
    `exhausted`: it was one fault, eviction or checkpoint more than are borne. `ending` is still what the provider did, for what is known of it.
    `late_ms`: how much later than it should have its program began to run.
    `checkpoint`: number of the checkpoint that `outputs` are, from which the next attempt goes on; 0: none.
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
    checkpoint: int = 0

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


class ResizeRequested(Event, frozen=True):
    """An allocation is to hold more, or less; its provider is asked."""

    slot: int
    change: Resize


class AllocationResized(Event, frozen=True):
    """An allocation holds what was asked for, since `at_ms` of its run as far as is believed here; or `answer` says why it does not."""

    slot: int
    answer: Resized
    at_ms: int = 0


class RequestEnded(Event, frozen=True):
    """The request is over. `reason` has an owner (`work.OWNERS`); `detail` is one line for a person."""

    reason: EndReason
    detail: str
    at: int
    price: int
