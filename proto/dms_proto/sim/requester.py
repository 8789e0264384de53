"""One auction, driven by hand against providers that say what the test says. Peers are any strings."""

from __future__ import annotations

from typing import Any, Final

from dms_proto import ids
from dms_proto.capability import Capability, Price, Resources
from dms_proto.ids import AllocationId, BidId, Digest, PeerId
from dms_proto.market import auction, auction_fold
from dms_proto.market.auction_effects import Announce
from dms_proto.market.auction_state import Auction
from dms_proto.market.auction_stimuli import (
    Announced,
    BidHeard,
    Collected,
    CommitAcked,
    CommitTurnedAway,
    DeclineHeard,
    SealHeard,
    StatusHeard,
    Submitted,
)
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.offer_seals import sealed
from dms_proto.messages import AllocationStatus, Bid, Clause, CommitAck, CommitRefusal, CommitRefused, Decline, Phase
from dms_proto.sim.driven import Driven
from dms_proto.units import CORE, GIB, MINUTE
from dms_proto.work import Ending, EndReason, Limits, Output, Task, Usage

ME: Final = PeerId("me")
REQUEST: Final = ids.request_id(b"one request of tests")
NEEDS: Final = Capability(resources=Resources(CORE, GIB), relayed=True, max_wall_ms=10 * MINUTE)
OFFER: Final = Capability(resources=Resources(8 * CORE, 16 * GIB), architecture="x86_64", cpu_score=1_000)
BUSY: Final = (Clause("cpu", "1 core", "0 cores free of 4", "", passing=True),)
NEVER: Final = (Clause("gpu_count", "1 GPU", "0 GPUs", "gpus 0"),)
DEAR: Final = (Clause("price", "0.01 credits", "0.02 credits", "max price 0.02"),)

UNWELCOME: Final = (Clause("policy", "requester.own", "false", ""),)


def terms(**changed: Any) -> Terms:
    """What is submitted, with anything changed."""
    defaults: dict[str, Any] = {
        "request_id": REQUEST,
        "requester": ME,
        "task": Task("sandbox", ("true",), resources=NEEDS.resources, limits=Limits(wall_ms=10 * MINUTE)),
        "needs": NEEDS,
        "max_price": 1_000,
        "bids_wanted": 2,
    }
    return Terms(**(defaults | changed))


