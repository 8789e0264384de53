"""Among strangers of whom one in five lies: what gets past the checks, what they cost, and who is blamed. In full: python -m bench verification."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.market.auction_events import BenchmarkChecked
from dms_proto.market.auction_terms import SpotCheck
from dms_proto.messages import Phase
from dms_proto.reputation import Kind
from dms_proto.sim.boasters import CLAIM, caught_after
from dms_proto.sim.crowd import EVERY_HABIT, Figures, Habit, Plan, simulate
from dms_proto.sim.requester import Requester
from dms_proto.verification.spot_check import SpotChecks
from dms_proto.verification.spot_work import ROUND_US, answer_in, rounds_for
from dms_proto.work import Ending, EndReason

SEEDS = range(2)
SMALL = Plan(honest=40, lonely=5, colluding=5, by_luck=500, warm_up=2_500, pieces=2_000)
"""Half of the market, counted for a short while after a longer warm-up: checks go on becoming rarer until then."""
ANSWER = answer_in(b"done\n")


def of_all(plan: Plan) -> Figures:
    figures = Figures()
    for seed in SEEDS:
        figures += simulate(plan, seed)
    return figures


@pytest.mark.slow
@pytest.mark.parametrize("habits", [*((habit,) for habit in EVERY_HABIT), EVERY_HABIT], ids=" ".join)
def test_what_gets_past_the_checks_is_at_most_one_in_a_thousand_at_a_third_more_work_at_most(
    habits: tuple[Habit, ...],
) -> None:
    figures = of_all(msgspec.structs.replace(SMALL, habits=habits))
    assert figures.pieces == len(SEEDS) * SMALL.pieces
    assert figures.wrong_share <= 1e-3
    assert figures.cost <= 1.3
    assert figures.undecided <= figures.pieces // 1_000
    assert figures.accused <= figures.honest // 100


@pytest.mark.slow
def test_one_that_turns_after_a_good_life_gets_a_few_wrong_results_past_and_no_more() -> None:
    figures = of_all(msgspec.structs.replace(SMALL, habits=(Habit.TURNCOAT,)))
    turned = len(SEEDS) * (SMALL.lonely + SMALL.colluding)
    assert 0 < figures.wrong <= 4 * turned


@pytest.mark.slow
@pytest.mark.parametrize(("habit", "job"), [(Habit.TURNCOAT, 500), (Habit.EIGHTIETH, 100)])
def test_in_a_job_of_many_pieces_one_lie_that_is_seen_undoes_the_others(habit: Habit, job: int) -> None:
    figures = of_all(msgspec.structs.replace(SMALL, habits=(habit,), job=job))
    assert figures.pieces == len(SEEDS) * SMALL.pieces
    assert figures.wrong_share <= 1e-3
    assert figures.cost <= 1.3
    assert figures.undecided <= figures.pieces // 200
    assert figures.accused <= figures.honest // 100


def test_the_same_seed_gives_the_same_figures() -> None:
    plan = Plan(honest=8, lonely=1, colluding=1, warm_up=50, pieces=50)
    assert simulate(plan, 7) == simulate(plan, 7)


def test_without_liars_nobody_is_blamed() -> None:
    figures = simulate(Plan(honest=20, lonely=0, colluding=0, by_luck=50, warm_up=300, pieces=300), 1)
    assert (figures.wrong, figures.accused, figures.undecided) == (0, 0, 0)


@pytest.mark.parametrize("habit", [Habit.ALWAYS, Habit.SLEEPER])
def test_liars_do_get_past_before_they_are_known(habit: Habit) -> None:
    """The simulation can fail: strangers that are trusted at once are believed."""
    plan = Plan(honest=0, lonely=0, colluding=20, habits=(habit,), by_luck=0, warm_up=0, pieces=600)
    assert simulate(plan, 1).wrong > 100


def test_one_that_claims_twice_its_speed_is_caught() -> None:
    caught = [caught_after(CLAIM // 2, awards=60, seed=seed) for seed in range(300)]
    assert sum(award is not None for award in caught) >= 0.99 * len(caught)


def test_an_honest_one_with_noisy_neighbours_is_not_blamed() -> None:
    blamed = [caught_after(CLAIM, awards=300, seed=seed) for seed in range(300)]
    assert sum(award is not None for award in blamed) <= 0.01 * len(blamed)


def test_an_honest_one_that_its_owner_uses_most_of_the_time_is_not_blamed() -> None:
    blamed = [caught_after(CLAIM, awards=300, seed=seed, busy_share=0.7, sees_it=True) for seed in range(300)]
    assert sum(award is not None for award in blamed) <= 0.01 * len(blamed)


@pytest.mark.parametrize("truth", [CLAIM // 2, CLAIM])
def test_the_auction_machine_comes_to_the_same_as_the_rule_alone(truth: int) -> None:
    for seed in range(5):
        by_rule = caught_after(truth, awards=30, seed=seed, busy_share=0.5)
        assert caught_after(truth, awards=30, seed=seed, busy_share=0.5, judge=by_machine) == by_rule


def by_machine(before: SpotChecks, claimed: int, measured: int, now: int) -> tuple[SpotChecks, Kind | None]:
    """A check by a whole request: bid for, committed, run for as long as a core of score `measured` takes, judged."""
    rounds = rounds_for(claimed)
    request = Requester(spot_check=SpotCheck("a", claimed, rounds, before, ANSWER), bids_wanted=1)  # type: ignore[arg-type]
    request.now = now
    allocation = request.hold("a")
    request.reports("a", allocation, Phase.RUNNING)
    request.now += rounds * ROUND_US // max(1, measured)
    ended = Ending(EndReason.COMPLETED, 0)
    request.reports("a", allocation, Phase.ENDED, ending=ended, log_digests=(ANSWER, ANSWER))
    (finding,) = (event for event in request.log if isinstance(event, BenchmarkChecked))
    return msgspec.structs.replace(finding.checks, at=now), finding.kind
