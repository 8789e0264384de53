"""Every method of the local JSON-RPC. The node implements `NodeApi`; `METHODS` is read off it.

::

    node         node.*                what this node is, offers and prefers
    jobs         job.*                 the owner's work
    allocations  alloc.*               single runs, on either side
    market       market.* bids.* requests.*
    peers        peers.*               other nodes
    events       events.* doctor.*     what happened; is this machine fit

An id in a parameter may be a unique beginning of the id (of a PeerID also its end, or the peer's name): `not_found` and `ambiguous_id` otherwise.
Times are Unix milliseconds, spans milliseconds, prices micro-credits, sizes bytes, CPU millicores. Bytes are base64 in JSON.
"""

from __future__ import annotations

from typing import Final, Protocol

from dms.rpc.api.allocations import AllocationMethods
from dms.rpc.api.events import EventMethods
from dms.rpc.api.jobs import JobMethods
from dms.rpc.api.market import MarketMethods
from dms.rpc.api.node import NodeMethods
from dms.rpc.api.peers import PeerMethods
from dms.rpc.registry import Method, methods_of

__all__ = ["METHODS", "NodeApi"]


class NodeApi(NodeMethods, JobMethods, AllocationMethods, MarketMethods, PeerMethods, EventMethods, Protocol):
    """What the node answers. Methods run on its asyncio loop and raise `DmsError` for what a caller should know."""


METHODS: Final[dict[str, Method]] = methods_of(NodeApi)
"""Calls by name, feeds by ``feed:`` and topic."""
