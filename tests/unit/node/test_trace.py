"""Every event can be told to a person."""

from __future__ import annotations

from dms.node.trace import _TELL, MARKET_KINDS, lines
from dms.rpc.api.events import TraceStep
from dms.testing.audit_story import PROVIDER, Story
from dms_actors.events import EVENT_KINDS
from dms_proto.ids import short
from dms_proto.machine import Event, Transient
from dms_proto.market import offer_state
from dms_proto.market.proofs import FrameKept


def test_every_kind_that_is_stored_has_words() -> None:
    stored = {name for name, kind in EVENT_KINDS.items() if not issubclass(kind, Transient)}
    assert stored - set(_TELL) == set()


def test_every_market_event_that_may_be_about_a_request_is_looked_at() -> None:
    abouts = {"bid", "bid_id", "request", "request_id", "allocation_id", "allocation_ids"}
    stored = {
        kind
        for kind in vars(offer_state).values()
        if isinstance(kind, type) and issubclass(kind, Event) and not issubclass(kind, Transient)
    }
    about_one = {kind.__name__ for kind in stored if abouts & set(kind.__struct_fields__)}
    assert "BidOpened" in about_one
    assert set(MARKET_KINDS) == about_one


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


def test_a_kept_frame_is_told_by_what_it_says_and_who_signed_it() -> None:
    frame = Story().frame("bid")

    assert (
        _TELL["FrameKept"](FrameKept(frame, 0))
        == f"kept as a proof: the Bid that {short(PROVIDER.peer_id)} signed, {len(frame)} B"
    )
    assert "proves nothing" in _TELL["FrameKept"](FrameKept(frame[:-1], 0))
