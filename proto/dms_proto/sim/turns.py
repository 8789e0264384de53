"""What must be true of requests that wait for their turn to seek: no more seek than may, and of equals whoever was there first is asked for first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dms_proto.market.auction_events import RequestAnnounced
from dms_proto.market.auction_state import Auction
from dms_proto.market.seekers import kind_of
from dms_proto.sim.demands import demand

if TYPE_CHECKING:
    from dms_proto.sim.node import SimNode


def check_turns(node: SimNode, announced: RequestAnnounced, after: Auction) -> None:
    """Checks the round that a request has just announced."""
    seekers = node.seekers
    demand(len(seekers) <= node.spec.seekers, "no more seek than may", f"{node!r}: {len(seekers)} seek")
    if announced.round:
        return
    for request_id in seekers.waiting():
        waits = node.states[request_id]
        is_passed = waits.round < 0 and waits.opened_at < after.opened_at and kind_of(waits) == kind_of(after)
        demand(not is_passed, "first come, first asked for", f"{node!r}: {request_id} still waits for its turn")
