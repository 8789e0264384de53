"""Providers that bid and say nothing when they are taken: set aside for a while, forgiven with time or with one word."""

from __future__ import annotations

import pytest

from dms_proto.ids import PeerId
from dms_proto.reputation.silence import (
    FIRST_PAUSE_MS,
    LONGEST_PAUSE_MS,
    MOST,
    PROVEN_STRIKES,
    SOURCE_STRIKES,
    Bidder,
    SetAside,
    Silence,
    Word,
)
from dms_proto.reputation.sources import UNKNOWN

NEW = Bidder(PeerId("new"), "30.0.0.0/24")
PROVEN = Bidder(PeerId("proven"), "30.0.0.0/24", has_delivered=True)
START = 1_000_000
ACK_MS = 500


def let_down(silence: Silence, bidder: Bidder, times: int, now: int = START) -> int:
    """So many commits, each sent after the one before was given up. Gives when the last one was."""
    for number in range(times):
        silence.let_down(bidder, Word.ANSWER, (f"bid {number} at {now}",), now, now + ACK_MS)
        now += ACK_MS + 1
    return now - 1


def until(silence: Silence, bidder: Bidder, now: int) -> int:
    aside = silence.set_aside(bidder, now)
    return aside.until if aside is not None else 0


def is_aside(silence: Silence, bidder: Bidder, now: int) -> bool:
    return silence.set_aside(bidder, now) is not None


def test_a_newcomer_has_no_credit_and_takes_its_turn_again_after_a_while() -> None:
    silence = Silence()
    assert not is_aside(silence, NEW, START)
    last = let_down(silence, NEW, 1)
    assert until(silence, NEW, last) == last + FIRST_PAUSE_MS
    assert not is_aside(silence, NEW, last + FIRST_PAUSE_MS)


def test_who_has_kept_its_word_before_is_set_aside_when_it_is_silent_for_the_third_time() -> None:
    silence = Silence()
    assert not is_aside(silence, PROVEN, let_down(silence, PROVEN, PROVEN_STRIKES - 1))
    last = let_down(silence, PROVEN, 1, START + 10_000)
    assert until(silence, PROVEN, last) == last + FIRST_PAUSE_MS


def test_each_more_doubles_the_pause_up_to_the_longest() -> None:
    silence = Silence()
    last = let_down(silence, NEW, 2)
    assert until(silence, NEW, last) == last + 2 * FIRST_PAUSE_MS
    last = let_down(silence, NEW, 100, last + 1)
    assert until(silence, NEW, last) == last + LONGEST_PAUSE_MS


def test_the_pause_is_as_long_as_its_owner_wants() -> None:
    silence = Silence(1_000)
    last = let_down(silence, NEW, 1)
    assert until(silence, NEW, last) == last + 1_000


def test_commits_that_were_under_way_together_are_one_strike() -> None:
    silence = Silence()
    for number in range(30):
        silence.let_down(PROVEN, Word.ANSWER, (f"bid {number}",), START + 10 * number, START + 10 * number + ACK_MS)
    assert not is_aside(silence, PROVEN, START + 300 + ACK_MS)

    for number in range(30):
        silence.let_down(NEW, Word.ANSWER, (f"bid {number}",), START, START + ACK_MS + number)
    assert until(silence, NEW, START + 600) == START + ACK_MS + FIRST_PAUSE_MS


def test_newcomers_of_one_source_that_were_silent_together_are_one_strike_of_it() -> None:
    silence = Silence()
    for number in range(30):
        silence.let_down(newcomer(number), Word.ANSWER, (f"bid {number}",), START, START + ACK_MS)
    assert not is_aside(silence, newcomer(99), START + ACK_MS)


def test_it_does_not_count_if_anything_was_heard_since_the_commit_was_sent() -> None:
    silence = Silence()
    silence.heard(NEW, Word.ANSWER, START)
    silence.let_down(NEW, Word.ANSWER, ("bid",), START, START + ACK_MS)
    assert not is_aside(silence, NEW, START + ACK_MS)
    silence.let_down(NEW, Word.ANSWER, ("another",), START + 1, START + 1 + ACK_MS)
    assert is_aside(silence, NEW, START + 1 + ACK_MS)


