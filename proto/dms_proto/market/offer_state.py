"""The provider's side of the market in words: what it hears, what it notes, what follows, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from dms_proto.accounts.book import NO_LIMIT
from dms_proto.capability import NOTHING, Capability, Resources
from dms_proto.grants.access import NOTHING_SHOWN, Credential
from dms_proto.grants.rights import Rights
from dms_proto.heirs import names_of
from dms_proto.ids import AllocationId, BidId, Digest, PeerId, RequestId
from dms_proto.machine import (
    Effect,
    Event,
    Stimulus,
    Transient,
)
from dms_proto.market.arithmetic import clamp_subtract
from dms_proto.market.ledger import CapabilityLock, Ledger, Reservation
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.market.second_price import Salts
from dms_proto.messages import (
    Bid,
    BidRequest,
    Clause,
    Closing,
    Commit,
    CommitRefusal,
    Release,
    Resize,
)
from dms_proto.work import Task

OWNER_HOLD: Final = BidId("owner")
"""Name of the lock by which the owner holds back what is not to be available."""


class BookPhase(StrEnum):
    """Whether the node takes new work."""

    OPEN = "open"
    PAUSED = "paused"
    """The owner wants the machine to itself: nothing new, what runs goes on."""
    STOPPING = "stopping"
    """The node ends: nothing new, and no commit either; what runs has what is left of the grace."""


# ---------------------------------------------------------------------------------------------------------------- stimuli


class CapabilityMeasured(Stimulus, frozen=True):
    """The capability to register: measured, reduced by what the owner keeps."""

    capability: Capability


class PolicyWished(Stimulus, frozen=True):
    """The owner's conditions and prices."""

    policy: ProviderPolicy


class PressureSeen(Stimulus, frozen=True):
    """What other programs on this machine use beyond what was allowed for at registration."""

    pressure: Resources


class PauseWished(Stimulus, frozen=True):
    """The owner pauses (or resumes) taking work. `stopping`: the node ends."""

    paused: bool
    because: str = ""
    stopping: bool = False


class NodeStarted(Stimulus, frozen=True):
    """The node has started: if it was stopping, it is as its owner left it before."""


class HoldWished(Stimulus, frozen=True):
    """The owner holds capacity back under a name (`OWNER_HOLD` …), until `until` (Unix ms; 0: for good). Nothing: lets it go."""

    name: BidId
    resources: Resources
    until: int = 0


class AvailableWished(Stimulus, frozen=True):
    """The owner wants exactly this much available now; the rest of what is free is held back under `OWNER_HOLD`."""

    resources: Resources


class CreditSeen(Stimulus, frozen=True):
    """What a peer may still come to owe, by the accounts."""

    peer: PeerId
    credit: int


class RequestHeard(Stimulus, frozen=True):
    """A bid request from `requester` (proven by its signature), and the rights it has shown.

    `may_write`: its requester has room left in the log budget (`wire.log_budget`); without, it is declined and nothing of it is written down.
    `held`: bytes of its data that are here.
    """

    requester: PeerId
    request: BidRequest
    credential: Credential = NOTHING_SHOWN
    may_write: bool = True
    held: int = 0


class CommitHeard(Stimulus, frozen=True):
    """A commit from `requester`, and the rights it has shown. `may_write`: as of a request; a bid binds without it all the same."""

    requester: PeerId
    commit: Commit
    credential: Credential = NOTHING_SHOWN
    may_write: bool = True


class ClosingHeard(Stimulus, frozen=True):
    """A list of sealed bids from `requester`."""

    requester: PeerId
    closing: Closing


class ReleaseHeard(Stimulus, frozen=True):
    """A release from `requester`."""

    requester: PeerId
    release: Release


class ResizeHeard(Stimulus, frozen=True):
    """A change of an allocation's size from `requester`, and the rights it has shown. `may_write`: as of a request."""

    requester: PeerId
    change: Resize
    credential: Credential = NOTHING_SHOWN
    may_write: bool = True


class SizeSettled(Stimulus, frozen=True):
    """A change is over at the allocation, which holds `resources` now, for `price` micro-credits at most."""

    allocation_id: AllocationId
    number: int
    resources: Resources
    price: int


class OwnerSeen(Stimulus, frozen=True):
    """The machine is its owner's now, and why; or not any more (`because` empty).

    What runs gives way: it is evicted after `evict_after_ms` (0: at once), and then has `grace_ms` left at most.
    """

    because: str = ""
    evict_after_ms: int = 0
    grace_ms: int = 0


