"""``python -m dms.sim``: exit codes, output, progress."""

import json
from collections import Counter

import pytest

from dms.sim.__main__ import main
from dms.sim.campaign import Failure, Outcome, run_campaign
from dms.sim.output import as_json, as_text
from dms_proto.sim.scenarios import SCENARIOS


def test_seeds_that_hold_exit_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "4", "--jobs", "1"]) == 0

    assert "every invariant held" in capsys.readouterr().out


def test_json_says_what_was_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scenario", "calm", "--seed", "3", "--json", "--jobs", "1"]) == 0

    outcome = json.loads(capsys.readouterr().out)
    assert outcome["simulations"] == 1
    assert outcome["failures"] == []
    assert outcome["steps"] > 100


def test_an_unknown_scenario_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--scenario", "sunny"])

    assert caught.value.code == 2
    assert "calm" in capsys.readouterr().err


def test_seeds_take_turns_through_the_scenarios() -> None:
    shown: list[tuple[int, int]] = []
    work = [(name, 5) for name in list(SCENARIOS)[:3]]

    outcome = run_campaign(work, progress=lambda done, failed: shown.append((done, failed)))

    assert shown == [(1, 0), (2, 0), (3, 0)]
    assert outcome.failures == []


def test_processes_find_the_same_as_one() -> None:
    work = [("calm", seed) for seed in range(4)]

    assert run_campaign(work, processes=2) == run_campaign(work)


def test_a_failure_shows_seed_scenario_and_trace() -> None:
    failure = Failure("stormy", 17, "capacity law", "n1: …", "Plan(…)", ("  1 n0 book …", "  2 n1 book …"))
    outcome = Outcome(10, Counter(), [failure])

    text = as_text(outcome, 4, 1.0)

    assert "seed 17, scenario stormy: capacity law" in text
    assert "dms sim --scenario stormy --seed 17" in text
    assert text.index("  1 n0") < text.index("  2 n1")
    assert as_json(outcome, 4, 1.0)["failures"][0]["trace"] == list(failure.trace)  # type: ignore[index]
