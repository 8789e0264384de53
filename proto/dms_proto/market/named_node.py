"""A request to one node alone, which its owner has named: why it does not run there, in that node's own words.

Nobody else is asked, and a constraint keeps out whoever bids all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from dms_proto.ids import PeerId, short
from dms_proto.market.auction_reading import is_left_out, is_passing
from dms_proto.market.auction_state import Auction, terms_of
from dms_proto.messages import Clause, Pricing
from dms_proto.verification.policy import Verification

UNREACHABLE: Final = Clause("connection", "a node that can be reached", "the connection was lost", passing=True)
"""Stands in for the answer of a node that went away while it was asked."""
GONE: Final = (UNREACHABLE,)


def only_there(node: PeerId) -> str:
    """The constraint that a bid for such a request keeps."""
    return f'provider.id == "{node}"'


def faults(pricing: Pricing, verify: Verification) -> Iterator[tuple[str, str]]:
    """What does not go with naming a node, as field of the job and broken rule."""
    if verify.is_on:
        yield "node", "does not go with verify, which compares the results of several nodes"
    if pricing is Pricing.SECOND_PRICE:
        yield "node", "does not go with pricing second-price: nobody else bids, so it would be paid `max_price`"


def why_busy(auction: Auction) -> str:
    """What the node waits for before it can, as it has said; empty if it is not that."""
    only = terms_of(auction).only
    clauses = auction.declines.get(only)
    if clauses is None or clauses == GONE:
        return (
            f"{_the_node(only)} has failed it just now, and is asked again later" if is_left_out(auction, only) else ""
        )
    return f"{_the_node(only)} is busy: {_said(clauses)}" if is_passing(clauses) else ""


def why_unreachable(auction: Auction) -> str:
    """That the node went away while it was asked; empty if it did not."""
    only = terms_of(auction).only
    is_gone = bool(only) and auction.declines.get(only) == GONE
    return f"{_the_node(only)} cannot be reached: {UNREACHABLE.observed}" if is_gone else ""


def why_silent(auction: Auction) -> str:
    """That nothing is heard of the node; empty if it has answered."""
    only = terms_of(auction).only
    is_silent = not auction.asked.get(only) and only not in auction.declines
    return f"{_the_node(only)} was asked and has not answered" if is_silent else ""


def why_declined(auction: Auction) -> str:
    """Why the node cannot run it, whenever it is asked, and what would change that; empty if it has not said so."""
    only = terms_of(auction).only
    if not (clauses := auction.declines.get(only)):
        return ""
    changes = dict.fromkeys(clause.nearest for clause in clauses if clause.nearest)
    nearest = f"; nearest: {'; '.join(changes)}" if changes else ""
    return f"{_the_node(only)} declined: {_said(clauses)}{nearest}"


def _the_node(peer: PeerId) -> str:
    return f"the node {short(peer)}"


def _said(clauses: Iterable[Clause]) -> str:
    return "; ".join(f"{clause.dimension}: wanted {clause.wanted}, observed {clause.observed}" for clause in clauses)
