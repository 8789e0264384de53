"""The roll of a job whose allocations find each other, read off the state of its request."""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.ids import PeerId
from dms_proto.market.auction_state import Auction, SlotPhase
from dms_proto.siblings import MOST_ADDRESSES, Roll, Sibling


def roll_of(auction: Auction, addresses_of: Callable[[PeerId], tuple[str, ...]]) -> Roll:
    """The roll; empty for a job without names.

    Args:
        auction: the request.
        addresses_of: where a peer may be dialled.
    """
    if auction.terms is None or not auction.terms.task.names.count:
        return Roll()
    return Roll(
        tuple(
            Sibling(slot.piece, slot.allocation_id, slot.provider, addresses_of(slot.provider)[:MOST_ADDRESSES])
            for slot in auction.slots
            if slot.phase is SlotPhase.HELD
        )
    )
