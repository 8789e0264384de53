"""What one request asks of the market, as its owner submitted it: the terms, and what makes a canary or a spot check of it."""

from __future__ import annotations

from typing import Final

import msgspec

from dms_proto.capability import Capability
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId, allocation_id
from dms_proto.market.preferences import Preferences
from dms_proto.messages import Pricing
from dms_proto.reputation.sources import UNKNOWN
from dms_proto.rules import MAX_COUNT
from dms_proto.units import MINUTE
from dms_proto.verification.chance import shuffled
from dms_proto.verification.policy import Verification
from dms_proto.verification.quorum import Result
from dms_proto.verification.spot_check import SpotChecks
from dms_proto.work import EndReason, Output, Task

UNFED_BORNE: Final = 2
"""Attempts in a row that cannot get what they read and are borne: the third one is the last, unless the owner allows for fewer faults."""
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
        count: how many allocations.
        together: whether all of them get a place at once, or none does; see `auction_gang`.
        bids_wanted: how many bids make a choice.
        max_price: micro-credits per allocation.
        budget: micro-credits for all attempts of all allocations together; 0 for no limit.
        preferences: how bids are compared.
        window_ms: longest wait for bids in a round.
        ack_timeout_ms: how long a winner may be silent at first (`auction_pace.ack_ms`), or a bidder that is to open its bid.
        queue_ms: how long to wait for capacity that exists but is not free, or for nodes that are there and silent.
        patience_ms: how long to wait when no known node could ever serve it.
        deadline_at: Unix ms by which it must be over; 0 for none.
        job_failures: distinct nodes on which the job's own failure is final.
        node_faults: node faults after which a slot is given up.
        checkpoints: how often a slot goes on from a checkpoint; see `checkpoints`.
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
    together: bool = False
    checkpoints: int = 100

    def faults_of(self, reason: EndReason) -> int:
        """As how many of the faults that are borne the end of an attempt counts. What several nodes in turn cannot get at, nobody will."""
        return max(1, -(-self.node_faults // UNFED_BORNE)) if reason is EndReason.INPUT_UNAVAILABLE else 1

    def number_of(self, index: int) -> int:
        """The number by which providers know a slot. Of results that are checked it tells nothing: not which are copies, nor how many there are."""
        return shuffled(self.seed, index, MAX_COUNT) if self.verify.is_on else index

    def allocation_of(self, bid_id: BidId, index: int) -> AllocationId:
        """The allocation that fills a slot under a bid."""
        return allocation_id(bid_id, self.number_of(index))
