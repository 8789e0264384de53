"""dms service and dms pool against a node in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dms.config.paths import Home
from dms.testing.commands import Dms
from dms.testing.node_jobs import Script


def test_a_service_is_installed_from_a_kind_and_offered(dms: Dms, tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text("x")
    install = ("service", "install", "python-script", "upper", "-p", f"script={tmp_path}/serve.py", "-p", "port=8080")
    assert dms(*install).stdout == "python-script/upper: installed; dms service start python-script upper offers it\n"
    assert dms("service", "start", "python-script", "upper").stdout == "python-script/upper: calls are taken\n"
    (listed,) = json.loads(dms("service", "list", "--json").stdout)["services"]
    assert (listed["entry"], listed["offered"], listed["task"]["ports"]) == ("upper", True, [8080])
    assert "offered" in dms("service", "list").stdout
    assert dms("service", "stop", "python-script", "upper").stdout == "python-script/upper: no more calls are taken\n"
    assert dms("service", "remove", "python-script", "upper").stdout == "python-script/upper: removed\n"
    unknown = dms("service", "start", "python-script", "upper")
    assert (unknown.exit_code, "no service python-script/upper is installed here" in unknown.stderr) == (1, True)


def test_mistakes_in_parameters_are_told_before_anything_is_installed(dms: Dms) -> None:
    result = dms("service", "install", "python-script", "upper", "-p", "prt=8080")
    assert "prt: no such field; did you mean 'port'?" in result.stderr
    assert json.loads(dms("service", "list", "--json").stdout)["services"] == []


def test_a_call_carries_standard_input_there_and_the_answer_back(
    dms_with: Callable[[Sequence[Script]], Dms], home: Home
) -> None:
    dms_with(())
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from dms.cli import main; main()",
            "--home",
            str(home.root),
            "service",
            "call",
            "python-script",
            "upper",
        ],
        input=b"hello\x00" * 50_000,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == b"hello\x00" * 50_000


def test_why_a_call_went_to_a_node_is_told(dms: Dms) -> None:
    told = dms("service", "explain").stdout
    for words in (
        "of those that let the call in it is the nearest",
        "0.3 ms",
        "too many wait for it",
        "computed again, is the same",
        "an hour at work costs 3 credits, and 0.00005 credits once; at most 1 credit in all were agreed",
        "its provider states 3 calls, 1.5 s at work, 0.00125 credits, of which 0.00125 credits are signed; seen here: 1.9 s; open",
    ):
        assert words in told
    assert json.loads(dms("service", "explain", "t-1", "--json").stdout)["route"]["rule"] == "nearest"
    assert dms("service", "explain", "t-2").exit_code == 1


def test_what_calls_cost_is_shown_without_a_call(dms: Dms) -> None:
    told = dms("service", "call", "python-script", "upper", "--dry-run").stdout
    for words in (
        "its calls cost nothing",
        "3.00005 credits",
        "0.05005 credits",
        "it would be agreed",
        "nothing was agreed",
    ):
        assert words in told
    dear = dms("service", "call", "python-script", "upper", "--dry-run", "--max-rate", "0", "--json").stdout
    assert [each["why_not"] for each in json.loads(dear)["prices"]] == ["its calls cost nothing", "too dear"]
    assert "--max-rate" in dms("service", "call", "python-script", "upper", "--max-rate", "many").stderr


def test_the_pool_is_shown_with_its_control_blocks(dms: Dms) -> None:
    listed = dms("pool", "list").stdout
    assert "500m cores, 64 MiB memory" in listed or "0.5 cores, 64 MiB memory" in listed
    for words in ("c-1", "ready", "upper@0123456789abcdef", "v-2", "python-script/upper"):
        assert words in listed
    shown = dms("pool", "show", "c-1").stdout
    assert "3, the last" in shown
    assert "there was no other of its kind" in shown
    assert dms("pool", "show", "c-9").exit_code == 1
