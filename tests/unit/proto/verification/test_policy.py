"""When results are checked: always at first, then ever more rarely, and never foreseeably."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.verification.chance import is_drawn
from dms_proto.verification.policy import (
    CANARY_ONE_IN,
    PROVEN,
    RAREST,
    WARY,
    Policy,
    Verification,
    check_one_in,
    is_canary_due,
    is_check_due,
    is_trusted,
)

SEED = b"secret"


def share(streak: int, seed: bytes = SEED, times: int = 20_000) -> float:
    return sum(is_check_due(streak, seed, number) for number in range(times)) / times


@pytest.mark.parametrize("streak", [0, 1, PROVEN, WARY])
def test_a_provider_is_checked_always_at_first(streak: int) -> None:
    assert not is_trusted(streak)
    assert share(streak, times=100) == 1


@pytest.mark.parametrize(("streak", "one_in"), [(2 * WARY, 4), (3 * WARY, 9), (10 * WARY, RAREST)])
def test_then_ever_more_rarely_but_never_less_than_the_rarest(streak: int, one_in: int) -> None:
    assert is_trusted(streak)
    assert share(streak) == pytest.approx(1 / one_in, rel=0.1)


@given(st.integers(min_value=0, max_value=10_000))
def test_who_was_right_more_often_is_not_checked_more_often(streak: int) -> None:
    assert 1 <= check_one_in(streak) <= check_one_in(streak + 1) <= RAREST


def test_a_draw_can_be_done_over_and_another_seed_or_purpose_draws_anew() -> None:
    def draws(seed: bytes, *names: object) -> list[bool]:
        return [is_drawn(seed, 2, *names, number) for number in range(64)]

    assert draws(SEED) == draws(SEED)
    assert draws(SEED) != draws(b"other")
    assert draws(SEED) != draws(SEED, "canary")


def test_what_happens_every_time_is_drawn_every_time() -> None:
    assert all(is_drawn(SEED, 1, number) for number in range(100))


def test_a_canary_flies_beside_every_so_many_pieces() -> None:
    flown = sum(is_canary_due(SEED, number) for number in range(20_000)) / 20_000
    assert flown == pytest.approx(1 / CANARY_ONE_IN, rel=0.1)


@pytest.mark.parametrize(
    ("verification", "streak", "copies"),
    [
        (Verification(), 0, 1),
        (Verification(Policy.REPLICATE, 3), 0, 3),
        (Verification(Policy.REPLICATE, 3), 10_000, 3),
        (Verification(Policy.ADAPTIVE), WARY, 2),
    ],
)
def test_on_how_many_nodes_a_piece_runs_at_first(verification: Verification, streak: int, copies: int) -> None:
    assert verification.first_copies(streak, SEED, 0) == copies


def test_a_trusted_providers_answer_is_mostly_taken_as_it_is() -> None:
    adaptive = Verification(Policy.ADAPTIVE)
    assert {adaptive.first_copies(10 * WARY, SEED, number) for number in range(100)} == {1, 2}


@pytest.mark.parametrize(("copies", "quorum"), [(2, 2), (3, 2), (4, 3), (5, 3)])
def test_most_of_the_copies_must_agree(copies: int, quorum: int) -> None:
    assert Verification(Policy.REPLICATE, copies).quorum == quorum
