"""Token buckets: how much of each class of message a peer may send. Pure: the time comes in, nothing is scheduled.

A bucket holds up to `burst` tokens and gains `per_second`; a message takes one. A flood from one peer empties that peer's bucket and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from enum import StrEnum
from typing import Final, Generic, TypeVar

import msgspec

from dms_proto.units import SECOND

K = TypeVar("K", bound=Hashable)


class KindClass(StrEnum):
    """What a message costs its receiver, roughly: kinds that share a bucket.

    The peer that *delivers* a frame pays, since the author is unproven before the signature is checked; of gossip the author pays too, once proven.
    """

    REQUEST = "request"
    """Bid requests sent directly: each is judged against all that this node offers, answered, and written down."""
    MARKET = "market"
    """Bids, commits, invocations and their answers."""
    STREAM = "stream"
    """Status and logs of running allocations, and who has what they read."""
    MEMBERSHIP = "membership"
    """Hello, Probe, Refusal, Iou, grants that are renewed, who shares a dataset, sizes that change, tabs of calls: what is said now and
    then."""
    GOSSIP_FORWARDED = "gossip_forwarded"
    """Gossip as handed on by a neighbour, whoever wrote it."""
    GOSSIP_AUTHORED = "gossip_authored"
    """Gossip as written by its author, whoever handed it on."""
    INTRODUCTION = "introduction"
    """Gossip of an author not heard of lately: keeps one neighbour from filling the replay window with invented authors."""

    ANSWER = "answer"
    """Refused frames of a peer that are answered with a `Refusal`."""


_STREAM_KINDS: Final = ("AllocationStatus", "AllocationMessage", "HoldersWanted", "Holders", "Serve")
_MEMBERSHIP_KINDS: Final = (
    *("Hello", "Probe", "Refusal", "Iou"),
    *("GrantWanted", "GrantGiven", "DatasetWanted", "DatasetHeld"),
    *("Resize", "Resized"),
    *("TabWanted", "TabStated", "TabSigned"),
)
_CLASSES: Final = {
    "BidRequest": KindClass.REQUEST,
    **dict.fromkeys(_STREAM_KINDS, KindClass.STREAM),
    **dict.fromkeys(_MEMBERSHIP_KINDS, KindClass.MEMBERSHIP),
}


def kind_class(kind: str) -> KindClass:
    """The class of a kind sent directly."""
    return _CLASSES.get(kind, KindClass.MARKET)


class Limit(msgspec.Struct, frozen=True):
    """Messages a second in the long run, and at once after a quiet time. Both at least 1."""

    per_second: int
    burst: int


DEFAULT_LIMITS: Final[dict[KindClass, Limit]] = {
    # A requester that runs 300 jobs a second sends one provider about 1,500 messages of the market, 300 of them requests, and gets 900 of a stream.
    KindClass.REQUEST: Limit(300, 100),  # at once it is less than a tenth of a second's work for its receiver
    KindClass.MARKET: Limit(3_000, 6_000),
    KindClass.STREAM: Limit(2_000, 4_000),
    KindClass.MEMBERSHIP: Limit(20, 100),
    KindClass.GOSSIP_FORWARDED: Limit(1_000, 2_000),
    KindClass.GOSSIP_AUTHORED: Limit(500, 1_000),
    # Within the life of a gossiped envelope (2 minutes with both skews) one neighbour introduces at most 800 authors of a window's 4,096.
    KindClass.INTRODUCTION: Limit(5, 200),
    KindClass.ANSWER: Limit(1, 20),
}


SOURCE_PEERS_BY_CLASS: Final[dict[KindClass, int]] = {
    KindClass.REQUEST: 2,
    KindClass.MARKET: 2,
    KindClass.STREAM: 2,
    KindClass.MEMBERSHIP: 8,  # the nodes of a house, or of a lab, start together
    KindClass.GOSSIP_FORWARDED: 2,
    KindClass.GOSSIP_AUTHORED: 2,
    KindClass.INTRODUCTION: 4,
    KindClass.ANSWER: 8,
}
"""A source may send as much as this many peers at their limit: more than a few honest ones do, less than a crowd of identities could."""
SOURCE_LIMITS: Final = {
    of: Limit(limit.per_second * SOURCE_PEERS_BY_CLASS[of], limit.burst * SOURCE_PEERS_BY_CLASS[of])
    for of, limit in DEFAULT_LIMITS.items()
}


class TokenBucket:
    """One bucket. Full when made."""

    __slots__ = ("_at", "_burst", "_gain", "_level")

    def __init__(self, limit: Limit, now: int) -> None:
        """`now` in Unix ms."""
        self._gain = limit.per_second  # thousandths of a token per millisecond
        self._burst = limit.burst * SECOND
        self._level = self._burst
        self._at = now

    def take(self, now: int, cost: int = 1) -> bool:
        """Takes `cost` tokens if they are there. A clock that went back gains nothing and loses nothing."""
        self._refill(now)
        if self._level < cost * SECOND:
            return False
        self._level -= cost * SECOND
        return True

    def has(self, now: int) -> bool:
        """Whether a token is there."""
        self._refill(now)
        return self._level >= SECOND

    def spend(self, now: int, cost: int) -> None:
        """Takes `cost` tokens, also those that are not there: the debt is gained back first."""
        self._refill(now)
        self._level -= cost * SECOND

    def used(self, now: int) -> int:
        """How many tokens it lacks to be full, what it owes included."""
        self._refill(now)
        return -(-(self._burst - self._level) // SECOND)

    def is_full(self, now: int) -> bool:
        """Whether it could be forgotten without giving anything away."""
        self._refill(now)
        return self._level == self._burst

    def is_emptier_than(self, other: TokenBucket) -> bool:
        """Whether less is left in it, at the later of the times at which both were looked at."""
        now = max(self._at, other._at)
        self._refill(now)
        other._refill(now)
        return self._level < other._level

    def _refill(self, now: int) -> None:
        self._level = min(self._burst, self._level + max(0, now - self._at) * self._gain)
        self._at = now


class Buckets(Generic[K]):
    """Buckets by key, in bounded memory: one is forgotten only when it is full again.

    One table per receiving machine; not shared between threads.
    """

    def __init__(self, limit_of: Callable[[K], Limit], *, most: int = 8_192) -> None:
        """`limit_of` gives the limit of a key's bucket. `most` buckets at a time, at least 1."""
        self._limit_of = limit_of
        self._most = most
        self._buckets: dict[K, TokenBucket] = {}
        self._next_sweep = 0

    def get(self, key: K, now: int) -> TokenBucket | None:
        """The bucket of `key` at `now` (Unix ms). None: it has none, and there is no room until another one is full again."""
        bucket = self._buckets.get(key)
        if bucket is None and self._has_room(now):
            bucket = self._buckets[key] = TokenBucket(self._limit_of(key), now)
        return bucket

    def used(self, now: int) -> dict[K, int]:
        """What each bucket lacks that is not full: with `use`, enough to make the same table again."""
        lacking = ((key, bucket.used(now)) for key, bucket in self._buckets.items())
        return {key: used for key, used in lacking if used}

    def use(self, used: Mapping[K, int], now: int) -> None:
        """Takes from the buckets what was used of them at `now`, as far as there is room for them."""
        for key, cost in used.items():
            if (bucket := self.get(key, now)) is not None:
                bucket.spend(now, cost)

    def rename(self, old: K, new: K) -> None:
        """The bucket of `old`, if there is one, is that of `new` from now on, unless that has an emptier one of its own."""
        if (bucket := self._buckets.pop(old, None)) is not None:
            own = self._buckets.get(new)
            self._buckets[new] = bucket if own is None or bucket.is_emptier_than(own) else own

    def __len__(self) -> int:
        return len(self._buckets)

    def _has_room(self, now: int) -> bool:
        if len(self._buckets) >= self._most and (now >= self._next_sweep or now < self._next_sweep - SECOND):
            self._next_sweep = now + SECOND  # a sweep walks all buckets: not for every frame of a flood
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.is_full(now)}
        return len(self._buckets) < self._most


class ClassBuckets(Generic[K]):
    """How much of each class of message each peer may send; or, with `SOURCE_LIMITS`, all peers of each source."""

    def __init__(self, limits: dict[KindClass, Limit] | None = None, *, max_buckets: int = 8_192) -> None:
        """`limits` replace the defaults class by class. `max_buckets`: past it, whoever has none is refused until one is full again."""
        by_class = {**DEFAULT_LIMITS, **(limits or {})}
        self._buckets: Buckets[tuple[K, KindClass]] = Buckets(lambda key: by_class[key[1]], most=max_buckets)

    def take(self, who: K, kind_class: KindClass, now: int) -> bool:
        """Whether `who` may send one more of `kind_class` at `now` (Unix ms); counts it if so."""
        bucket = self._buckets.get((who, kind_class), now)
        return bucket is not None and bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)
