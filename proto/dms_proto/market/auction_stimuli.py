"""What one request can meet: its owner's wishes, the answers of providers, who comes and goes. The table is in `market.auction`."""

from __future__ import annotations

from collections.abc import Mapping

from dms_proto.capability import Resources
from dms_proto.ids import AllocationId, PeerId
from dms_proto.machine import Stimulus
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import BidderFacts
from dms_proto.messages import (
    AllocationStatus,
    Bid,
    CommitAck,
    CommitRefused,
    Decline,
    InvocationAck,
    Resized,
    SealedBid,
)
from dms_proto.reputation.silence import SetAside
from dms_proto.verification.comparing import Grouping


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


class TurnPending(Stimulus, frozen=True):
    """The shell has not announced a round: as many of this node's requests seek as may. `ahead`: how many that wait as well are before this one."""

    round: int
    ahead: int


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
    """Logs and outputs of an ended allocation are here and verified; or (`failed` non-empty) cannot be had any more. `ours`: this node failed."""

    allocation_id: AllocationId
    failed: str = ""
    ours: bool = False


class Compared(Stimulus, frozen=True):
    """What a comparator has said of the answers `asked` about, or why it could not. `comparator`: with its version."""

    piece: int
    asked: tuple[int, ...]
    grouping: Grouping
    comparator: str


class ResizeAsked(Stimulus, frozen=True):
    """The owner wants an allocation to hold this much from now on, in the form of a need."""

    allocation_id: AllocationId
    resources: Resources


class ResizeAnswered(Stimulus, frozen=True):
    """An answer to a change of an allocation's size."""

    provider: PeerId
    answer: Resized


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
