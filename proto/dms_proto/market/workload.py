"""What all requests of this node together have under way, provider by provider: of providers as good as equal the one with least of it is taken.

::

    requests ── their allocations, from the award to the end ──▶ Workload ──▶ facts of each bidder, as they are when a request decides
                                                                    ├── `at_work`: how many of them are there
                                                                    └── `chance`: how much of what is not known of it is not held against it

A provider that was just chosen is better known for it, and would be chosen again: the first to be chosen would get nearly everything. So what is
merely not known of a provider is not held against it while this node wants more than one thing done: of many one is soon tried elsewhere. Newcomers,
which cost nothing to make up, together get no more than those that have kept their word, and those of one public source one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from dms_proto.ids import PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.market.auction_state import Auction, AuctionPhase, SlotPhase
from dms_proto.market.auction_stimuli import BidHeard
from dms_proto.market.candidates import BidderFacts
from dms_proto.reputation.sources import PRIVATE, UNKNOWN, place_of

_UNDER_WAY: Final = (SlotPhase.COMMITTING, SlotPhase.HELD)
_NO_CROWD: Final = (UNKNOWN, PRIVATE)
change = msgspec.structs.replace


class _Piece(NamedTuple):
    """One allocation under way. `crowd`: the public source that its provider, a newcomer, shares with others; else empty."""

    provider: PeerId
    is_newcomer: bool
    crowd: str


class Workload:
    """One per node. Not shared between threads."""

    def __init__(self) -> None:
        self._open: set[RequestId] = set()
        self._of: dict[RequestId, tuple[_Piece, ...]] = {}
        self._at: Counter[PeerId] = Counter()
        self._crowds: Counter[str] = Counter()
        self._newcomers = 0
        self._total = 0

    def note(self, request_id: RequestId, auction: Auction) -> None:
        """What a request has at work now; nothing, when it is over."""
        (self._open.add if auction.phase is AuctionPhase.OPEN else self._open.discard)(request_id)
        pieces = tuple(_under_way(auction))
        before = self._of.get(request_id, ())
        if pieces == before:
            return
        self._count(before, -1)
        self._count(pieces, +1)
        if pieces:
            self._of[request_id] = pieces
        else:
            self._of.pop(request_id, None)

    def forget(self, request_id: RequestId) -> None:
        """A request is no longer there."""
        self._open.discard(request_id)
        self._count(self._of.pop(request_id, ()), -1)

    def at(self, provider: PeerId) -> int:
        """Allocations under way at a provider."""
        return self._at[provider]

    def informed(self, auction: Auction, stimulus: Stimulus) -> tuple[Auction, Stimulus]:
        """A request and what it meets, with the facts of each bidder as they are now."""
        if auction.terms is None:
            return auction, stimulus
        is_one_of_many = self._has_others(auction.terms.request_id) or len(auction.slots) > 1
        fresh = {
            bid_id: change(bid, facts=facts)
            for bid_id, bid in auction.bids.items()
            if (facts := self._facts(bid.provider, bid.facts, is_one_of_many)) is not bid.facts
        }
        if fresh:
            auction = change(auction, bids={**auction.bids, **fresh})
        if isinstance(stimulus, BidHeard):
            facts = self._facts(stimulus.provider, stimulus.facts, is_one_of_many)
            stimulus = BidHeard(stimulus.provider, stimulus.bid, facts)
        return auction, stimulus

    def _has_others(self, request_id: RequestId) -> bool:
        return len(self._open) > (request_id in self._open)

    def _facts(self, provider: PeerId, facts: BidderFacts, is_one_of_many: bool) -> BidderFacts:
        """The same object where nothing has changed."""
        at_work = self._at[provider]
        chance = facts.doubt if is_one_of_many and self._may_try(facts) else 0
        if (at_work, chance) == (facts.at_work, facts.chance):
            return facts
        return change(facts, at_work=at_work, chance=chance)

    def _may_try(self, facts: BidderFacts) -> bool:
        if not facts.is_newcomer:
            return True
        return 2 * self._newcomers < self._total and not self._crowds[_crowd(facts.source)]

    def _count(self, pieces: tuple[_Piece, ...], by: int) -> None:
        for piece in pieces:
            self._at[piece.provider] += by
            if not self._at[piece.provider]:
                del self._at[piece.provider]
            self._newcomers += by * piece.is_newcomer
            if piece.crowd:
                self._crowds[piece.crowd] += by
        self._total += by * len(pieces)


def _under_way(auction: Auction) -> Iterator[_Piece]:
    for slot in auction.slots:
        if slot.phase in _UNDER_WAY:
            yield _Piece(slot.provider, slot.is_newcomer, _crowd(slot.source) if slot.is_newcomer else "")


def _crowd(source: str) -> str:
    place = place_of(source)
    return "" if place in _NO_CROWD else place
