"""Providers that bid and do not answer: not heard for a while, forgiven with time or with one answer."""

from __future__ import annotations

from dms_proto.ids import BidId, PeerId
from dms_proto.reputation.silence import FIRST_PAUSE_MS, LONGEST_PAUSE_MS, MOST, STRIKES, Silence

A = PeerId("a")
BID = BidId("b")


def test_after_three_in_a_row_its_bids_are_not_heard_and_then_they_are_again() -> None:
    silence = Silence()
    for _ in range(STRIKES):
        assert not silence.is_ignored(A, 0)
        silence.let_down(A, BID, 0)
    assert silence.is_ignored(A, FIRST_PAUSE_MS - 1)
    assert not silence.is_ignored(A, FIRST_PAUSE_MS)


def test_each_more_doubles_the_pause_up_to_the_longest() -> None:
    silence = Silence()
    for _ in range(STRIKES + 1):
        silence.let_down(A, BID, 0)
    assert silence.is_ignored(A, 2 * FIRST_PAUSE_MS - 1)
    assert not silence.is_ignored(A, 2 * FIRST_PAUSE_MS)
    for _ in range(100):
        silence.let_down(A, BID, 0)
    assert silence.is_ignored(A, LONGEST_PAUSE_MS - 1)
    assert not silence.is_ignored(A, LONGEST_PAUSE_MS)


def test_one_answer_and_it_is_forgotten() -> None:
    silence = Silence()
    for _ in range(STRIKES):
        silence.let_down(A, BID, 0)
    silence.answered(A, BidId("made up"))
    assert silence.is_ignored(A, 0)
    silence.answered(A, BID)
    assert not silence.is_ignored(A, 0)


def test_what_was_long_before_does_not_count() -> None:
    silence = Silence()
    for _ in range(STRIKES - 1):
        silence.let_down(A, BID, 0)
    silence.let_down(A, BID, LONGEST_PAUSE_MS)
    assert not silence.is_ignored(A, LONGEST_PAUSE_MS)


def test_invented_providers_do_not_grow_it() -> None:
    silence = Silence()
    for number in range(MOST + 100):
        silence.let_down(PeerId(f"invented {number}"), BID, 0)
    assert len(silence) == MOST
