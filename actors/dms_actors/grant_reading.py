"""Reading what peers show as grants: each that is none costs a verification of some hundred microseconds, so few of them are looked at.

Anybody can make up any number that name an anchor as their issuer. Those that are grants are read once, whoever shows them, and remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms_proto.grants.trust import Proven, ReadGrant
from dms_proto.ids import PeerId
from dms_proto.wire.buckets import Buckets, Limit

OF_PEER: Final = Limit(per_second=2, burst=20)
"""Of one peer, that turn out to be none; what it shows beyond them is not looked at, and counts for nothing."""
OF_SOURCE: Final = Limit(per_second=16, burst=160)
"""Of all peers of one source; who has shown one that counts is looked at all the same."""


class GrantReading:
    """One per node; lives on the actors' thread.

    Args:
        read: verifies a grant.
        source_of: where a peer is.
        has_shown: whether a peer has shown a grant that counts, at a time (Unix ms).
    """

    def __init__(
        self, read: ReadGrant, source_of: Callable[[PeerId], str], has_shown: Callable[[PeerId, int], bool]
    ) -> None:
        self._read = read
        self._source_of = source_of
        self._has_shown = has_shown
        self._peers: Buckets[PeerId] = Buckets(lambda _peer: OF_PEER)
        self._sources: Buckets[str] = Buckets(lambda _source: OF_SOURCE)

    def by(self, peer: PeerId, now: int) -> ReadGrant:
        """What reads the grants that `peer` shows at `now` (Unix ms)."""

        def read(grant: bytes) -> Proven | None:
            of_peer, of_source = self._peers.get(peer, now), self._sources.get(self._source_of(peer), now)
            buckets = (of_peer,) if self._has_shown(peer, now) else (of_peer, of_source)
            if any(bucket is None or not bucket.has(now) for bucket in buckets):
                return None
            proven = self._read(grant)
            for bucket in (of_peer, of_source):
                if proven is None and bucket is not None:
                    bucket.spend(now, 1)
            return proven

        return read
