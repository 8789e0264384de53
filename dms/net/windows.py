"""Windows: how much of what peers said may wait for the node, of each peer and of all peers of one source. Pure.

What is counted here has been read and is not dealt with yet. Whoever has no room is not read further: nothing is lost, the rest waits at its sender.
It outlives connections, since what was said on one waits for the node after it has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

PEER_SHARE: Final = 256
"""One peer may have this part of all that may wait: so whoever comes after it waits for a handful of its messages."""
SOURCE_SHARE: Final = 64
"""Likewise all peers of one source."""


class Windows:
    """One per network process. Who has nothing waiting takes no memory."""

    def __init__(self, of_all: int) -> None:
        """`of_all`: bytes, by `pipe.cost`, of which a peer and a source have their shares."""
        self._of_peer = of_all // PEER_SHARE
        self._of_source = of_all // SOURCE_SHARE
        self._peers: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._source_of: dict[str, str] = {}

    def has_room(self, peer: str, source: str) -> bool:
        """Whether more of `peer` may be read. The last frame may go beyond the window: so any frame fits."""
        source = self._source_of.get(peer, source)
        return self._peers[peer] < self._of_peer and self._sources[source] < self._of_source

    def read(self, peer: str, source: str, amount: int) -> None:
        """So much of `peer` waits now. Who comes again from elsewhere still counts where it was until all is dealt with."""
        source = self._source_of.setdefault(peer, source)
        self._peers[peer] += amount
        self._sources[source] += amount

    def took(self, amounts: Mapping[str, int]) -> None:
        """The node has dealt with so much of each peer. More than waits is as much as waits."""
        for peer, amount in amounts.items():
            if peer in self._source_of:
                source = self._source_of[peer]
                taken = min(amount, self._peers[peer])
                self._peers[peer] -= taken
                self._sources[source] -= taken
                if not self._peers[peer]:
                    del self._peers[peer], self._source_of[peer]
                if not self._sources[source]:
                    del self._sources[source]

    def __len__(self) -> int:
        return len(self._peers) + len(self._sources)
