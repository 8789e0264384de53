"""Attacks by real programs in the real sandbox, on a node that is root and on one that is not: each test names what one of them may see.

`programs/attacks.py` is the table.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dms.testing.plain_user import run_as_plain_user

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parent / "programs"
ATTACKS = runpy.run_path(str(PROGRAMS / "attacks.py"))["ATTACKS"]


@pytest.fixture(scope="module", params=["the node as it is", "a plain user's node", "a job with ports"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not any(Path(place, "python3").exists() for place in ("/usr/bin", "/usr/local/bin")):
        pytest.skip("no python3 below /usr to run inside")
    if request.param == "a plain user's node":
        return run_as_plain_user(PROGRAMS / "attacked_node.py")
    home = tmp_path_factory.mktemp("attacked")
    program = [sys.executable, str(PROGRAMS / "attacked_node.py"), str(home)]
    program += ["8080"] if request.param == "a job with ports" else []
    done = subprocess.run(program, capture_output=True, text=True, timeout=110, check=False)
    if "executor_unavailable" in done.stderr:
        pytest.skip(f"no sandbox on this machine: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_sees_no_more_than_it_may(found: dict[str, Any], attack: str) -> None:
    _, allowed = ATTACKS[attack]
    assert found["seen"][attack] in allowed


def test_of_what_a_job_leaves_only_its_regular_files_come_home(found: dict[str, Any]) -> None:
    assert found["outputs"] == {"out.file": len("harmless"), "out.hard": len("harmless")}


def test_no_job_is_the_hosts_root_and_no_two_are_one_user(found: dict[str, Any]) -> None:
    users = [set(ids) for ids in found["users"]]
    assert all(len(ids) == 1 for ids in users)
    assert {"0"} not in users
    if os.geteuid() == 0 and users[0] != {"65534"}:  # a plain user's node has but its own user
        assert users[0] != users[1]
