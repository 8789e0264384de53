"""Among strangers of whom one in five lies: what gets past the checks, what they cost, and who is blamed. In full: python -m bench verification."""

from __future__ import annotations

import pytest

from dms_proto.sim.boasters import CLAIM, caught_after
from dms_proto.sim.crowd import Figures, Habit, Plan, simulate

SEEDS = range(3)
SMALL = Plan(honest=40, lonely=5, colluding=5, warm_up=3_500, pieces=2_000)


def of_all(plan: Plan) -> Figures:
    figures = Figures()
    for seed in SEEDS:
        figures += simulate(plan, seed)
    return figures


@pytest.mark.slow
def test_what_gets_past_the_checks_is_at_most_one_in_a_thousand_at_a_third_more_work_at_most() -> None:
    figures = of_all(SMALL)
    assert figures.pieces == len(SEEDS) * SMALL.pieces
    assert figures.wrong_share <= 1e-3
    assert figures.cost <= 1.3
    assert figures.undecided <= figures.pieces // 1_000
    assert figures.accused <= figures.honest // 100


def test_the_same_seed_gives_the_same_figures() -> None:
    plan = Plan(honest=8, lonely=1, colluding=1, warm_up=50, pieces=50)
    assert simulate(plan, 7) == simulate(plan, 7)


def test_without_liars_nobody_is_blamed() -> None:
    figures = simulate(Plan(honest=20, lonely=0, colluding=0, warm_up=300, pieces=300), 1)
    assert (figures.wrong, figures.accused, figures.undecided) == (0, 0, 0)


@pytest.mark.parametrize("habit", [Habit.ALWAYS, Habit.SLEEPER])
def test_liars_do_get_past_before_they_are_known(habit: Habit) -> None:
    """The simulation can fail: strangers that are trusted at once are believed."""
    plan = Plan(honest=0, lonely=0, colluding=20, habits=(habit,), warm_up=0, pieces=300)
    assert simulate(plan, 1).wrong > 100


def test_one_that_claims_twice_its_speed_is_caught() -> None:
    caught = [caught_after(CLAIM // 2, awards=60, seed=seed) for seed in range(300)]
    assert sum(award is not None for award in caught) >= 0.99 * len(caught)


def test_an_honest_one_with_noisy_neighbours_is_not_blamed() -> None:
    blamed = [caught_after(CLAIM, awards=300, seed=seed) for seed in range(300)]
    assert sum(award is not None for award in blamed) <= 0.01 * len(blamed)
