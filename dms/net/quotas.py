"""Quotas: how much of one kind of traffic each peer, and each source of peers, may send. Pure: the time, in seconds, is an argument."""

from __future__ import annotations

from typing import Final

from dms.net.config import RateLimit
from dms.net.limits import Meter
from dms_proto.wire.scores import Offence

SOURCE_PEERS: Final = 2
"""A source may send as much as this many of its peers at their limit: more than any few honest ones do, less than a crowd of identities could."""
MOST_METERS: Final = 1_024
"""Peers, and sources, that are metered at a time: twice as many as can be connected."""


class Quota:
    """One kind of traffic. Outlives connections: who comes again finds its meters as it left them."""

    def __init__(self, limit: RateLimit, *, most: int = MOST_METERS) -> None:
        """`limit` of one peer; `most`: meters of peers, and of sources, kept at a time."""
        self._of_peer = limit
        self._of_source = RateLimit(
            limit.frames_per_s * SOURCE_PEERS,
            limit.frames_burst * SOURCE_PEERS,
            limit.bytes_per_s * SOURCE_PEERS,
            limit.bytes_burst * SOURCE_PEERS,
        )
        self._most = most
        self._peers: dict[str, Meter] = {}
        self._sources: dict[str, Meter] = {}

    def judge(self, peer: str, source: str, size: int, now: float) -> Offence | None:
        """Whether an item of `size` bytes passes; else whose limit it is above: its own, or that of all from where it is."""
        if not self._meter(self._peers, peer, self._of_peer, now).admit(size, now):
            return Offence.FLOODED
        if not self._meter(self._sources, source, self._of_source, now).admit(size, now):
            return Offence.CROWDED
        return None

    def __len__(self) -> int:
        return len(self._peers) + len(self._sources)

    def _meter(self, meters: dict[str, Meter], key: str, limit: RateLimit, now: float) -> Meter:
        meter = meters.get(key)
        if meter is None:
            if len(meters) >= self._most:
                forgotten = next((old for old, one in meters.items() if one.is_full(now)), next(iter(meters)))
                del meters[forgotten]
            meter = meters[key] = Meter(limit)
        return meter
