"""Results that are checked, by whole nodes: what the owner sees is the accepted result, once; or that there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.devnet.network import DevNode
from dms.testing.whole_market import PROVIDER, REQUESTER, WholeMarket, wait_until, whole_market

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]
CHECKED = ("run", "--verify", "replicate", "--apart", "nodes")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    other = msgspec.structs.replace(PROVIDER, name="other")
    with whole_market(tmp_path_factory.mktemp("checked"), REQUESTER, PROVIDER, other) as open_market:
        wait_until(lambda: len(_workers(open_market)) == 2, "both providers are known")
        yield open_market


def _workers(market: WholeMarket) -> list[Any]:
    return [peer for peer in market.json("peers", "list")["peers"] if peer["state"] == "connected"]


def let_go(provider: DevNode) -> None:
    """Lets every job of a provider go on to its end."""
    for directory in provider.home.jobs.glob("a-*"):
        with suppress(OSError):  # it has just ended
            (directory / "go").touch()


def shown(market: WholeMarket) -> Any:
    return market.json("job", "show", market.last_job()["job_id"])


def test_a_result_that_two_nodes_agree_on_is_the_jobs_and_is_shown_once(market: WholeMarket, tmp_path: Path) -> None:
    script = "echo hello; echo 42 > out"
    done = market.dms(*CHECKED, "-o", "out", "--into", str(tmp_path), "--", "sh", "-c", script)

    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert (tmp_path / "out").read_text() == "42\n"
    (verdict,) = shown(market)["verdicts"]
    assert len(verdict["right"]) == 2
    assert verdict["wrong"] == []
    assert shown(market)["summary"]["done"] == 1


def test_a_result_on_which_nobody_agrees_is_not_shown_and_the_job_is_undecided(
    market: WholeMarket, tmp_path: Path
) -> None:
    script = "echo hello; cat /proc/sys/kernel/random/uuid > out"
    done = market.dms(*CHECKED, "-o", "out", "--into", str(tmp_path), "--", "sh", "-c", script)

    assert (done.returncode, done.stdout) == (125, "")
    assert "undecided" in done.stderr
    assert not (tmp_path / "out").exists()
    assert shown(market)["verdicts"][0]["why"].startswith("2 answers; 1 of 2 votes for the same one")


def test_results_that_differ_by_rounding_are_accepted_where_numbers_are_compared(
    market: WholeMarket, tmp_path: Path
) -> None:
    script = "echo 3.1415926$(od -An -N2 -tu2 /dev/urandom | tr -d ' ') > out"
    done = market.dms(
        *CHECKED, "--result-comparator", "numbers", "-o", "out", "--into", str(tmp_path), "--", "sh", "-c", script
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text().startswith("3.1415926")
    assert len(shown(market)["verdicts"][0]["right"]) == 2
    file = tmp_path / "job.audit"
    market.dms("audit", "export", market.last_job()["job_id"], "--out", str(file))
    assert market.json("audit", "verify", str(file))["faults"] == []


def test_a_comparator_that_is_not_there_is_refused_with_those_that_are(market: WholeMarket) -> None:
    done = market.dms(*CHECKED, "--result-comparator", "closest", "--dry-run", "--", "true")

    assert done.returncode != 0
    assert "no comparator 'closest' for results is installed" in done.stderr
    assert "hash, json, lines, numbers" in done.stderr


def test_the_exit_code_is_that_of_the_accepted_result(market: WholeMarket) -> None:
    assert market.dms(*CHECKED, "--", "sh", "-c", "exit 3").returncode == 3


def test_copies_survive_the_death_of_the_node_that_asked(market: WholeMarket, tmp_path: Path) -> None:
    flag = f"wait-{tmp_path.name}"
    script = f"while [ ! -e go ]; do sleep 0.05; done; echo {flag} > out"
    with market.started(*CHECKED, "-o", "out", "--into", str(tmp_path), "--", "sh", "-c", script) as process:
        wait_until(lambda: market.last_job()["running"] == 2, "both copies run")
        market["requester"].kill()
        market["requester"].launch()
        market["requester"].wait_ready()
        for provider in ("provider", "other"):
            let_go(market[provider])
        assert process.wait(60) == 0

    assert (tmp_path / "out").read_text() == f"{flag}\n"
    assert len(shown(market)["verdicts"]) == 1


def test_the_audit_file_of_a_checked_job_has_no_fault(market: WholeMarket, tmp_path: Path) -> None:
    assert market.dms(*CHECKED, "--", "true").returncode == 0
    file = tmp_path / "job.audit"
    market.dms("audit", "export", market.last_job()["job_id"], "--out", str(file))

    report = market.json("audit", "verify", str(file))

    assert report["faults"] == []
    assert len(report["agreements"]) == 2
