"""Allocations that belong together: all of them get a place at once, or none does, and none goes on when one has failed.

A request `together` takes bids only when they fill every slot that seeks. Bids for a part are let go after each round, so that two such requests do
not hold what the other lacks. A member whose node is lost seeks a place of its own while the others go on; when one has ended otherwise than
completed, for good, the rest is stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dms_proto.ids import BidId
from dms_proto.machine import IGNORED, Decision, Send
from dms_proto.market.auction_events import CancelRequested
from dms_proto.market.auction_reading import usable
from dms_proto.market.auction_state import Auction, AuctionPhase, Slot, SlotPhase, terms_of
from dms_proto.messages import Cancel
from dms_proto.units import format_count
from dms_proto.work import Ending, EndReason

STOP_GRACE_MS: Final = 5_000
"""How long providers may take to say that a member that is stopped has ended."""

_AT_A_PROVIDER: Final = (SlotPhase.COMMITTING, SlotPhase.HELD)
Awards = tuple[tuple[BidId, tuple[int, ...]], ...]


def may_take(auction: Auction, awards: Awards, slots: Sequence[Slot]) -> bool:
    """Whether `awards` may be made for the `slots` that seek."""
    return not terms_of(auction).together or sum(len(indexes) for _, indexes in awards) == len(slots)


def lacking(auction: Auction, seeking: Sequence[Slot], now: int) -> str:
    """In words that some, but not all, of what belongs together has a place; empty when that is not what is in the way."""
    placed = sum(bid.bid.slots for bid in usable(auction, now).values())
    if not terms_of(auction).together or not placed:
        return ""
    return f"a place for {min(placed, len(seeking) - 1)} of {format_count(len(seeking), 'allocation')} that go together"


def first_failure(auction: Auction) -> Ending | None:
    """How the member ended that the others were stopped for; None: none did."""
    if not terms_of(auction).together:
        return None
    endings = [slot.ending for slot in auction.slots if slot.phase is SlotPhase.DONE and slot.ending is not None]
    failed = [ending for ending in endings if ending.reason is not EndReason.COMPLETED]
    return next((ending for ending in failed if ending.reason is not EndReason.CANCELLED), next(iter(failed), None))


def gang_step(auction: Auction, now: int) -> Decision:
    """Stops the others when one has failed."""
    left = [slot for slot in auction.slots if slot.phase is not SlotPhase.DONE]
    if auction.phase is not AuctionPhase.OPEN or not left or first_failure(auction) is None:
        return IGNORED
    request_id = terms_of(auction).request_id
    stops = tuple(
        Send(slot.provider, Cancel(request_id, slot.allocation_id)) for slot in left if slot.phase in _AT_A_PROVIDER
    )
    return Decision((CancelRequested(now + STOP_GRACE_MS),), stops)
