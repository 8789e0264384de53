"""A bid as the ranking sees it: what the provider said, and what the requester itself knows of the provider and the way to it."""

from __future__ import annotations

import msgspec

from dms_proto.capability import Capability, Price
from dms_proto.ids import BidId, PeerId
from dms_proto.messages import Bid
from dms_proto.reputation import FULL, NEWCOMER
from dms_proto.reputation.silence import SetAside
from dms_proto.reputation.sources import UNKNOWN


class BidderFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the requester itself knows of a bidder; goes into the ranking and is stored with it. `standing`, `source`, `streak`: see `reputation`.

    `aside`: it was silent lately when it had won; it is taken where there is no other (`reputation.silence`).
    `doubt`: how much better it may stand than is known yet, in millionths.
    `at_work`, `chance`: see `workload`, which keeps them as they are.
    `answers_ms`: how long to wait for its answer to a commit; 0: not known (`reputation.answer_times`).
    """

    rtt_us: int = 0
    relayed: bool = False
    own: bool = False
    successes: int = 0
    failures: int = 0
    standing: int = NEWCOMER
    source: str = UNKNOWN
    streak: int = 0
    aside: SetAside | None = None
    doubt: int = FULL - NEWCOMER
    at_work: int = 0
    chance: int = 0
    answers_ms: int = 0

    @property
    def is_newcomer(self) -> bool:
        """Whether it has finished nothing for this requester yet, and is not its owner's."""
        return not self.successes and not self.own


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """One bid to be ranked.

    Attributes:
        bid_id: the bid.
        provider: who made it.
        offer: what the machine has for the job; its resources are what was free when it bid, this bid's capability lock included.
        tariff: the prices that apply.
        price: micro-credits for one allocation run to its wall limit, as the bid states it.
        slots: how many allocations it has room for.
        rtt_us: measured round trip; 0 when not measured.
        relayed: whether the way goes through a relay.
        own: whether the machine belongs to the requester.
        successes: allocations of this requester that ended well there or failed by the job's own doing.
        failures: those that failed by the node's doing.
        standing: the requester's score of the provider, millionths: see `reputation`.
        held: bytes of the request's data that are there already, as the bid states it.
        at_work: allocations of this requester that were under way there when it decided.
        chance: how much of what is not known of the provider is not held against it, millionths: see `workload`.
    """

    bid_id: BidId
    provider: PeerId
    offer: Capability
    tariff: Price
    price: int
    slots: int = 1
    rtt_us: int = 0
    relayed: bool = False
    own: bool = False
    successes: int = 0
    failures: int = 0
    standing: int = NEWCOMER
    held: int = 0
    at_work: int = 0
    chance: int = 0


def candidate_of(provider: PeerId, bid: Bid, facts: BidderFacts) -> Candidate:
    """What is ranked of a bid."""
    return Candidate(
        bid_id=bid.bid_id,
        provider=provider,
        offer=bid.offer,
        tariff=bid.tariff,
        price=bid.price,
        slots=bid.slots,
        rtt_us=facts.rtt_us,
        relayed=facts.relayed,
        own=facts.own,
        successes=facts.successes,
        failures=facts.failures,
        standing=facts.standing,
        held=bid.held,
        at_work=facts.at_work,
        chance=facts.chance,
    )