class AllocationOver(Stimulus, frozen=True):
    """An allocation ended; its capacity is free."""

    allocation_id: AllocationId


# ----------------------------------------------------------------------------------------------------------------- events


class CapabilityRegistered(Event, frozen=True):
    """This is what the node offers from now on."""

    capability: Capability


class PolicyChanged(Event, frozen=True):
    """These are the owner's conditions from now on."""

    policy: ProviderPolicy


class PressureChanged(Event, frozen=True):
    """Other programs use this much; bids leave it out."""

    pressure: Resources


class CreditChanged(Transient, frozen=True):
    """A peer may still come to owe this much. Not stored: the accounts say it again after a restart."""

    peer: PeerId
    credit: int


class StakesInherited(Transient, frozen=True):
    """What `old` has locked or running here counts as the stake of `new`. Not stored: who has a new name is said again after a restart."""

    old: PeerId
    new: PeerId


class WorkPaused(Event, frozen=True):
    """The node takes no new work; `stopping`: nor does it take commits to bids it made."""

    because: str
    stopping: bool = False


class PauseLifted(Event, frozen=True):
    """The owner resumed a node that is stopping: it will start open. Observation."""


class WorkResumed(Event, frozen=True):
    """The node takes work again."""


class OwnerCame(Event, frozen=True):
    """The machine is its owner's: what runs gives way, and nothing new is bid on. The rest as in `OwnerSeen`."""

    because: str
    evict_after_ms: int
    grace_ms: int
    at: int


class OwnerLeft(Event, frozen=True):
    """The owner does not need the machine any more."""

    at: int


class BidMade(Event, frozen=True):
    """A bid was made and its capacity locked. Of a bid for a part, `stands` is the request that still stands for the rest."""

    bid: Bid
    lock: CapabilityLock
    stands: BidRequest | None = None
    stands_until: int = 0
    rights: Rights | None = None


class BidOpened(Event, frozen=True):
    """A sealed bid of ours is on a list that `requester` has closed, and was opened. What it is paid has to follow from these `seals`."""

    bid_id: BidId
    seals: tuple[Digest, ...]
    requester: PeerId = PeerId("")


class RequestDeclined(Event, frozen=True):
    """A request was declined, with every reason. It stands until `stands_until` (0: it does not stand), with the rights that were shown.

    `held`: bytes of its data that were here.
    """

    requester: PeerId
    request: BidRequest
    clauses: tuple[Clause, ...]
    stands_until: int = 0
    rights: Rights | None = None
    held: int = 0


class RequestTurnedAway(Transient, frozen=True):
    """A request was declined of a requester that has no room left in the log budget. It does not stand; `RequestWithdrawn` follows if it did."""

    requester: PeerId
    request: BidRequest


class RequestWithdrawn(Event, frozen=True):
    """A standing request is over: its requester said so, or its time ran out."""

    request_id: RequestId
    requester: PeerId


class CapacityHeld(Event, frozen=True):
    """The owner holds capacity back: a lock without a bid."""

    lock: CapabilityLock


class LockReleased(Event, frozen=True):
    """A bid was not needed; its lock is gone."""

    bid_id: BidId


class LockExpired(Event, frozen=True):
    """A bid was not taken in time; its lock is gone."""

    bid_id: BidId


class BidCommitted(Event, frozen=True):
    """A bid was taken: its lock became these reservations. `terms`: what was agreed, as both sides have signed it."""

    bid_id: BidId
    requester: PeerId
    reservations: tuple[Reservation, ...]
    terms: Digest = Digest("")


class CommitTurnedDown(Event, frozen=True):
    """A commit was refused."""

    bid_id: BidId
    requester: PeerId
    refusal: CommitRefusal


class ReservationWidened(Event, frozen=True):
    """A change of an allocation's size is under way: it holds `resources`, the larger of before and after, until that is over."""

    allocation_id: AllocationId
    number: int
    terms: Digest
    resources: Resources
    price: int


class ReservationSettled(Event, frozen=True):
    """A change is over: the allocation holds `resources`, for `price` micro-credits at most."""

    allocation_id: AllocationId
    resources: Resources
    price: int


class CapacityFreed(Event, frozen=True):
    """An allocation's reservation is gone."""

    allocation_id: AllocationId


class LentFrozen(Event, frozen=True):
    """These have CPU that is lent to them, and stand still: it is needed."""

    allocation_ids: tuple[AllocationId, ...]


