"""A node at a glance: what it remembers of requests that it is too busy for, and what it forgot."""

from __future__ import annotations

from dms.cli.views.node import standing_lines
from dms.rpc.api.status import MarketFigures


def test_of_requests_for_which_there_was_no_room_it_says_how_many_there_were() -> None:
    assert standing_lines(MarketFigures(standing=256, forgotten=3)) == [
        ("standing", "256 requests until capacity is free, 3 forgotten: 256 at most are remembered")
    ]
    assert standing_lines(MarketFigures(standing=1)) == [("standing", "1 request until capacity is free")]
    assert standing_lines(MarketFigures()) == []
