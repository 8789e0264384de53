"""What calls of services cost."""

from __future__ import annotations

from collections.abc import Iterator

from dms.cli.blocks import Block, Line, Table
from dms.cli.views import words
from dms.rpc.api.tabs import TabList, TabView
from dms_proto.units import HOUR, format_count, format_credits, format_millis

_RIGHT = frozenset({3, 4, 5, 6, 7})


def tabs(found: TabList) -> Iterator[Block]:
    """A tab per line, and of each that is over why."""
    if not found.tabs:
        yield Line("no calls are paid, here or elsewhere", "dim")
        return
    rows = [
        (
            words.node(tab.peer, tab.name),
            tab.service,
            "we pay" if tab.ours else "it pays",
            str(tab.calls),
            format_millis(tab.ran_ms),
            format_credits(tab.stated),
            format_credits(tab.signed),
            format_credits(tab.max_price),
            f"over: {tab.why_over}" if tab.why_over else "open",
        )
        for tab in found.tabs
    ]
    yield Table(("NODE", "SERVICE", "WHO", "CALLS", "RAN", "STATED", "SIGNED", "AT MOST", "STATE"), rows, _RIGHT)


def cost(tab: TabView) -> Iterator[Block]:
    """What calls cost and have cost, in two lines."""
    an_hour = format_credits(tab.tariff.cost(tab.resources, HOUR) - tab.tariff.start)
    start = f", and {format_credits(tab.tariff.start)} once" if tab.tariff.start else ""
    yield Line(f"an hour at work costs {an_hour}{start}; at most {format_credits(tab.max_price)} in all were agreed")
    so_far = f"{format_count(tab.calls, 'call')}, {format_millis(tab.ran_ms)} at work"
    state = f"over: {tab.why_over}" if tab.why_over else "open"
    yield Line(
        f"its provider states {so_far}, {format_credits(tab.stated)}, of which {format_credits(tab.signed)} are signed; "
        f"seen here: {format_millis(tab.seen_ms)}; {state}"
    )
