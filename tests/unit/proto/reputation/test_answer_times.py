"""How long a provider is given for an answer follows from how long it took, and doubles while there is none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms_proto.ids import PeerId
from dms_proto.reputation.answer_times import MOST, AnswerTimes

A, B = PeerId("a"), PeerId("b")


def test_of_whom_nothing_is_known_nothing_is_said() -> None:
    times = AnswerTimes()
    times.took(A, 100)
    assert times.ms(B) == 0


def test_after_the_first_answer_it_gets_three_times_as_long_and_less_when_it_is_steady() -> None:
    times = AnswerTimes()
    times.took(A, 400)
    assert times.ms(A) == 1_200
    for _ in range(30):
        times.took(A, 400)
    assert 400 <= times.ms(A) <= 420


def test_one_whose_answers_vary_gets_longer_than_the_longest_of_them() -> None:
    times = AnswerTimes()
    for span in (100, 900) * 10:
        times.took(A, span)
    assert times.ms(A) > 900


def test_each_time_it_is_silent_it_gets_twice_as_long_as_it_was_waited_for_until_it_answers() -> None:
    times = AnswerTimes()
    times.took(A, 10)
    waited = 500
    for _ in range(3):
        times.missed(A, waited)
        waited *= 2
        assert times.ms(A) == waited
    times.took(A, 1_700)
    assert times.ms(A) < waited


def test_commits_that_waited_together_count_once() -> None:
    times = AnswerTimes()
    for _ in range(20):
        times.missed(A, 500)
    assert times.ms(A) == 1_000


def test_what_is_remembered_is_bounded() -> None:
    times = AnswerTimes()
    for number in range(MOST + 10):
        times.took(PeerId(str(number)), 100)
    assert times.ms(PeerId("0")) == 0
    assert times.ms(PeerId(str(MOST + 9))) == 300


@given(st.lists(st.integers(0, 60_000), min_size=1))
def test_it_never_gets_less_than_it_takes_on_average(spans: list[int]) -> None:
    times = AnswerTimes()
    for span in spans:
        times.took(A, span)
    assert times.ms(A) >= min(spans)
