"""Every event can be told to a person."""

from __future__ import annotations

from dms.node.trace import _TELL, MARKET_KINDS, lines
from dms.rpc.api.events import TraceStep
from dms_actors.events import EVENT_KINDS
from dms_proto.machine import Transient


def test_every_kind_that_is_stored_has_words() -> None:
    stored = {name for name, kind in EVENT_KINDS.items() if not issubclass(kind, Transient)}
    assert stored - set(_TELL) == set()


def test_the_markets_kinds_exist() -> None:
    assert set(MARKET_KINDS) <= set(EVENT_KINDS)


def test_lines_count_from_the_first_step_and_indent_what_follows_from_the_same_cause() -> None:
    steps = (
        TraceStep(1, 1000, "r-abcdefghijk", "RequestOpened", "call", "job accepted"),
        TraceStep(2, 1012, "r-abcdefghijk", "BidReceived", "m1", "a bid"),
        TraceStep(3, 1012, "r-abcdefghijk", "AwardMade", "m1", "awarded"),
        TraceStep(4, 1500, "market", "LockExpired", "time", "expired"),
        TraceStep(5, 1600, "market", "LockExpired", "time", "expired again"),
    )
    assert lines(steps) == [
        "   +0.000 s  r-abcdef   job accepted",
        "   +0.012 s  r-abcdef   a bid",
        "   +0.012 s  r-abcdef     awarded",
        "   +0.500 s  market     expired",
        "   +0.600 s  market     expired again",
    ]
    assert lines(()) == []
