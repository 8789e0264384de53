"""Whom to ask: directly those most likely to be able, by gossip everybody else when those are too few.

A direct message saves the gossip's hops; gossip reaches nodes we have never met. Asking is bounded either way, so the messages per job
stay flat as the network grows: in a small network everybody is asked, in a large one about `bids_wanted` x OVERSAMPLING nodes, a different
sample for each request (`market.reach`), widened with each round.
"""

from __future__ import annotations

import msgspec

from dms_proto.ids import PeerId
from dms_proto.market.comparator import CapabilityComparator
from dms_proto.market.reach import OVERSAMPLING, WIDENING, distance
from dms_proto.membership.machine import Membership
from dms_proto.messages import BidRequest

_COMPARATOR = CapabilityComparator()


class Audience(msgspec.Struct, frozen=True):
    """Who is asked.

    Attributes:
        direct: peers asked by name.
        gossip: whether it is gossiped as well.
        known: nodes that may answer as far as this node knows, itself included.
    """

    direct: tuple[PeerId, ...]
    gossip: bool
    known: int


def audience(membership: Membership, request: BidRequest, *, self_bids: bool) -> Audience:
    """Chooses whom to ask for `request`."""
    peers = [peer for peer in membership.greeted() if peer.hello is not None and peer.hello.accepts_work]
    limit = request.bids_wanted * OVERSAMPLING * WIDENING ** min(request.round, 16)
    known = len(peers) + self_bids
    direct = [peer.peer for peer in peers]
    capable = len(peers)
    if len(peers) > limit:
        able = {p.peer for p in peers if p.hello and _COMPARATOR.compare(request.needs, p.hello.summary).fits}
        capable = len(able)
        direct.sort(key=lambda peer: (peer not in able, distance(request.request_id, peer)))
        direct = direct[:limit]
    if self_bids:
        direct.append(membership.me)
    return Audience(tuple(direct), gossip=capable < limit or request.round > 0, known=known)
