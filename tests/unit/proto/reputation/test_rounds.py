"""Providers that are asked and never answer: waited for a few times, and again once they answer in time."""

from __future__ import annotations

from dms_proto.ids import PeerId, RequestId, request_id
from dms_proto.reputation.rounds import BORNE, MOST, Rounds

A, B = PeerId("a"), PeerId("b")
WINDOW = 250
START = 1_000_000


def job(number: int) -> RequestId:
    return request_id(number.to_bytes(16, "big"))


def asked(rounds: Rounds, times: int, now: int = START) -> int:
    """So many jobs, one after the other. Gives when the window of the last is over."""
    for _ in range(times):
        rounds.asked(job(now), 0, (A,), now, WINDOW)
        now += WINDOW
    return now


def test_who_leaves_a_few_rounds_unanswered_is_not_waited_for() -> None:
    rounds = Rounds()
    now = asked(rounds, BORNE - 1)
    assert rounds.unanswered((A, B), now) == {}
    now = asked(rounds, 1, now)
    assert rounds.unanswered((A, B), now) == {A: BORNE}


def test_a_round_counts_when_its_window_is_over() -> None:
    rounds = Rounds()
    now = asked(rounds, BORNE)
    assert rounds.unanswered((A,), now - 1) == {}


def test_an_answer_in_time_is_the_end_of_it_and_one_that_is_late_is_none() -> None:
    rounds = Rounds()
    now = asked(rounds, BORNE)
    rounds.asked(job(1), 0, (A, B), now, WINDOW)
    rounds.answered(A, job(1), 0, now + WINDOW + 1)
    assert rounds.unanswered((A,), now + WINDOW) == {A: BORNE + 1}
    rounds.asked(job(1), 1, (A,), now + WINDOW, WINDOW)
    rounds.answered(A, job(1), 0, now + WINDOW + 1)
    assert A in rounds.unanswered((A,), now + WINDOW), "that was an answer to the round before"
    rounds.answered(A, job(1), 1, now + 2 * WINDOW)
    assert rounds.unanswered((A,), now + 2 * WINDOW) == {}


def test_rounds_that_were_under_way_together_are_one() -> None:
    """Of a hundred jobs submitted at once, a moment in which a machine was busy leaves a hundred rounds unanswered."""
    rounds = Rounds()
    for number in range(100):
        rounds.asked(job(number), 0, (A,), START + number, WINDOW)
    assert rounds.unanswered((A,), START + 2 * WINDOW) == {}


def test_nobody_answers_what_was_not_asked() -> None:
    rounds = Rounds()
    now = asked(rounds, BORNE)
    rounds.answered(A, job(7), 0, now)
    assert rounds.unanswered((A,), now) == {A: BORNE}


def test_what_is_remembered_is_bounded() -> None:
    rounds = Rounds()
    rounds.asked(job(0), 0, [PeerId(f"p{number}") for number in range(2 * MOST)], START, WINDOW)
    assert len(rounds) == MOST
