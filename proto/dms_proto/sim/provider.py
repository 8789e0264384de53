"""One offer book, driven by hand against requesters that say what the test says. Peers are any strings."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dms_proto import ids
from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, JobClass, Price, Resources
from dms_proto.ids import BidId, Digest, PeerId, RequestId
from dms_proto.market import offer_book, offer_fold
from dms_proto.market.agreement import agreement_on, terms_digest
from dms_proto.market.offer_state import (
    CapabilityMeasured,
    ClosingHeard,
    CommitHeard,
    OfferBook,
    OpenAllocation,
    PolicyWished,
    ReleaseHeard,
    RequestHeard,
)
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.market.second_price import Salts
from dms_proto.messages import Award, Bid, BidRequest, Closing, Commit, Decline, Release, SealedBid
from dms_proto.sim.driven import Driven
from dms_proto.units import CORE, CREDIT, GIB, HOUR, MINUTE
from dms_proto.work import Limits, Task

ME: Final = PeerId("provider")
TARIFF: Final = Price(start=10, cpu_core_hour=6_000)
MACHINE: Final = Capability(
    resources=Resources(4 * CORE, 8 * GIB),
    architecture="x86_64",
    cpu_score=1_000,
    executors=(ExecutorOffer("sandbox", "1", Isolation.NAMESPACES),),
    max_wall_ms=HOUR,
)
TASK: Final = Task("sandbox", ("true",), resources=Resources(CORE, GIB), limits=Limits(wall_ms=10 * MINUTE))


def request_id(name: str) -> RequestId:
    """The id of the request that a test calls `name`."""
    return ids.request_id(name.encode().ljust(16, b"."))


def request(
    name: str = "r", *, cores: int = 1, gpus: tuple[Gpu, ...] = (), kind: JobClass | None = None, **changed: Any
) -> BidRequest:
    """A request for one allocation of `cores`, of a class where one is given, with anything changed."""
    needs = Capability(
        resources=Resources(cores * CORE, GIB, 0, gpus),
        relayed=True,
        max_wall_ms=10 * MINUTE,
        job_classes=() if kind is None else (kind,),
    )
    told: dict[str, Any] = {
        "request_id": request_id(name),
        "round": 0,
        "needs": needs,
        "count": 1,
        "bids_wanted": 3,
        "reach": 2**32,
        "max_price": CREDIT,
        "wait_ms": 250,
        "stands_ms": 60_000,
    }
    return BidRequest(**(told | changed))


class Provider(Driven[OfferBook]):
    """The provider's side of the market."""

    def __init__(self, capability: Capability = MACHINE, policy: ProviderPolicy | None = None) -> None:
        super().__init__(
            offer_book.decide,
            offer_fold.evolve,
            offer_book.next_deadline,
            OfferBook(ME, salts=Salts(b"of the provider")),
        )
        self.asked: dict[RequestId, BidRequest] = {}
        self.tell(PolicyWished(policy or ProviderPolicy(tariff=TARIFF)))
        self.tell(CapabilityMeasured(capability))

    def hears(self, heard: BidRequest, requester: str = "a") -> Bid | Decline | None:
        """A request is heard; gives the answer to it."""
        self.asked[heard.request_id] = heard
        self.tell(RequestHeard(PeerId(requester), heard))
        answers: list[Bid | Decline] = [*self.sent(Bid, PeerId(requester)), *self.sent(Decline, PeerId(requester))]
        return answers[0] if answers else None

    def bids(self, heard: BidRequest, requester: str = "a") -> Bid:
        """A request is heard that is bid on."""
        answer = self.hears(heard, requester)
        assert isinstance(answer, Bid), answer
        return answer

    def declines(self, heard: BidRequest, requester: str = "a") -> Decline:
        """A request is heard that is declined."""
        answer = self.hears(heard, requester)
        assert isinstance(answer, Decline), answer
        return answer

    def seals(self, heard: BidRequest, requester: str = "a") -> SealedBid:
        """A request for a second price is heard, and bid on."""
        assert self.hears(heard, requester) is None
        (sealed,) = self.sent(SealedBid, PeerId(requester))
        return sealed

    def is_closed(self, sealed: SealedBid, *others: Digest, requester: str = "a", listed: bool = True) -> list[Bid]:
        """A list of seals is heard, this bid's among them or not; gives what was opened."""
        seals = tuple(sorted({*others, *((sealed.seal,) if listed else ())}))
        self.tell(ClosingHeard(PeerId(requester), Closing(sealed.request_id, sealed.round, seals)))
        return self.sent(Bid, PeerId(requester))

    def commits(
        self,
        bid: Bid,
        requester: str = "a",
        slots: tuple[int, ...] = (0,),
        tasks: tuple[Task, ...] = (),
        award: Award | None = None,
        **agreed: Any,
    ) -> list[OpenAllocation]:
        """A commit is heard, under the terms of the bid but for what is `agreed` otherwise; gives the allocations it opened."""
        self.tell(CommitHeard(PeerId(requester), self.commit_of(bid, requester, slots, tasks, award, **agreed)))
        return self.wanted(OpenAllocation)

    def commit_of(
        self,
        bid: Bid,
        requester: str = "a",
        slots: tuple[int, ...] = (0,),
        tasks: tuple[Task, ...] = (),
        award: Award | None = None,
        **agreed: Any,
    ) -> Commit:
        """A commit under the terms of the bid but for what is `agreed` otherwise."""
        needs = self.asked[bid.request_id].needs
        meant = agreement_on(bid, needs, PeerId(requester), self.state.me, slots, award=award)
        terms = terms_digest(msgspec.structs.replace(meant, **agreed))
        return Commit(bid.request_id, bid.bid_id, slots, tasks, terms=terms, award=award)

    def is_released(self, bid: Bid, requester: str = "a", bid_id: BidId | None = None) -> None:
        """A release is heard."""
        released = bid.bid_id if bid_id is None else bid_id
        self.tell(ReleaseHeard(PeerId(requester), Release(bid.request_id, released)))

    def check(self) -> None:
        """The capacity law holds."""
        self.state.ledger.check()
