"""The executors without root. Where the tests run as root they drop it in a child process; else the other tests have shown all this already."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.root]

PROGRAM = Path(__file__).parent / "programs" / "as_plain_user.py"
ROOT = Path(__file__).parents[3]
NOBODY = 65_534


def interpreter_for_everyone() -> str:
    """A Python of our version that a plain user can execute; ours may lie in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        done = (
            subprocess.run(
                [candidate, "-I", "-c", "pass"], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False
            )
            if can_execute(candidate)
            else None
        )
        if done is not None and done.returncode == 0:
            return candidate
    return ""


def can_execute(path: str) -> bool:
    """Whether it is there, and a plain user can get to it."""
    parents = Path(path).parents
    return Path(path).exists() and all(parent.stat().st_mode & 0o001 for parent in parents)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("these tests run as a plain user already")
    interpreter = interpreter_for_everyone()
    if not interpreter:
        pytest.skip("no Python of this version that a plain user can execute")
    if not can_execute(str(PROGRAM)):
        pytest.skip("these sources lie in a directory that a plain user cannot enter")
    home = Path("/var/tmp") / f"dms-plain-{os.getpid()}"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    paths = [str(ROOT), str(ROOT / "proto"), str(ROOT / "actors"), *site.getsitepackages()]
    try:
        done = subprocess.run(
            [interpreter, str(PROGRAM), str(home)],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env={"PYTHONPATH": ":".join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)
    if done.returncode != 0 and "ModuleNotFoundError" in done.stderr:
        pytest.skip(f"that Python lacks our dependencies: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
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
