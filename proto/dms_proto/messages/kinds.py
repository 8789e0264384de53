"""The messages nodes exchange. Frozen and self-checking: what breaks a rule cannot be built, here or from the wire.

A round of the market, requester on the left::

    BidRequest  ──gossip and open streams──▶
                ◀── Bid (a capability lock stands behind it) | Decline (why, and what would change it)
                    of a second price, see `market.second_price`: SealedBid; Closing ──▶; then the Bid
    Commit      ──▶                              may carry the invocations, saving a round trip
                ◀── CommitAck | CommitRefused
    Invocation  ──▶                              for allocations not invoked by the commit
                ◀── InvocationAck
                ◀── HoldersWanted                where much has to be fetched: see `messages.data`
    Holders     ──▶                              and Serve ──▶ each of those that are named
                ◀── AllocationStatus …           until one with an ending
                ◀── AllocationMessage …          logs, both ways if the job reads input
    Resize      ──▶                              of an allocation that runs, as often as need be
                ◀── Resized
    Release | Cancel ──▶
                ◀── Receipt
    Iou         ──▶                              whenever the debtor's owner settles by it
    GrantWanted ──▶                              when a grant it uses is near its end
                ◀── GrantGiven

Calls of services take another way: see `messages.tabs`.

Adding a field with a default keeps the version; changing a meaning is a new version of the envelope.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from dms_proto.capability import Capability, Price, Resources
from dms_proto.ids import NO_DIGESTS, BidId, Digest
from dms_proto.messages.base import KnownPeer, Message
from dms_proto.messages.data import MAX_MARKS, DataMark, DatasetHeld, DatasetWanted, Holders, HoldersWanted, Serve
from dms_proto.messages.tabs import TabSigned, TabStated, TabWanted
from dms_proto.rules import (
    MAX_COUNT,
    Address,
    Amount,
    BidIdOrNone,
    Count,
    DigestOrNone,
    GoodAllocationId,
    GoodBidId,
    GoodDigest,
    GoodGrantId,
    GoodPeerId,
    GoodRequestId,
    Line,
    Slot,
    cut_lines,
)
from dms_proto.succession import Successions
from dms_proto.work import Ending, EndReason, Output, Task, Usage

MAX_ANCHORS: Final = 16
"""Peers whose grants a node accepts, itself included."""
WANTED: Final = "want:"
"""Stands before the stream in the channel of a question for a log."""
DOING: Final = "doing"
"""Channel in which a provider says what it does before the program can start."""
NOT_GRANTED: Final = "not_granted"
"""Code of a `Refusal`: who asks lacks a right, which `detail` names."""
NOT_KEPT: Final = "not_kept"
"""Code of a `Refusal`: there is no such log here, or none any more."""
MAX_GRANT_BYTES: Final = 4 * 1024
"""Of a grant, as in an envelope."""
MAX_REVOKED: Final = 64
"""Revocations told in one hello."""


MAX_SEALS: Final = 64
"""Sealed bids on one list."""
SALT_BYTES: Final = 32


class Pricing(StrEnum):
    """What the winner of a request is paid."""

    FIRST_PRICE = "first-price"
    """What it bid."""
    SECOND_PRICE = "second-price"
    """The most it could have bid and still won: see `market.second_price`."""


MAX_CHANGES: Final = 256
"""Changes of the size of one allocation: each is a part of its bill, which both sides keep."""
ChangeNumber = Annotated[int, msgspec.Meta(ge=1, le=MAX_CHANGES)]
Salt = Annotated[bytes, msgspec.Meta(max_length=SALT_BYTES)]


class BidRequest(Message, frozen=True, tag=True):
    """Who can do this? Gossiped, and sent straight to peers whose streams are open.

    Attributes:
        request_id: the job; the same over all rounds.
        round: 0, then one more each time too few good bids came in. An answer names its round.
        needs: what each of the `count` allocations requires.
        count: allocations still wanted.
        bids_wanted: how many answers are welcome.
        reach: which nodes answer: those within this hash distance (0..2**32), see `market.reach`. 2**32 asks everybody.
        max_price: micro-credits for one allocation run to its wall limit; 0 for "only for nothing".
        wait_ms: how long the requester listens in this round.
        stands_ms: how long the request stands: a node that declines for lack of free capacity may still bid later in this span,
            as soon as capacity frees.
        priority: the requester's own order among its requests; higher first. Providers order standing requests by it per requester.
        dry_run: answer what would be answered, but lock nothing and do not expect a commit.
        reply_to: where the requester can be dialled, for nodes that only gossip reached.
        pricing: what the winner is paid. For a second price bids are sealed first, and are for one allocation.
        data: the largest contents that the work reads.
    """

    request_id: GoodRequestId
    round: Amount
    needs: Capability
    count: Count
    bids_wanted: Count
    reach: Annotated[int, msgspec.Meta(ge=0, le=2**32)]
    max_price: Amount
    wait_ms: Amount
    stands_ms: Amount = 0
    priority: Amount = 0
    dry_run: bool = False
    reply_to: Annotated[tuple[Address, ...], msgspec.Meta(max_length=4)] = ()
    pricing: Pricing = Pricing.FIRST_PRICE
    data: Annotated[tuple[DataMark, ...], msgspec.Meta(max_length=MAX_MARKS)] = ()


class Bid(Message, frozen=True, tag=True):
    """A binding offer: the capacity for `slots` allocations is locked until `valid_until`.

    Attributes:
        number: which bid of this provider for this request it is, from 0.
        bid_id: `ids.bid_id(request, provider, number)`; also names the capability lock.
        offer: what this machine has for the job; its resources are what is free beside the lock.
        slots: how many of the wanted allocations can run here at once.
        tariff: prices that apply.
        price: micro-credits for one allocation run to its wall limit under `tariff`.
        valid_until: Unix ms by the provider's clock.
        valid_ms: the same as a span, for requesters whose clock differs.
        salt: of a bid that was sealed before: what its seal was made with.
        held: bytes of the request's `data` that are here already, by the bidder's own word.
    """

    request_id: GoodRequestId
    round: Amount
    number: Amount
    bid_id: GoodBidId
    offer: Capability
    slots: Count
    tariff: Price
    price: Amount
    valid_until: Amount
    valid_ms: Amount
    salt: Salt = b""
    held: Amount = 0


class SealedBid(Message, frozen=True, tag=True):
    """A binding offer whose terms are shown later: the capacity is locked, and the bid cannot be changed any more.

    Attributes:
        number: which bid of this provider for this request it is, from 0.
        bid_id: as in the bid that it seals.
        seal: `market.second_price.seal_of` that bid.
        max_price: micro-credits: the most that the request it answers would pay.
        valid_until: Unix ms by the provider's clock.
        valid_ms: the same as a span.
    """

    request_id: GoodRequestId
    round: Amount
    number: Amount
    bid_id: GoodBidId
    seal: GoodDigest
    max_price: Amount
    valid_until: Amount
    valid_ms: Amount


class Closing(Message, frozen=True, tag=True):
    """No sealed bid counts any more but these: their bidders may open them now. Sent to each of them, and to nobody else.

    Attributes:
        round: in which the list was closed.
        seals: the list, each once, in rising order.
    """

    request_id: GoodRequestId
    round: Amount
    seals: Annotated[tuple[GoodDigest, ...], msgspec.Meta(min_length=1, max_length=MAX_SEALS)]


class Clause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why one dimension does not fit, and the nearest change that would make it fit.

    Attributes:
        dimension: "memory", "price", "executor:wasm", "label:zone", …
        wanted: as a person reads it ("12 GiB").
        observed: likewise ("8 GiB free of 16 GiB").
        nearest: the smallest change to the request that this node says it would accept, or empty if there is none.
        passing: waiting may help: the node has it, but not free now.
    """

    dimension: Line
    wanted: Line
    observed: Line
    nearest: Line = ""
    passing: bool = False

    def __post_init__(self) -> None:
        cut_lines(self, "dimension", "wanted", "observed", "nearest")


