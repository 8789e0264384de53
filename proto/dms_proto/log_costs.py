"""Who pays the log budget (`wire.log_budget`) for an event, and for what will follow from it without being asked again."""

from __future__ import annotations

from typing import Final

from dms_proto.accounts.machine import AccountsInherited, IouKept
from dms_proto.ids import PeerId
from dms_proto.machine import Event
from dms_proto.market.offer_state import BidCommitted, BidMade, BidOpened, CommitTurnedDown, RequestDeclined
from dms_proto.membership.machine import PeerGreeted, PeerLeft, PeerMet, PeerRefused, PeerSucceeded

END_OF_BID_BYTES: Final = 1_024
"""A bid's lock ends, its request is withdrawn."""
STANDING_BYTES: Final = 4_096
"""A request that stands is bid on once more, or withdrawn."""
ALLOCATION_BYTES: Final = 8_192
"""The life of an allocation, without its task: opened, ready, started, run, ended, told again, received, booked, freed."""
CONNECTION_BYTES: Final = 1_024
"""That a peer came or went, for this node, and for each allocation it has here; and that another peer was forgotten for it."""


def payer(event: Event) -> PeerId | None:
    """The peer without which an event would not be; None for what somebody paid before, and for the owner's doing."""
    match event:
        case BidMade(lock=lock):
            return lock.requester
        case (
            BidOpened(requester=peer)
            | RequestDeclined(requester=peer)
            | BidCommitted(requester=peer)
            | CommitTurnedDown(requester=peer)
        ):
            return peer
        case PeerMet(peer=peer) | PeerGreeted(peer=peer) | PeerRefused(peer=peer) | PeerLeft(peer=peer):
            return peer
        case PeerSucceeded(new=peer) | AccountsInherited(new=peer):
            return peer
        case IouKept(iou=iou):
            return iou.debtor
        case _:
            return None


def to_follow(event: Event) -> int:
    """Bytes that will be written because of an event, whatever its peer does: paid with it."""
    match event:
        case BidMade(stands_until=until):
            return END_OF_BID_BYTES + (STANDING_BYTES if until else 0)
        case RequestDeclined(stands_until=until):
            return STANDING_BYTES if until else 0
        case BidCommitted(reservations=reservations):
            return ALLOCATION_BYTES * len(reservations)
        case _:
            return 0
