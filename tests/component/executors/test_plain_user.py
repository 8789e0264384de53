"""The executors without root. Where the tests run as root they drop it in a child process; else the other tests have shown all this already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dms.testing.plain_user import run_as_plain_user

pytestmark = [pytest.mark.slow, pytest.mark.root]

PROGRAM = Path(__file__).parent / "programs" / "as_plain_user.py"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    result = run_as_plain_user(PROGRAM)
    if "sandbox" not in result["offers"]:
        pytest.skip(f"no sandbox for a plain user here: {result['reasons']}")
    return result


def test_the_offer_claims_only_what_can_be_held(found: dict[str, Any]) -> None:
    offer = found["offers"]["sandbox"]
    assert {"processes", "disk", "wall", "output"} <= set(offer["limits"])
    if offer["meter"] != "exact":
        assert "cpu" not in offer["limits"]
        assert "memory" not in offer["limits"]


def test_a_job_runs(found: dict[str, Any]) -> None:
    assert found["jobs"]["true"]["reason"] == "completed"
    assert found["jobs"]["true"]["cpu_us"] > 0


def test_a_job_sees_neither_user_nor_environment_nor_files_of_the_node(found: dict[str, Any]) -> None:
    lines = found["jobs"]["id"]["output"].split()
    assert lines[0] == "10000"
    assert not [line for line in lines if "PYTHON" in line]
    assert not {"home", "root", "var", "work"} & set(lines)


def test_a_job_gets_its_secrets(found: dict[str, Any]) -> None:
    assert found["jobs"]["secret"]["output"] == "500 job\n400 job\nof a file\nof a variable\n"


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("memory", "out_of_memory"),
        ("processes", "exit_nonzero"),
        ("disk", "disk_limit"),
        ("stop", "cancelled"),
        ("closed", "completed"),
    ],
)
def test_limits_hold(found: dict[str, Any], job: str, reason: str) -> None:
    assert found["jobs"][job]["reason"] == reason, found["jobs"][job]
    assert found["jobs"][job]["readable"]


def test_webassembly_runs(found: dict[str, Any]) -> None:
    assert "wasm" in found["offers"], found["reasons"]
    assert found["jobs"]["wasm"]["reason"] == "completed"
