"""What calls cost, as it is shown."""

from __future__ import annotations

import msgspec

from dms_proto.capability import Price, Resources
from dms_proto.ids import PeerId, TabId


class TabView(msgspec.Struct, frozen=True):
    """A tab: the running account of one node's calls of one service at another, in micro-credits.

    Attributes:
        tab_id: its name.
        peer: the other node.
        name: chosen by its owner; nothing proves it.
        ours: this node pays; otherwise the other does.
        service: that is called.
        resources: what a container of it holds.
        tariff: prices for holding that while calls are at work.
        max_price: the most that may become owed in all.
        calls: that ran to their end, by the provider's word: where this node pays, as of the last sum.
        ran_ms: how long they were at work together, likewise.
        seen_ms: where this node pays: how long they took here, from when each was asked for; what is stated is held against it.
        stated: what was asked for so far.
        signed: what of it was accepted.
        under_way: calls.
        why_over: why no more calls are let in on it; empty: it is open.
    """

    tab_id: TabId
    peer: PeerId
    name: str
    ours: bool
    service: str
    resources: Resources
    tariff: Price
    max_price: int
    calls: int
    ran_ms: int
    seen_ms: int
    stated: int
    signed: int
    under_way: int
    why_over: str


class TabList(msgspec.Struct, frozen=True):
    """Tabs.

    Attributes:
        tabs: that are open, or not settled, or were over lately; those that this node pays first.
    """

    tabs: tuple[TabView, ...]
