"""The node's read models, declared: what its owner asks for by list, count or id. They hold nothing that is not in the events.

===========  ==================================================================  =============================
projection   tables                                                              follows
===========  ==================================================================  =============================
work         jobs, allocations, bids, requests, totals, trust                    every request and allocation
peers        peers                                                               the stream "peers"
accounts     entries                                                             the stream "accounts"
===========  ==================================================================  =============================

An allocation or a bid of a node that is its own provider is one row with both parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from dms.node.projecting import accounts, peers, provider, requester
from dms.node.projecting.requester import Handler
from dms.node.projecting.tables import ALLOCATIONS, BIDS, ENTRIES, JOBS, PEERS, REQUESTS, TOTALS, TRUST
from dms.store.projections import Apply, Projection, Rows
from dms.store.tables import Change, Table
from dms_actors.events import from_row
from dms_actors.ports import StoredEvent
from dms_proto.ids import PeerId
from dms_proto.machine import Event

VERSION: Final = 2
"""Raised when a handler changes its meaning: the tables are then made anew."""
WORK: Final[tuple[Table, ...]] = (JOBS, ALLOCATIONS, BIDS, REQUESTS, TOTALS, TRUST)


def projections(me: PeerId) -> tuple[Projection, ...]:
    """The read models of node `me`."""
    return (
        _projection("work", WORK, me, requester.HANDLERS | provider.HANDLERS),
        _projection("peers", (PEERS,), me, peers.HANDLERS),
        _projection("accounts", (ENTRIES,), me, accounts.HANDLERS),
    )


def _projection(
    name: str, tables: tuple[Table, ...], me: PeerId, handlers: Mapping[type[Event], Handler]
) -> Projection:
    kinds = frozenset(kind.__name__ for kind in handlers)
    return Projection(name, VERSION, tables, kinds, _apply(me, handlers))


def _apply(me: PeerId, handlers: Mapping[type[Event], Handler]) -> Apply:
    def apply(rows: Rows, row: StoredEvent) -> Iterable[Change]:
        event = from_row(row)
        return handlers[type(event)](me, rows, row, event)

    return apply
