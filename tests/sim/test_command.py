"""``python -m dms.sim``: exit codes, output, progress."""

import json
from collections import Counter

import pytest

from dms.sim.__main__ import main
from dms.sim.campaign import Failure, Outcome, run_campaign
from dms.sim.city import run_city
from dms.sim.output import as_json, as_text
from dms_proto.market import ledger
from dms_proto.sim.scenarios import SCENARIOS
from dms_proto.units import MINUTE, SECOND


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


def test_a_market_at_its_daily_work_is_told_with_what_it_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--nodes", "12", "--hours", "0.1", "--every", "3"]) == 0

    shown = capsys.readouterr().out
    assert shown.startswith("12 nodes, 0.1 h, ")
    assert "messages per job" in shown
    assert "every invariant held" in shown


def test_a_market_at_its_daily_work_ends_every_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--nodes", "12", "--hours", "0.1", "--every", "3", "--json", "--seed", "4"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["nodes"], told["simulated_ms"], told["violation"]) == (12, 360_000, "")
    assert sum(told["reasons"].values()) == told["jobs"] > 5


def test_messages_per_job_stay_flat_as_the_network_grows() -> None:
    def cost(nodes: int) -> float:
        return run_city(nodes, 3 * MINUTE, every_ms=nodes * 2 * SECOND, gpu_jobs=0).messages_per_job

    assert cost(150) <= 1.5 * cost(10)


def test_an_invariant_that_breaks_in_a_city_is_told_and_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger.Ledger, "check", lambda _self: (_ for _ in ()).throw(ValueError("lost a core")))

    assert main(["--nodes", "3", "--hours", "0.02"]) == 1
    assert "BROKEN: capacity law" in capsys.readouterr().out


def test_a_market_at_its_daily_work_is_no_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--nodes", "3", "--scenario", "calm"])

    assert caught.value.code == 2
    assert "not a scenario" in capsys.readouterr().err