class Decline(Message, frozen=True, tag=True):
    """No, and why.

    Attributes:
        clauses: every dimension that does not fit, never empty.
    """

    request_id: GoodRequestId
    round: Amount
    clauses: Annotated[tuple[Clause, ...], msgspec.Meta(min_length=1, max_length=32)]


class Rival(msgspec.Struct, frozen=True, omit_defaults=True):
    """The best of the bids that lost, as far as it sets the price: all that its seal is made of, and no more of its bid than that.

    Attributes:
        provider: who made it.
        bid_id: the bid.
        price: micro-credits for one allocation.
        cpu_score: of its offer.
        terms: `market.second_price.bid_digest` of the whole bid.
        salt: which the seal was made with.
    """

    provider: GoodPeerId
    bid_id: GoodBidId
    price: Amount
    cpu_score: Amount
    terms: GoodDigest
    salt: Salt


class Award(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the winner of a second price is paid, and why so much.

    Attributes:
        price: micro-credits for one allocation run to its wall limit.
        rival: whose bid sets it; None: nobody else's was opened and fits, and the price is the most that the request would pay.
    """

    price: Amount
    rival: Rival | None = None


class Commit(Message, frozen=True, tag=True):
    """The bid is taken. Within its validity this cannot fail for capacity.

    Attributes:
        slots: indexes (of the request's count) to be filled, at most the bid's `slots`.
        invocations: empty, or one per slot: start at once.
        terms: what is agreed: `market.agreement.terms_digest`. A provider refuses any that are not its own, so none at all too.
        award: of a bid that was sealed: its price and the proof of it.
    """

    request_id: GoodRequestId
    bid_id: GoodBidId
    slots: Annotated[tuple[Slot, ...], msgspec.Meta(min_length=1, max_length=MAX_COUNT)]
    invocations: Annotated[tuple[Task, ...], msgspec.Meta(max_length=MAX_COUNT)] = ()
    terms: DigestOrNone = Digest("")
    award: Award | None = None

    def __post_init__(self) -> None:
        if len(set(self.slots)) != len(self.slots):
            raise ValueError("a commit names each slot once")
        if self.invocations and len(self.invocations) != len(self.slots):
            raise ValueError("a commit carries one invocation per slot, or none")


class CommitAck(Message, frozen=True, tag=True):
    """The locks became allocations.

    Attributes:
        allocation_ids: one per slot of the commit, in its order; `ids.allocation_id(bid, slot)`.
        invoke_within_ms: how long they wait for an invocation if the commit carried none.
        terms: what is agreed, as in the commit. With any other it is no acknowledgement, and a fault of the provider.
    """

    request_id: GoodRequestId
    bid_id: GoodBidId
    allocation_ids: Annotated[tuple[GoodAllocationId, ...], msgspec.Meta(min_length=1, max_length=MAX_COUNT)]
    invoke_within_ms: Amount = 0
    terms: DigestOrNone = Digest("")


class CommitRefusal(StrEnum):
    """Why a commit was refused. None of these is capacity."""

    UNKNOWN_BID = "unknown_bid"
    EXPIRED = "expired"
    ALREADY_COMMITTED = "already_committed"
    TOO_MANY_SLOTS = "too_many_slots"
    NOT_YOURS = "not_yours"
    NEEDS_CHANGED = "needs_changed"
    TERMS_DIFFER = "terms_differ"
    STOPPING = "stopping"
    NOT_GRANTED = "not_granted"
    NOT_CLOSED = "not_closed"
    PRICE_UNPROVEN = "price_unproven"


class CommitRefused(Message, frozen=True, tag=True):
    """The commit was not accepted; nothing is reserved under this bid for this requester.

    Attributes:
        refusal: why.
        detail: the same for a person.
    """

    request_id: GoodRequestId
    bid_id: GoodBidId
    refusal: CommitRefusal
    detail: Line = ""

    def __post_init__(self) -> None:
        cut_lines(self, "detail")


class Release(Message, frozen=True, tag=True):
    """The bid is not needed: its lock may go. Sent to every loser.

    Attributes:
        bid_id: the bid; empty: the request stands no longer.
    """

    request_id: GoodRequestId
    bid_id: BidIdOrNone = BidId("")


class Invocation(Message, frozen=True, tag=True):
    """Start the work in a committed allocation.

    Attributes:
        task: what to run.
    """

    request_id: GoodRequestId
    allocation_id: GoodAllocationId
    task: Task


class InvocationAck(Message, frozen=True, tag=True):
    """The allocation exists and will run, or why not.

    Attributes:
        refused: why it will not run; empty if it will.
    """

    request_id: GoodRequestId
    allocation_id: GoodAllocationId
    refused: Line = ""

    def __post_init__(self) -> None:
        cut_lines(self, "refused")


class Phase(StrEnum):
    """Where an allocation is in its life; the order is the order of the enum."""

    COMMITTED = "committed"
    PREPARING = "preparing"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class AllocationStatus(Message, frozen=True, tag=True):
    """Where an allocation stands. Repeated until the requester acknowledges an ending by `Receipt` exchange.

    Attributes:
        number: grows with each status of this allocation; a smaller one than seen is old news.
        phase: where it is in its life.
        usage: figures so far.
        ending: present exactly when the phase is ENDED.
        outputs: files to fetch from this provider, with ENDED.
        log_bytes: total length of (stdout, stderr) with ENDED, so that a missing tail is noticed.
        price: micro-credits owed so far under the bid's tariff.
        log_digests: of (stdout, stderr) with ENDED; empty where nothing was written.
        frozen: why it stands still, for people; empty while it does not. Its time and what is owed for it stand still with it.
        evict_after_ms: for how long it stands still before it is evicted; 0 while it does not.
    """

    request_id: GoodRequestId
    allocation_id: GoodAllocationId
    number: Amount
    phase: Phase
    usage: Usage = Usage()
    ending: Ending | None = None
    outputs: Annotated[tuple[Output, ...], msgspec.Meta(max_length=4096)] = ()
    log_bytes: tuple[Amount, Amount] = (0, 0)
    price: Amount = 0
    log_digests: tuple[DigestOrNone, DigestOrNone] = NO_DIGESTS
    frozen: Line = ""
    evict_after_ms: Amount = 0

    def __post_init__(self) -> None:
        cut_lines(self, "frozen")
        if (self.ending is not None) != (self.phase is Phase.ENDED):
            raise ValueError("an ending belongs to the phase 'ended', and only there")


class AllocationMessage(Message, frozen=True, tag=True):
    """Bytes of a log stream, or a question for them; or what is being done before there is one.

    Attributes:
        channel: "stdout", "stderr"; or "want:stdout" / "want:stderr": send from `offset`, to the requester all there is, to another reader a piece;
            or "doing": `data` is a line for a person, UTF-8, which the next one replaces. Nothing rests on it, and a lost one is not asked for.
        offset: position of `data` in the stream.
        data: the bytes; empty in a question, in the answer to a reader who has all there is, and where the provider says how far it has got.
    """

    request_id: GoodRequestId
    allocation_id: GoodAllocationId
    channel: Annotated[str, msgspec.Meta(max_length=32)]
    offset: Amount
    data: Annotated[bytes, msgspec.Meta(max_length=128 * 1024)] = b""

    @property
    def is_question(self) -> bool:
        """Whether it asks for bytes."""
        return self.channel.startswith(WANTED)

    @property
    def stream(self) -> str:
        """The stream that it is about."""
        return self.channel.removeprefix(WANTED)


class Cancel(Message, frozen=True, tag=True):
    """Stop this allocation; it ends as CANCELLED."""

    request_id: GoodRequestId
    allocation_id: GoodAllocationId


class Resize(Message, frozen=True, tag=True):
    """Let this allocation hold more, or less, from now on, while it runs on. Heard of the requester of its agreement alone.

    Attributes:
        number: of this allocation's changes, from 1. The same number is the same change; an older one is old news.
        resources: what it is to hold, in the form of a need: as many GPUs as it has, in their order; the disk as it is.
        price: micro-credits that may be owed for the allocation at most from then on, under its tariff: what might be before, or
            what running to the wall limit with `resources` costs, whichever is more.
    """

    request_id: GoodRequestId
    allocation_id: GoodAllocationId
    number: ChangeNumber
    resources: Resources
    price: Amount


class Resized(Message, frozen=True, tag=True):
    """The allocation holds what a `Resize` asks for, or why not; then it holds what it held.

    Attributes:
        number: of the change.
        terms: `market.agreement.resize_digest` of the message that this answers.
        at_ms: time of the run at which it took effect.
        clauses: why not; empty if it holds it.
    """

    request_id: GoodRequestId
    allocation_id: GoodAllocationId
    number: ChangeNumber
    terms: GoodDigest
    at_ms: Amount = 0
    clauses: Annotated[tuple[Clause, ...], msgspec.Meta(max_length=32)] = ()


class Receipt(Message, frozen=True, tag=True):
    """The requester has the ending: what was run, used and owed, as it sees it. Ends the provider's repeating of the status.

    It states the figures of the status with the ending; where it states others, the two are in dispute, and the provider writes that down.

    Attributes:
        reason: how it ended.
        usage: final figures.
        price: micro-credits owed.
        results: `market.agreement.results_digest` of the outputs; empty if there are none.
        log_bytes: total length of (stdout, stderr).
        log_digests: of (stdout, stderr); empty where nothing was written.
    """

    request_id: GoodRequestId
    allocation_id: GoodAllocationId
    reason: EndReason
    usage: Usage
    price: Amount
    results: DigestOrNone = Digest("")
    log_bytes: tuple[Amount, Amount] = (0, 0)
    log_digests: tuple[DigestOrNone, DigestOrNone] = NO_DIGESTS


class Iou(Message, frozen=True, tag=True):
    """I owe you so much. Signed by the debtor beyond the envelope, so that it can be shown to others; see `accounts.iou`.

    Attributes:
        debtor: who owes, and has signed.
        creditor: who is owed.
        number: of this debtor's IOUs to this creditor, from 1; the greatest holds.
        amount: micro-credits owed in all, both directions netted; 0: nothing any more.
        signature: Ed25519 with the debtor's key.
    """

    debtor: GoodPeerId
    creditor: GoodPeerId
    number: Amount
    amount: Amount
    signature: Annotated[bytes, msgspec.Meta(max_length=64)]


class GrantWanted(Message, frozen=True, tag=True):
    """Make this grant anew: its end is near, and I use it. Said to who issued it, by who holds it; the answer is a `GrantGiven` or a `Refusal`.

    Attributes:
        grant: in the form of an envelope's `auth`, as it was given; not bound to the sender, where it is for whoever holds it.
    """

    grant: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_GRANT_BYTES)]


class GrantGiven(Message, frozen=True, tag=True):
    """A grant, made anew for who has asked. What it stands for is kept no longer.

    Attributes:
        grant: in the form of an envelope's `auth`.
    """

    grant: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_GRANT_BYTES)]


class Revocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A grant, and every one made from it, is void. See `grants.revocations`.

    Attributes:
        grant_id: the grant.
        signer: who says so; it counts where the grant's issuer does.
        until: when the grant ends by itself, Unix ms; 0: never.
        signature: of the signer.
        proof: of a signer who issued nothing: the grant, as it is sent in an envelope, which names the signer as who passed it on. Of no use to
            whom it is told: it is for certain nodes only.
        successions: how the signer got its key, if it stands in the proof under an earlier one.
    """

    grant_id: GoodGrantId
    signer: GoodPeerId
    until: Amount
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    proof: Annotated[bytes, msgspec.Meta(max_length=MAX_GRANT_BYTES)] = b""
    successions: Successions = ()


class Hello(Message, frozen=True, tag=True):
    """Exchanged when a connection opens, and whenever what it says has changed.

    Attributes:
        version: of the protocol; see `wire.VERSION`.
        software: name and version, for people.
        now: Unix ms at sending: shows the clock difference.
        uuid: the node's own: follows from its first key.
        name: chosen by its owner.
        addresses: where it can be dialled.
        summary: its registered capability, without prices.
        peers: up to 16 others it is connected to (peer exchange).
        accepts_work: whether it bids at all.
        anchors: peers one of whose grants it wants to see before it works for somebody; empty: none is needed.
        revoked: grants of its anchors that are void.
        successions: how its first key became the one it signs with; whoever knew it by an earlier name knows it by the new one from now on.
    """

    version: Amount
    software: Annotated[str, msgspec.Meta(max_length=64)]
    now: Amount
    uuid: Annotated[str, msgspec.Meta(max_length=36)]
    name: Annotated[str, msgspec.Meta(max_length=64)]
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=16)]
    summary: Capability
    peers: Annotated[tuple[KnownPeer, ...], msgspec.Meta(max_length=16)] = ()
    accepts_work: bool = True
    anchors: Annotated[tuple[GoodPeerId, ...], msgspec.Meta(max_length=MAX_ANCHORS)] = ()
    revoked: Annotated[tuple[Revocation, ...], msgspec.Meta(max_length=MAX_REVOKED)] = ()
    successions: Successions = ()


