"""What is remembered of one request: its slots, the bids it holds, where its search is.

One request is one job: `count` slots, each to be filled by one allocation somewhere. A slot's life::

    SEEKING ──award──▶ COMMITTING ──ack──▶ HELD ──ended──▶ COLLECTING ──▶ DONE
       ▲                   │ refused, silent   │ provider lost   │ node's fault, or the job's own on a first node
       └───────────────────┴───────────────────┴─────────────────┘

What it asks: `auction_terms`; what it meets: `auction_stimuli`; what is written down: `auction_events`; what it wants done: `auction_effects`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.capability import Price
from dms_proto.checkpoints import NO_CHECKPOINT, Checkpoint
from dms_proto.ids import AllocationId, BidId, Digest, PeerId
from dms_proto.market.auction_events import (
    BenchmarkChecked,
    ComparisonBegun,
    RequestEnded,
    ResultJudged,
    ResultsCompared,
)
from dms_proto.market.auction_freezes import NEVER_FROZEN, Freezes
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.purse import Purse
from dms_proto.market.ranking import Decision as RankingDecision
from dms_proto.market.sizes import UNCHANGED, Sizes
from dms_proto.messages import AllocationStatus, Award, Bid, Clause, Phase, SealedBid
from dms_proto.reputation.sources import UNKNOWN
from dms_proto.work import Ending, EndReason, Output, Usage

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
        freezes: whether it is frozen.
        has_answered: its last attempt gave a result that is checked, and not by being stopped.
        give_up_at: its owner has cancelled it, and the provider has until then to confirm it; 0: not cancelled.
        ended_at: Unix ms at which its ending was heard; 0: not heard.
        was_away: the way to its provider was gone since the award, or this node was: when something was heard tells nothing.
        settled: its attempts that are over, in order.
        checkpoint: what its next attempt begins with.
        sizes: what its allocation held when, and the change that is being asked for.
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
    freezes: Freezes = NEVER_FROZEN
    has_answered: bool = False
    give_up_at: int = 0
    ended_at: int = 0
    was_away: bool = False
    settled: tuple[Settled, ...] = ()
    checkpoint: Checkpoint = NO_CHECKPOINT
    sizes: Sizes = UNCHANGED
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


class Auction(msgspec.Struct, frozen=True):
    """The requester's state of one request.

    Attributes:
        asked: everyone asked in the current round, and whether they answered.
        unawaited: of these, who is not waited for where somebody else bids.
        declines: the last reasons of each node.
        numbers: of the last bid heard from each node: an older or repeated one is old news.
        standing_at: nodes at which the request stands.
        faulty: in which round a node failed us; it is left out of the round after that.
        unfit: who bid and cannot run the work itself, as they said when it came with the commit. No bid of theirs is taken any more.
        silent_at: by source, how many newcomers there were silent in this round when they had won.
        silences: how often each node was silent when it had won.
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
    unfit: Mapping[PeerId, Clause] = {}
    silent_at: Mapping[str, int] = {}
    silences: Mapping[PeerId, int] = {}
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
