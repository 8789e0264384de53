"""A real job, exported by both of its parties, and checked by who has neither of their nodes nor one of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dms.testing.whole_market import DMS, WholeMarket, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]


def checked(file: Path, elsewhere: Path, *options: str) -> tuple[int, Any]:
    """What `dms audit verify` makes of a file, on a machine with no home: exit code and report."""
    environment = {"HOME": str(elsewhere), "DMS_HOME": str(elsewhere / "none"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*DMS, "audit", "verify", str(file), "--json", *options],
        env=environment,
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert list(elsewhere.iterdir()) == [], "it makes no home"
    return done.returncode, json.loads(done.stdout)


def test_requester_and_provider_prove_the_same_to_a_third_machine(market: WholeMarket, tmp_path: Path) -> None:
    script = "echo hello; echo 42 > a.txt"
    done = market.dms("run", "-o", "a.txt", "--into", str(tmp_path), "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    job = market.last_job()["job_id"]
    wait_until(
        lambda: market.json("events", "query", "--kind", "ReceiptReceived", node="provider")["events"],
        "the provider has the receipt",
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    reports = {}
    for node in ("requester", "provider"):
        file = tmp_path / f"{node}.audit"
        assert market.dms("audit", "export", job, "--out", str(file), node=node).returncode == 0
        code, reports[node] = checked(file, elsewhere)
        assert (code, reports[node]["faults"]) == (0, [])

    assert reports["requester"]["agreements"] == reports["provider"]["agreements"]
    (agreed,) = reports["provider"]["agreements"]
    assert agreed["is_acknowledged"]
    assert reports["requester"]["exporter"] == agreed["requester"]
    assert reports["provider"]["exporter"] == agreed["provider"]
    (run,) = agreed["runs"]
    assert (run["reason"], run["disputed"]) == ("completed", [])
    assert run["claimed"] == run["confirmed"]


def test_a_file_that_was_touched_on_its_way_is_refused(market: WholeMarket, tmp_path: Path) -> None:
    assert market.dms("run", "--", "true").returncode == 0
    file = tmp_path / "job.audit"
    assert market.dms("audit", "export", market.last_job()["job_id"], "--out", str(file)).returncode == 0
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    code, report = checked(file, elsewhere)

    assert code == 1
    assert {"code": "missing", "line": 4, "detail": "line 4 is missing"} in report["faults"]


def test_a_log_is_checked_against_what_its_provider_has_signed(market: WholeMarket, tmp_path: Path) -> None:
    script = "echo one; echo two; echo three >&2"
    done = market.dms("run", "--", "sh", "-c", script)
    assert done.returncode == 0
    file, out, err = (tmp_path / name for name in ("job.audit", "out.txt", "err.txt"))
    job = market.last_job()["job_id"]
    assert market.dms("audit", "export", job, "--out", str(file)).returncode == 0
    out.write_text(market.dms("job", "logs", job).stdout)
    err.write_text(market.dms("job", "logs", job, "--stderr").stdout)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    code, report = checked(file, elsewhere, "--log", str(out), "--log", str(err))
    streams = [[of.partition(" ")[2] for of in shown["of"]] for shown in report["shown"]]
    assert (code, streams) == (0, [["stdout"], ["stderr"]])

    out.write_text("one\ntwo!\n")
    code, report = checked(file, elsewhere, "--log", str(out), "--log", str(err))
    assert (code, [bool(shown["of"]) for shown in report["shown"]]) == (1, [False, True])


def test_a_second_price_is_proven_to_a_third_machine(market: WholeMarket, tmp_path: Path) -> None:
    """With one bidder it is the maximum: the same messages, and a price that anybody can compute."""
    done = market.dms("run", "--pricing", "second-price", "--max-price", "0.5", "--", "true")
    assert done.returncode == 0, done.stderr
    job = market.last_job()["job_id"]
    assert market.json("job", "decision", job)["award"] == {"price": 500_000}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for node in ("requester", "provider"):
        file = tmp_path / f"{node}.audit"
        assert market.dms("audit", "export", job, "--out", str(file), node=node).returncode == 0
        code, report = checked(file, elsewhere)
        assert (code, report["faults"]) == (0, [])
        (agreed,) = report["agreements"]
        assert agreed["price"] == 500_000
        assert "all that was offered" in agreed["because"]