class Requester(Driven[Auction]):
    """The requester's side of one request."""

    def __init__(self, **changed: Any) -> None:
        super().__init__(auction.decide, auction_fold.evolve, auction.next_deadline, Auction())
        self.terms = terms(**changed)

    def submit(self, *asked: str, gossip: bool = False, known: int | None = None) -> Requester:
        """Submits and, with peers given, announces the first round to them."""
        self.tell(Submitted(self.terms))
        return self.asks(*asked, gossip=gossip, known=known) if asked or gossip else self

    def asks(self, *peers: str, gossip: bool = False, known: int | None = None) -> Requester:
        """The shell announced the round that is called."""
        asked = tuple(map(PeerId, peers))
        self.tell(Announced(self.state.round + 1, asked, gossip, len(asked) if known is None else known))
        return self

    def called(self) -> list[int]:
        """The rounds called by the last step."""
        return [effect.request.round for effect in self.wanted(Announce)]

    def wanted_reach(self) -> int:
        """The reach of the round called by the last step."""
        return self.wanted(Announce)[-1].request.reach

    def bid(self, peer: str, number: int = 0, **changed: Any) -> BidId:
        """A bid is heard."""
        facts = changed.pop("facts", BidderFacts())
        bid = self.made(peer, number, **changed)
        self.tell(BidHeard(PeerId(peer), bid, facts))
        return ids.bid_id(REQUEST, PeerId(peer), number)

    def made(self, peer: str, number: int = 0, *, price: int = 100, salt: bytes = b"", **changed: Any) -> Bid:
        """A bid as this peer would make it now."""
        told: dict[str, Any] = {
            "request_id": REQUEST,
            "round": max(self.state.round, 0),
            "number": number,
            "bid_id": ids.bid_id(REQUEST, PeerId(peer), number),
            "offer": OFFER,
            "slots": 1,
            "tariff": Price(start=price),
            "price": price,
            "valid_until": self.now + 10_000,
            "valid_ms": 10_000,
            "salt": salt,
        }
        return Bid(**(told | changed))

    def seals(self, peer: str, number: int = 0, **changed: Any) -> Bid:
        """A sealed bid is heard; gives the bid in it."""
        facts = changed.pop("facts", BidderFacts())
        bid = self.made(peer, number, salt=peer.encode(), **changed)
        told = sealed(bid, PeerId(peer), self.terms.max_price)
        self.tell(SealHeard(PeerId(peer), told, facts))
        return bid

    def opens(self, peer: str, bid: Bid) -> None:
        """A bid that was sealed, or not, is heard."""
        self.tell(BidHeard(PeerId(peer), bid, BidderFacts()))

    def declines(self, peer: str, clauses: tuple[Clause, ...] = BUSY, round_: int | None = None) -> None:
        """A decline is heard."""
        round_ = self.state.round if round_ is None else round_
        self.tell(DeclineHeard(PeerId(peer), Decline(REQUEST, round_, clauses)))

    def acks(self, peer: str, bid_id: BidId, terms: Digest | None = None) -> None:
        """A commit is acknowledged; under the terms of the commit unless others are given."""
        slots = self.state.bids[bid_id].slots if bid_id in self.state.bids else (0,)
        allocations = tuple(self.terms.allocation_of(bid_id, slot) for slot in slots)
        ours = (slot.terms for slot in self.state.slots if slot.bid_id == bid_id)
        agreed = next(ours, Digest("")) if terms is None else terms
        self.tell(CommitAcked(PeerId(peer), CommitAck(REQUEST, bid_id, allocations, terms=agreed)))

    def refuses(
        self, peer: str, bid_id: BidId, refusal: CommitRefusal = CommitRefusal.STOPPING, detail: str = ""
    ) -> None:
        """A commit is refused."""
        self.tell(CommitTurnedAway(PeerId(peer), CommitRefused(REQUEST, bid_id, refusal, detail)))

    def reports(self, peer: str, allocation: AllocationId, phase: Phase, **told: Any) -> None:
        """A status is heard."""
        complete = told.pop("complete", True)
        number = list(Phase).index(phase)
        status = AllocationStatus(REQUEST, allocation, told.pop("number", number), phase, **told)
        self.tell(StatusHeard(PeerId(peer), status, complete))

    def ends(
        self,
        peer: str,
        allocation: AllocationId,
        reason: EndReason = EndReason.COMPLETED,
        *,
        price: int = 50,
        outputs: tuple[Output, ...] = (),
        complete: bool = True,
        code: int = 1,
    ) -> None:
        """An ending is heard; `code`: its exit code, unless it is completed."""
        usage = Usage(wall_ms=1_000)
        code = 0 if reason is EndReason.COMPLETED else code
        told = {"ending": Ending(reason, code, usage=usage), "usage": usage, "price": price, "outputs": outputs}
        self.reports(peer, allocation, Phase.ENDED, complete=complete, **told)

    def collects(self, allocation: AllocationId, failed: str = "", *, ours: bool = False) -> None:
        """The results are here, or cannot be had; `ours`: through this node's own fault."""
        self.tell(Collected(allocation, failed, ours))

    def hold(self, *peers: str, **bids: Any) -> AllocationId:
        """Bids of all peers are heard, the winner acknowledges. Gives the allocation of the first slot."""
        if self.state.round < 0 or not self.state.asked:
            self.submit(*peers)
        for peer in peers:
            self.bid(peer, **bids)
        return self.acknowledged()

    def acknowledged(self) -> AllocationId:
        """Whoever was awarded the first slot acknowledges."""
        slot = self.state.slots[0]
        self.acks(slot.provider, slot.bid_id)
        return self.state.slots[0].allocation_id

    @property
    def winner(self) -> PeerId:
        """Who has, or is being given, the first slot."""
        return self.state.slots[0].provider

    @property
    def reason(self) -> EndReason | None:
        """How it ended."""
        return self.state.ending.reason if self.state.ending is not None else None
