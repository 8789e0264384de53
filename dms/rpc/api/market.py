"""market.*, bids.*, requests.*: what was asked, offered and declined."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from dms.jobs.spec import JobSpec
from dms.rpc.api.allocations import Limit
from dms.rpc.registry import method
from dms_proto.capability import Capability, Price
from dms_proto.ids import BidId, PeerId, RequestId
from dms_proto.market.explain import Explanation
from dms_proto.market.price_history import PriceAdvice
from dms_proto.messages import Clause


class Direction(StrEnum):
    """Which way a message went."""

    SENT = "sent"
    RECEIVED = "received"
    BOTH = "both"


class BidState(StrEnum):
    """What became of a bid."""

    OPEN = "open"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"
    REFUSED = "refused"


class AskParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job to ask about.

    Attributes:
        spec: the job, as it would be submitted.
    """

    spec: JobSpec


class BidListParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which bids.

    Attributes:
        direction: made by this node, received by it, or both.
        request_id: only for this request (its id, or a unique beginning of it); empty for any.
        open_only: only those that can still be taken.
        limit: at most so many, newest first.
    """

    direction: Direction = Direction.BOTH
    request_id: str = ""
    open_only: bool = False
    limit: Limit = 100


class BidView(msgspec.Struct, frozen=True):
    """A bid.

    Attributes:
        bid_id: its id, and that of the capability lock behind it.
        request_id: what it answers.
        direction: sent or received.
        provider: who made it.
        requester: whom it was made to.
        slots: allocations it offers.
        price: micro-credits for one allocation run to its wall limit.
        tariff: prices that apply.
        offer: the machine behind it.
        at: Unix ms it was made or received.
        valid_until: Unix ms.
        state: what became of it.
        reason: why it was refused or released, where that is known.
    """

    bid_id: BidId
    request_id: RequestId
    direction: Direction
    provider: PeerId
    requester: PeerId
    slots: int
    price: int
    tariff: Price
    offer: Capability
    at: int
    valid_until: int
    state: BidState
    reason: str = ""


class BidList(msgspec.Struct, frozen=True):
    """Bids.

    Attributes:
        bids: newest first.
        total: how many match, shown or not.
    """

    bids: tuple[BidView, ...]
    total: int


class RequestListParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which bid requests.

    Attributes:
        direction: sent by this node, heard by it, or both.
        limit: at most so many, newest first.
    """

    direction: Direction = Direction.BOTH
    limit: Limit = 100


class RequestView(msgspec.Struct, frozen=True):
    """A bid request.

    Attributes:
        request_id: its id.
        direction: sent or received.
        requester: who asked.
        at: Unix ms it was sent or first heard.
        round: newest round.
        needs: what each allocation requires.
        count: allocations wanted.
        max_price: micro-credits for one allocation run to its wall limit.
        answer: heard: "bid", "declined", "standing" (declined for now, will bid when capacity frees) or "none"; sent: empty.
        clauses: why it was declined.
        outcome: heard and bid on: "won", "lost" or "open"; else empty.
    """

    request_id: RequestId
    direction: Direction
    requester: PeerId
    at: int
    round: int
    needs: Capability
    count: int
    max_price: int
    answer: str = ""
    clauses: tuple[Clause, ...] = ()
    outcome: str = ""


class RequestList(msgspec.Struct, frozen=True):
    """Bid requests.

    Attributes:
        requests: newest first.
        total: how many match, shown or not.
    """

    requests: tuple[RequestView, ...]
    total: int


class PriceSuggestParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the history.

    Attributes:
        days: how far back.
    """

    days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 30


class PriceSuggestion(msgspec.Struct, frozen=True):
    """What the node's own history says about its prices.

    Attributes:
        since: Unix ms from which requests were counted.
        present: the tariff in force.
        suggested: the tariff that `history` suggests; the present one where it says to stay.
        history: the figures behind it, in thousandths of the present tariff.
        is_cut: there were more requests than are looked at; the newest were.
    """

    since: int
    present: Price
    suggested: Price
    history: PriceAdvice
    is_cut: bool = False


class MarketMethods(Protocol):
    """The market as this node hears it."""

    @method("market.ask", mutates=True)
    async def market_ask(self, params: AskParams) -> Explanation:
        """Asks the market what it would answer to a job: nothing is locked, committed or remembered.

        Gives a verdict for every node known, those that cannot be reached included: the counts add up to them.
        """
        ...

    @method("bids.list")
    async def bids_list(self, params: BidListParams) -> BidList:
        """Bids made and received."""
        ...

    @method("requests.list")
    async def requests_list(self, params: RequestListParams) -> RequestList:
        """Bid requests sent and heard, and how this node answered."""
        ...

    @method("price.suggest")
    async def price_suggest(self, params: PriceSuggestParams) -> PriceSuggestion:
        """What this node's own history suggests for its prices: quartiles of what requesters would have paid, and what was lost on price."""
        ...
