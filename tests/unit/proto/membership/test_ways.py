"""How long the way to a peer is, by how soon it answers."""

from __future__ import annotations

from dms_proto.ids import PeerId
from dms_proto.membership.ways import LATELY_MS, UNDER_A_MS, Ways

PEER = PeerId("peer")


def test_the_quickest_answer_of_late_says_how_long_the_way_is() -> None:
    ways = Ways()
    assert ways.us(PEER) == 0
    for at, span in enumerate((30, 7, 45)):
        ways.took(PEER, span, at)
    assert ways.us(PEER) == 7_000
    ways.took(PEER, 45, 1 + LATELY_MS)
    assert ways.us(PEER) == 7_000
    ways.took(PEER, 45, 2 + LATELY_MS)
    assert ways.us(PEER) == 45_000


def test_an_answer_within_a_millisecond_is_measured_all_the_same() -> None:
    ways = Ways()
    ways.took(PEER, 0, 0)
    assert ways.us(PEER) == UNDER_A_MS
