"""Standing: a newcomer starts low, and every observation moves it the right way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dms_proto.reputation import FULL, HALF_LIFE_MS, NEWCOMER, NOTHING_KNOWN, POINTS, Evidence, Kind, noted, standing


def seen(*kinds: Kind, at: int = 0) -> Evidence:
    evidence = NOTHING_KNOWN
    for kind in kinds:
        evidence = noted(evidence, kind, at)
    return evidence


def score(*kinds: Kind) -> int:
    return standing(seen(*kinds), 0).score


def test_a_newcomer_stands_at_a_quarter() -> None:
    assert standing(NOTHING_KNOWN, 10**12).score == NEWCOMER == FULL // 4
    assert str(standing(NOTHING_KNOWN, 0)) == "0.25: nothing is known of it"


def test_the_score_is_told_with_its_summands() -> None:
    stands = standing(seen(*[Kind.KEPT] * 12, Kind.FAULT), 0)
    assert stands.score == FULL * 13 // 17
    assert str(stands) == "0.76: kept 12 +12.0, fault 1 -1.0"


def test_a_new_name_is_no_better_than_an_old_one_that_kept_one_promise_in_three() -> None:
    assert score(Kind.KEPT, Kind.FAULT, Kind.FAULT) >= NEWCOMER


def test_one_wrong_answer_outweighs_a_good_name() -> None:
    good = [Kind.KEPT] * 40
    assert score(*good, Kind.WRONG) < score(*good) // 2


def test_a_bad_name_is_forgiven_as_it_fades() -> None:
    bad = seen(Kind.WRONG)
    assert standing(bad, 0).score < NEWCOMER // 10
    assert standing(bad, 12 * HALF_LIFE_MS).score > NEWCOMER * 9 // 10


@given(st.lists(st.sampled_from(Kind), max_size=30), st.sampled_from(Kind), st.integers(0, 3 * HALF_LIFE_MS))
def test_good_raises_and_bad_lowers_whatever_was_before(kinds: list[Kind], one: Kind, later: int) -> None:
    before = seen(*kinds)
    stood, stands = standing(before, later).score, standing(noted(before, one, later), later).score
    assert 0 <= stands <= FULL
    assert stands >= stood if POINTS[one] > 0 else stands <= stood