def test_an_answer_that_is_here_before_it_is_told_to_be_missing_counts_unless_it_is_older_than_the_commit() -> None:
    silence = Silence()
    silence.answered(NEW, "bid", START)
    silence.let_down(NEW, Word.ANSWER, ("bid",), START, START + ACK_MS)
    assert not is_aside(silence, NEW, START + ACK_MS)
    silence.let_down(NEW, Word.ANSWER, ("bid",), START + 1, START + 1 + ACK_MS)
    assert is_aside(silence, NEW, START + 1 + ACK_MS)


def test_a_late_word_takes_a_strike_back_and_one_in_time_all() -> None:
    silence = Silence()
    silence.let_down(NEW, Word.ANSWER, ("bid",), START, START + ACK_MS)
    silence.answered(NEW, "made up", START + ACK_MS)
    assert is_aside(silence, NEW, START + ACK_MS)
    silence.answered(NEW, "bid", START + ACK_MS)
    assert not is_aside(silence, NEW, START + ACK_MS)

    silence.let_down(NEW, Word.ANSWER, ("another",), START + 10_000, START + 10_000 + ACK_MS)
    silence.heard(NEW, Word.ANSWER, START + 11_000)
    assert not is_aside(silence, NEW, START + 11_000)


@pytest.mark.parametrize("bidder", [Bidder(NEW.provider), PROVEN])
@pytest.mark.parametrize("word", list(Word))
def test_who_speaks_too_late_each_time_is_set_aside_like_who_never_does(bidder: Bidder, word: Word) -> None:
    silence = Silence()
    now = START
    for number in range(20):
        silence.let_down(bidder, word, (f"bid {number}",), now, now + ACK_MS)
        silence.answered(bidder, f"bid {number}", now + ACK_MS + 1)
        now += ACK_MS + 2
    assert until(silence, bidder, now) > now + LONGEST_PAUSE_MS - ACK_MS
    silence.heard(bidder, Word.WORK, now)
    assert not is_aside(silence, bidder, now)


def test_a_late_word_takes_its_own_strike_back_and_none_before_it() -> None:
    silence = Silence()
    last = let_down(silence, NEW, 3)
    silence.answered(NEW, f"bid 0 at {START}", last)
    assert until(silence, NEW, last) == last + 4 * FIRST_PAUSE_MS
    for _ in range(2):
        silence.answered(NEW, f"bid 2 at {last - ACK_MS}", last)
        assert until(silence, NEW, last) == last + 2 * FIRST_PAUSE_MS


def test_many_late_words_about_what_was_under_way_together_take_it_back_and_what_is_given_up_later_is_still_the_same() -> (
    None
):
    silence = Silence()
    for number in range(30):
        silence.let_down(NEW, Word.ANSWER, (f"bid {number}",), START, START + ACK_MS + number)
    for number in range(30):
        silence.answered(NEW, f"bid {number}", START + ACK_MS + 40)
    silence.let_down(NEW, Word.ANSWER, ("bid 30",), START + 10, START + ACK_MS + 50)
    assert not is_aside(silence, NEW, START + ACK_MS + 50)


def newcomer(number: int, source: str = "30.0.0.0/24") -> Bidder:
    return Bidder(PeerId(f"sybil {number}"), source)


def crowd(silence: Silence, source: str = "30.0.0.0/24") -> int:
    """One newcomer after the other lets a job down."""
    now = START
    for number in range(SOURCE_STRIKES):
        assert not is_aside(silence, newcomer(99, source), now)
        silence.let_down(newcomer(number, source), Word.ANSWER, (f"bid {number}",), now, now + ACK_MS)
        now += ACK_MS + 1
    return now


