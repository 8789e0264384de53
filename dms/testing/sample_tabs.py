"""Tabs for the node in memory: one that it pays, one that it is paid on."""

from __future__ import annotations

from dms_proto.capability import Price, Resources
from dms_proto.ids import PeerId, tab_id
from dms_proto.messages import TabTerms
from dms_proto.tabs.kept import KeptTab
from dms_proto.tabs.used import UsedTab
from dms_proto.units import CREDIT, MIB, MINUTE


def tab_at(peer: PeerId) -> UsedTab:
    """What this node pays for calls there; open."""
    return UsedTab(
        _terms(peer), seen=3, seen_ms=1_900, number=2, signed=1_250, stated=1_250, calls=3, ran_ms=1_500, most=CREDIT
    )


def tab_of(peer: PeerId) -> KeptTab:
    """What a peer pays for calls here; over."""
    return KeptTab(_terms(peer), calls=1, ran_ms=2_000, why_over="it was not used any more")


def _terms(peer: PeerId) -> TabTerms:
    price = Price(start=50, cpu_core_hour=6 * CREDIT)
    return TabTerms(
        tab_id(bytes(16)), "python-script/upper", peer, peer, Resources(500, 64 * MIB), price, CREDIT, MINUTE
    )
