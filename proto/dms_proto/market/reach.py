"""Which nodes answer a gossiped request: those whose hash distance to it lies within its reach.

The distance is uniform over nodes and different for each request, so the answers per request stay bounded as the network grows, and the
work of answering spreads evenly. Too few answers: the next round reaches further. Nodes asked directly always answer.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from dms_proto.ids import PeerId, RequestId

EVERYBODY: Final = 2**32
"""The reach within which every node lies."""
OVERSAMPLING: Final = 3
"""Nodes asked per bid wanted: some are busy, some too dear, some gone."""
WIDENING: Final = 4
"""Factor by which each further round reaches further."""


@lru_cache(maxsize=1_024)
def distance(request: RequestId, peer: PeerId) -> int:
    """Uniform in 0..2**32-1, the same for everyone who computes it. A provider asks time and again for the requests that stand with it."""
    return int.from_bytes(hashlib.sha256(f"{request}\0{peer}".encode()).digest()[:4], "big")


def reach_for(bids_wanted: int, nodes_known: int, round_: int) -> int:
    """The reach with which about `bids_wanted` x OVERSAMPLING x WIDENING**round of `nodes_known` nodes answer."""
    asked = bids_wanted * OVERSAMPLING * WIDENING ** min(round_, 16)
    return EVERYBODY if asked >= nodes_known else EVERYBODY * asked // nodes_known


def is_within(request: RequestId, peer: PeerId, reach: int) -> bool:
    """Whether `peer` should answer a request gossiped with `reach`."""
    return distance(request, peer) < reach