class Probe(Message, frozen=True, tag=True):
    """Are you there, and how far?

    Attributes:
        nonce: chosen by who asks; the answer has the same.
        reply: whether this is the answer.
        now: Unix ms at sending.
    """

    nonce: Amount
    reply: bool = False
    now: Amount = 0


class Refusal(Message, frozen=True, tag=True):
    """A message of the receiver's was not accepted.

    Attributes:
        code: a `wire.RefusalCode`; or of a question for a log `NOT_GRANTED` or `NOT_KEPT`.
        about: the refused envelope's id in hex; empty if it could not be read.
        detail: the reason for a person.
    """

    code: Annotated[str, msgspec.Meta(max_length=32)]
    about: Annotated[str, msgspec.Meta(max_length=32)] = ""
    detail: Line = ""

    def __post_init__(self) -> None:
        cut_lines(self, "detail")


AnyMessage = (
    BidRequest
    | Bid
    | SealedBid
    | Closing
    | Decline
    | Commit
    | CommitAck
    | CommitRefused
    | Release
    | Invocation
    | InvocationAck
    | AllocationStatus
    | AllocationMessage
    | Cancel
    | Resize
    | Resized
    | Receipt
    | Iou
    | GrantWanted
    | GrantGiven
    | HoldersWanted
    | Holders
    | Serve
    | DatasetWanted
    | DatasetHeld
    | TabWanted
    | TabStated
    | TabSigned
    | Hello
    | Probe
    | Refusal
)

KINDS: Final[dict[str, type[Message]]] = {
    kind.__name__: kind
    for kind in (
        BidRequest,
        Bid,
        SealedBid,
        Closing,
        Decline,
        Commit,
        CommitAck,
        CommitRefused,
        Release,
        Invocation,
        InvocationAck,
        AllocationStatus,
        AllocationMessage,
        Cancel,
        Resize,
        Resized,
        Receipt,
        Iou,
        GrantWanted,
        GrantGiven,
        HoldersWanted,
        Holders,
        Serve,
        DatasetWanted,
        DatasetHeld,
        TabWanted,
        TabStated,
        TabSigned,
        Hello,
        Probe,
        Refusal,
    )
}
"""Every kind by its name on the wire."""

GOSSIPED: Final = frozenset({"BidRequest"})
"""Kinds that may travel on the gossip topic; all others only directly."""
