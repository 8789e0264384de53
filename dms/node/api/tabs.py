"""Tabs as they are shown."""

from __future__ import annotations

from dms.rpc.api.tabs import TabView
from dms_proto.tabs.kept import KeptTab
from dms_proto.tabs.used import UsedTab


def used_view(tab: UsedTab, name: str = "") -> TabView:
    """A tab that this node pays."""
    terms = tab.terms
    return TabView(
        tab_id=terms.tab_id,
        peer=terms.provider,
        name=name,
        ours=True,
        service=terms.service,
        resources=terms.resources,
        tariff=terms.tariff,
        max_price=terms.max_price,
        calls=tab.calls,
        ran_ms=tab.ran_ms,
        seen_ms=tab.seen_ms,
        stated=tab.stated,
        signed=tab.signed,
        under_way=len(tab.under_way),
        why_over=tab.why_over,
    )


def kept_view(tab: KeptTab, under_way: int, name: str = "") -> TabView:
    """A tab that this node is paid on."""
    terms = tab.terms
    return TabView(
        tab_id=terms.tab_id,
        peer=terms.caller,
        name=name,
        ours=False,
        service=terms.service,
        resources=terms.resources,
        tariff=terms.tariff,
        max_price=terms.max_price,
        calls=tab.calls,
        ran_ms=tab.ran_ms,
        seen_ms=0,
        stated=tab.stated,
        signed=tab.signed,
        under_way=under_way,
        why_over=tab.why_over,
    )
