"""The log budget: how many bytes strangers can make a node write into its event store, one of them, those of one source, and all of them. Pure.

An event store keeps everything for ever, so what others cause of it is metered in bytes as it is written. Three token buckets are asked before a
stranger is heard on anything that may be written, and all three pay afterwards what it came to. A bucket may go into debt, since a promise once made
is kept: whoever is in debt waits until it is gained back. Over any time *t* a bucket lets no more through than its burst, its rate times *t*, and
what one message and the bids that were open then lead to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from dms_proto.ids import PeerId
from dms_proto.units import GIB, HOUR, SECOND
from dms_proto.wire.buckets import Buckets, Limit, TokenBucket

PER_DAY_BYTES: Final = GIB
"""What all strangers together can have written in a day, unless the owner says otherwise."""
SOURCE_PART: Final = 4
"""One source gets a quarter of it,"""
PEER_PART: Final = 8
"""one peer an eighth."""
AUTHOR_PART: Final = 1_024
"""One whose gossip was handed on and that never connected: enough to be bid to or declined a few dozen times, upon which it connects."""
BURSTS_A_DAY: Final = 4
"""So much of a day's share can be used at once: six hours' worth. With what is gained meanwhile, a day has five quarters of its share at most."""
ROW_BYTES: Final = 200
"""What an event takes on disk beside its body: its columns, its hash, its place in two indexes."""
_DAY_S: Final = 24 * HOUR // SECOND


def daily(share_bytes: int) -> Limit:
    """The limit by which `share_bytes` are gained in a day."""
    return Limit(max(1, share_bytes // _DAY_S), max(1, share_bytes // BURSTS_A_DAY))


Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Used(msgspec.Struct, frozen=True):
    """What has been used of a log budget and is not gained back yet: what a restart must not forget.

    Attributes:
        at: Unix ms.
        of_all: bytes, by all strangers.
        peers, authors, sources: the same by each; of a source, whether as a forwarder of gossip.
    """

    at: int
    of_all: Bytes = 0
    peers: dict[PeerId, Bytes] = {}
    authors: dict[PeerId, Bytes] = {}
    sources: tuple[tuple[tuple[str, bool], Bytes], ...] = ()


class LogBudget:
    """What strangers may still have written. One per node; not shared between threads."""

    def __init__(self, per_day_bytes: int = PER_DAY_BYTES, *, most: int = 8_192) -> None:
        """`per_day_bytes`: for all strangers. `most`: peers, and sources, that are metered at a time; past it others wait."""
        self._of_all = daily(per_day_bytes)
        self._all: TokenBucket | None = None
        of_peer, of_source = daily(per_day_bytes // PEER_PART), daily(per_day_bytes // SOURCE_PART)
        self._peers: Buckets[PeerId] = Buckets(lambda _peer: of_peer, most=most)
        of_author = daily(per_day_bytes // AUTHOR_PART)
        self._authors: Buckets[PeerId] = Buckets(lambda _author: of_author, most=most)
        self._sources: Buckets[tuple[str, bool]] = Buckets(lambda _source: of_source, most=most)

    @property
    def burst(self) -> int:
        """Bytes that all strangers together can cause at once."""
        return self._of_all.burst

    def has_room(self, peer: PeerId, source: str, now: int, *, is_gossiped: bool = False) -> bool:
        """Whether `peer`, connected from `source`, may cause more to be written at `now` (Unix ms).

        `is_gossiped`: it was never connected, and its gossip was handed on from `source`, which has a share of its own for that: inventing authors
        costs nothing, so they neither share one for all, nor use up what their forwarders need themselves.
        """
        return all(bucket is not None and bucket.has(now) for bucket in self._paying(peer, source, now, is_gossiped))

    def wrote(self, peer: PeerId, source: str, size_bytes: int, now: int, *, is_gossiped: bool = False) -> None:
        """Counts what was written because of `peer`."""
        for bucket in self._paying(peer, source, now, is_gossiped):
            if bucket is not None:
                bucket.spend(now, size_bytes)

    def inherit(self, old: PeerId, new: PeerId) -> None:
        """A peer has a new name: what it wrote still counts."""
        self._peers.rename(old, new)

    def used(self, now: int) -> Used:
        """What has been used of it at `now` (Unix ms)."""
        sources = tuple(self._sources.used(now).items())
        return Used(now, self._total(now).used(now), self._peers.used(now), self._authors.used(now), sources)

    def restore(self, used: Used, since: Mapping[PeerId, int] = {}, since_bytes: int = 0) -> None:
        """Begins with what was used at an earlier time. Nothing may have been metered yet.

        Args:
            used: what was used then.
            since: bytes that were written after that, by peer.
            since_bytes: all that were, for whomever. They empty the budget of all and put it no further into debt: they may have been the node's own.
        """
        at, total = used.at, self._total(used.at)
        total.spend(at, used.of_all)
        total.spend(at, min(since_bytes, max(0, self.burst - used.of_all)))
        self._peers.use(used.peers, at)
        self._peers.use(since, at)
        self._authors.use(used.authors, at)
        self._sources.use(dict(used.sources), at)

    def __len__(self) -> int:
        return len(self._peers) + len(self._authors) + len(self._sources)

    def _paying(
        self,
        peer: PeerId,
        source: str,
        now: int,
        is_gossiped: bool,
    ) -> tuple[TokenBucket | None, ...]:
        each = self._authors if is_gossiped else self._peers
        return self._total(now), self._sources.get((source, is_gossiped), now), each.get(peer, now)

    def _total(self, now: int) -> TokenBucket:
        if self._all is None:
            self._all = TokenBucket(self._of_all, now)
        return self._all