def test_newcomers_of_one_source_share_what_is_borne_and_others_are_not_touched() -> None:
    silence = Silence()
    now = crowd(silence)
    assert is_aside(silence, newcomer(99), now)
    assert not is_aside(silence, newcomer(99), now + FIRST_PAUSE_MS)
    assert not is_aside(silence, PROVEN, now)
    assert not is_aside(silence, newcomer(99, "40.0.0.0/24"), now)


def test_one_of_a_source_that_answers_in_the_end_does_not_clear_its_neighbours() -> None:
    silence = Silence()
    now = crowd(silence)
    for number in range(SOURCE_STRIKES):
        silence.answered(newcomer(number), f"bid {number}", now)
    assert is_aside(silence, newcomer(99), now)


def test_one_of_a_source_that_keeps_its_word_does_not_clear_its_neighbours() -> None:
    silence = Silence()
    now = crowd(silence)
    silence.heard(newcomer(99), Word.WORK, now)
    assert is_aside(silence, newcomer(98), now)


def test_those_whose_source_is_not_known_do_not_share_one() -> None:
    silence = Silence()
    assert not is_aside(silence, newcomer(99, UNKNOWN), crowd(silence, UNKNOWN))


def test_what_was_long_before_does_not_count() -> None:
    silence = Silence()
    last = let_down(silence, NEW, 3)
    last = let_down(silence, NEW, 1, last + 2 * LONGEST_PAUSE_MS)
    assert until(silence, NEW, last) == last + FIRST_PAUSE_MS


def test_invented_providers_and_sources_do_not_grow_it() -> None:
    silence = Silence()
    for number in range(MOST + 100):
        bidder = newcomer(number, f"source {number}")
        silence.let_down(bidder, Word.ANSWER, ("bid",), START, START + ACK_MS)
        silence.answered(bidder, "made up", START)
    assert len(silence) == 2 * MOST
    assert len(silence._answers) == MOST


def test_who_makes_answers_up_pushes_out_no_answer_of_another() -> None:
    silence = Silence()
    silence.answered(PROVEN, "bid", START)
    for number in range(2 * MOST):
        silence.answered(Bidder(PeerId(f"sybil {number % 3}"), "66.0.0.0/24"), f"made up {number}", START)
    silence.let_down(PROVEN, Word.ANSWER, ("bid",), START, START + ACK_MS)
    assert len(silence) == 0


def test_who_answers_commits_has_not_done_any_work_and_who_works_has_answered() -> None:
    silence = Silence()
    silence.let_down(NEW, Word.WORK, ("allocation",), START, START + 1_000)
    silence.heard(NEW, Word.ANSWER, START + 1_000)
    assert is_aside(silence, NEW, START + 1_000)
    silence.heard(NEW, Word.WORK, START + 1_000)
    assert not is_aside(silence, NEW, START + 1_000)

    silence.let_down(NEW, Word.ANSWER, ("bid",), START + 2_000, START + 2_500)
    silence.heard(NEW, Word.WORK, START + 2_500)
    assert not is_aside(silence, NEW, START + 2_500)


def test_it_is_said_why_and_how_often() -> None:
    silence = Silence()
    last = let_down(silence, PROVEN, PROVEN_STRIKES)
    assert str(silence.set_aside(PROVEN, last)) == "3 commits unanswered"
    silence.let_down(NEW, Word.WORK, ("allocation",), last, last + 1)
    assert silence.set_aside(NEW, last + 1) == SetAside(last + 1 + FIRST_PAUSE_MS, Word.WORK, 1)
    assert str(silence.set_aside(NEW, last + 1)) == "1 commit acknowledged without a word since"


def test_of_a_newcomer_that_pays_for_its_source_that_is_said() -> None:
    silence, now = Silence(), START
    for number in range(SOURCE_STRIKES):
        now = let_down(silence, Bidder(PeerId(f"{number}"), NEW.source), 1, now) + 1
    assert str(silence.set_aside(NEW, now)) == "3 commits unanswered by newcomers of 30.0.0.0/24"
