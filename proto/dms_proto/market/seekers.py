"""Which requests of this node seek at a time: providers remember only so many, and forget the rest.

::

    submitted ──▶ waits for its turn ──▶ seeks: it is asked for, and stands where it is declined ──▶ has a provider for every slot
                     ▲      └── at once, while there is room for its kind                                │  the next one's turn
                     └────────────────────── slots come back: older than the others, it is next ◀────────┘

In order: what is not offline before what is, then by priority, then by age. A kind that finds no room in the market keeps no other from seeking:
of one there are at most SHARE times as many as may still begin, so another can (the dynamic threshold of Choudhury and Hahne, 1998).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import msgspec

from dms_proto.ids import RequestId
from dms_proto.market.auction_reading import pending, seeking
from dms_proto.market.auction_state import Auction, AuctionPhase, SearchPhase, terms_of
from dms_proto.market.offer_lending import is_offline

SHARE: Final = 4
"""Of one kind there are so many for each that may still begin: four fifths of all while there is no other kind."""

Kind: TypeAlias = bytes
"""What requests have in common that stand in each other's way: who can take them, and their priority."""


class Place(NamedTuple):
    """Where a request is in the order. `since`: Unix ms at which it was submitted."""

    is_offline: bool
    rank: int
    since: int
    request_id: RequestId


class Seekers:
    """One per node. Not shared between threads. `most`: how many requests seek at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seeking: dict[RequestId, Kind] = {}
        self._taken: Counter[Kind] = Counter()
        self._waiting: dict[RequestId, tuple[Kind, Place]] = {}
        self._queues: dict[Kind, list[Place]] = {}

    def resume(self, request_id: RequestId, auction: Auction) -> None:
        """This node has started again: a request that was seeking goes on. To be said of all before any of them is noted."""
        if _seeks(auction) and auction.search is not SearchPhase.CALLED:
            self._begin(request_id, kind_of(auction))

    def note(self, request_id: RequestId, auction: Auction) -> tuple[RequestId, ...]:
        """Where a request is now. Gives those whose turn has come by that, itself perhaps among them."""
        if not _seeks(auction):
            return self.forget(request_id)
        if request_id in self._seeking or request_id in self._waiting:
            return ()
        self._queue(kind_of(auction), place_of(auction))
        return tuple(self._advance())

    def forget(self, request_id: RequestId) -> tuple[RequestId, ...]:
        """A request seeks no more. Gives those whose turn has come by that."""
        self._leave(request_id)
        return tuple(self._advance())

    def ahead(self, request_id: RequestId) -> int | None:
        """How many of those that wait are before a request; None: it does not wait for its turn."""
        if request_id not in self._waiting:
            return None
        place = self._waiting[request_id][1]
        return sum(bisect_left(queue, place) for queue in self._queues.values())

    def waiting(self) -> dict[RequestId, int]:
        """Those that wait, in order, each with how many are before it."""
        places = sorted(place for _, place in self._waiting.values())
        return {place.request_id: number for number, place in enumerate(places)}

    def __len__(self) -> int:
        return len(self._seeking)

    def _advance(self) -> Iterator[RequestId]:
        while heads := [(queue[0], kind) for kind, queue in self._queues.items() if self._has_room(kind)]:
            place, kind = min(heads)
            self._leave(place.request_id)
            self._begin(place.request_id, kind)
            yield place.request_id

    def _has_room(self, kind: Kind) -> bool:
        return self._taken[kind] < SHARE * (self._most - len(self._seeking))

    def _begin(self, request_id: RequestId, kind: Kind) -> None:
        self._seeking[request_id] = kind
        self._taken[kind] += 1

    def _queue(self, kind: Kind, place: Place) -> None:
        self._waiting[place.request_id] = kind, place
        insort(self._queues.setdefault(kind, []), place)

    def _leave(self, request_id: RequestId) -> None:
        if (kind := self._seeking.pop(request_id, None)) is not None:
            self._taken[kind] -= 1
            self._taken += Counter()  # without those at zero
        if (waited := self._waiting.pop(request_id, None)) is not None:
            kind, place = waited
            queue = self._queues[kind]
            del queue[bisect_left(queue, place)]
            if not queue:
                del self._queues[kind]


def turn_in_words(ahead: int) -> str:
    """What a request waits for that has so many before it."""
    return f"waits for its turn: {ahead} of this node's jobs {'is' if ahead == 1 else 'are'} before it"


def _seeks(auction: Auction) -> bool:
    """Whether a request may stand somewhere: it looks for a provider, or for one that was chosen to say so."""
    return auction.phase is AuctionPhase.OPEN and bool(seeking(auction) or pending(auction))


def kind_of(auction: Auction) -> Kind:
    """Which requests stand in each other's way."""
    terms = terms_of(auction)
    return msgspec.msgpack.encode((terms.needs, terms.only, terms.priority))


def place_of(auction: Auction) -> Place:
    """Where a request is in the order of those that wait."""
    terms = terms_of(auction)
    return Place(is_offline(terms.needs), -terms.priority, auction.opened_at, terms.request_id)
