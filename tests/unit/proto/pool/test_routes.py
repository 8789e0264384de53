"""Which node a call goes to, and what is written down of it."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.ids import PeerId
from dms_proto.pool.routes import (
    MOST,
    MOST_WORDS,
    CallRouted,
    KnownNode,
    Routes,
    RouteTaken,
    Rule,
    decide,
    nearest,
)

NEAR, FAR, UNMEASURED, OWN = (
    KnownNode(PeerId("near"), rtt_us=200),
    KnownNode(PeerId("far"), rtt_us=90_000),
    KnownNode(PeerId("unmeasured")),
    KnownNode(PeerId("own"), is_own=True),
)


def routed(*options: KnownNode, provider: str, is_named: bool = False) -> CallRouted:
    taken = RouteTaken("t-1", "command/echo", options, PeerId(provider), is_named)
    (event,) = decide(Routes(), taken, 0).events
    assert isinstance(event, CallRouted)
    return event


def test_this_node_goes_first_then_the_nearest_and_who_was_not_measured_last() -> None:
    assert nearest((UNMEASURED, FAR, OWN, NEAR)) == (OWN, NEAR, FAR, UNMEASURED)


@pytest.mark.parametrize(
    ("provider", "is_named", "rule"),
    [("own", False, Rule.OWN), ("near", False, Rule.NEAREST), ("near", True, Rule.NAMED), ("", True, Rule.NONE)],
)
def test_the_rule_is_told(provider: str, is_named: bool, rule: Rule) -> None:
    assert routed(OWN, NEAR, provider=provider, is_named=is_named).rule is rule


def test_what_is_written_down_is_bounded() -> None:
    many = tuple(
        KnownNode(PeerId(f"peer-{number}"), rtt_us=1 + number, said="x" * 10_000) for number in range(MOST + 3)
    )
    event = routed(*many, provider="")
    assert (len(event.options), event.others) == (MOST, 3)
    assert {len(each.said) for each in event.options} == {MOST_WORDS}
    assert len(msgspec.msgpack.encode(event)) < 2 * MOST * MOST_WORDS