class LentThawed(Event, frozen=True):
    """There is room again for these."""

    allocation_ids: tuple[AllocationId, ...]


# ---------------------------------------------------------------------------------------------------------------- effects


class OpenAllocation(Effect, frozen=True):
    """Start the actor of a committed allocation, with its work if the commit carried it."""

    reservation: Reservation
    task: Task | None


class TellAllocation(Effect, frozen=True):
    """Tell an allocation of this node what is wished of it."""

    allocation_id: AllocationId
    wish: Stimulus


class ChangeSize(Effect, frozen=True):
    """Have an allocation change its size to `resources`; it answers."""

    change: Resize
    resources: Resources


# ------------------------------------------------------------------------------------------------------------------ state


class Taken(msgspec.Struct, frozen=True):
    """A bid that was committed: by whom, for what, under which terms."""

    requester: PeerId
    slots: tuple[int, ...]
    terms: Digest
    allocation_ids: tuple[AllocationId, ...]


class StandingRequest(msgspec.Struct, frozen=True):
    """A request that was declined for now, and the rights its requester has shown for it. `held`: bytes of its data that were here."""

    requester: PeerId
    request: BidRequest
    until: int
    rights: Rights | None = None
    held: int = 0


class Sealed(msgspec.Struct, frozen=True):
    """A bid of ours that was sealed. `seals`: the list on which it was opened; empty before."""

    bid: Bid
    seals: tuple[Digest, ...] = ()


Asking: TypeAlias = tuple[PeerId, RequestId]
"""A request and who made it: request ids are drawn by requesters, and a stranger may draw that of somebody else."""


class OfferBook(msgspec.Struct, frozen=True):
    """The provider's state.

    Attributes:
        me: this node.
        bid_validity_ms: how long a bid binds.
        invoke_within_ms: how long a committed allocation waits for its invocation.
        salts: for sealed bids.
        owner: how the owner came to have the machine now; None while it is free for others.
        capability: as registered; its resources are the ledger's `registered`.
        pressure: what other programs use beyond the allowance.
        default_credit: what a peer may come to owe of whom the accounts say nothing else.
        credit: what each peer may still come to owe beside what is at stake here.
        heirs: earlier names under which something is at stake here, each with the present name of its node.
        standing: requests declined for now, `rules.MAX_STANDING` at most.
        forgotten: how many stand no longer since there was no room for them.
        rounds: the last round answered.
        numbers: how many bids were made, by request.
        sealed: open bids whose terms were sealed.
        frozen: of those to whom CPU is lent, who stands still.
        committed: bids taken lately, with what became of them, so that a repeated commit gets the same answer.
    """

    me: PeerId
    bid_validity_ms: int = 10_000
    invoke_within_ms: int = 10_000
    salts: Salts = Salts()
    phase: BookPhase = BookPhase.OPEN
    paused_because: str = ""
    owner: OwnerCame | None = None
    capability: Capability = Capability()
    policy: ProviderPolicy = ProviderPolicy()
    ledger: Ledger = Ledger()
    pressure: Resources = NOTHING
    default_credit: int = NO_LIMIT
    credit: Mapping[PeerId, int] = {}
    heirs: Mapping[PeerId, PeerId] = {}
    standing: Mapping[Asking, StandingRequest] = {}
    forgotten: int = 0
    rounds: Mapping[Asking, int] = {}
    numbers: Mapping[RequestId, int] = {}
    sealed: Mapping[BidId, Sealed] = {}
    frozen: frozenset[AllocationId] = frozenset()
    committed: Mapping[BidId, Taken] = {}

    @property
    def free(self) -> Resources:
        """What can be offered now: available, less what other programs use."""
        return clamp_subtract(self.ledger.available, self.pressure)

    def credit_of(self, peer: PeerId) -> int:
        """What a peer may still come to owe, in micro-credits."""
        return self.credit.get(peer, self.default_credit)

    def credit_left(self, peer: PeerId) -> int:
        """The same, less what it will owe if everything it holds here runs to its limit."""
        names = names_of(self.heirs, peer)
        locked = sum(lock.stake for lock in self.ledger.locks.values() if lock.requester in names)
        running = sum(r.price for r in self.ledger.reservations.values() if r.requester in names)
        return self.credit_of(peer) - locked - running

    @property
    def at_stake(self) -> frozenset[PeerId]:
        """Who has something locked or running here."""
        locked = {lock.requester for lock in self.ledger.locks.values()}
        return frozenset(locked | {reservation.requester for reservation in self.ledger.reservations.values()})
