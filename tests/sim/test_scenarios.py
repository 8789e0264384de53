"""What scenarios bring about. That every invariant holds in them is shown in test_seeds.py."""

import pytest

from dms_proto.sim.scenarios import plan_of
from dms_proto.sim.simulation import Simulation


def test_the_same_plan_and_seed_give_the_same_history() -> None:
    def history() -> list[str]:
        lines: list[str] = []
        Simulation(plan_of("everything", 3), 3, trace=lines.append).run()
        return lines

    first = history()

    assert len(first) > 500
    assert history() == first


def test_another_seed_gives_another_history() -> None:
    plan = plan_of("everything", 3)

    assert Simulation(plan, 1).run() != Simulation(plan, 2).run()


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        ("calm", "completed"),
        ("failing-jobs", "exit_nonzero"),
        ("failing-jobs", "retries_exhausted"),
        ("cancel-storm", "cancelled"),
        ("cancel-storm", "deadline"),
        ("impossible", "impossible"),
        ("price-floors", "price_too_low"),
        ("own-outage", "no_peers"),
    ],
)
def test_a_scenario_brings_about_what_it_is_for(scenario: str, reason: str) -> None:
    reasons = {str(found) for seed in range(12) for found in Simulation(plan_of(scenario, seed), seed).run().reasons}

    assert reason in reasons


@pytest.mark.parametrize("seed", range(4))
def test_a_burst_of_jobs_whose_acknowledgements_come_late_is_done_whole(seed: int) -> None:
    """Each of its providers was taken for silent by many jobs at once, and nobody was left to ask."""
    assert set(map(str, Simulation(plan_of("bursts", seed), seed).run().reasons)) == {"completed"}
