"""Tabs as they are shown."""

from __future__ import annotations

from dms.rpc.api.tabs import TabView
from dms_proto.ids import PeerId
from dms_proto.tabs.kept import KeptTab
from dms_proto.tabs.used import UsedTab


def used_view(tab: UsedTab, name: str = "") -> TabView:
    """A tab that this node pays."""
    return _view(tab, tab.terms.provider, name, seen_ms=tab.seen_ms, under_way=len(tab.under_way))


def kept_view(tab: KeptTab, under_way: int, name: str = "") -> TabView:
    """A tab that this node is paid on."""
    return _view(tab, tab.terms.caller, name, seen_ms=0, under_way=under_way)


def _view(tab: UsedTab | KeptTab, peer: PeerId, name: str, *, seen_ms: int, under_way: int) -> TabView:
    terms = tab.terms
    return TabView(
        tab_id=terms.tab_id,
        peer=peer,
        name=name,
        ours=isinstance(tab, UsedTab),
        service=terms.service,
        resources=terms.resources,
        tariff=terms.tariff,
        max_price=terms.max_price,
        calls=tab.calls,
        ran_ms=tab.ran_ms,
        seen_ms=seen_ms,
        stated=tab.stated,
        signed=tab.signed,
        under_way=under_way,
        why_over=tab.why_over,
    )
