"""Programs run as a user without rights, for tests that run as root: what they show must hold for a node that is nobody special, too."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
NOBODY: Final = 65_534


def run_as_plain_user(program: Path, *, timeout_s: float = 110.0) -> dict[str, Any]:
    """What a program prints as JSON when a plain user runs it. It gets a directory of its own as its argument.

    Skips the test where that cannot be: no root to drop, no interpreter or source that a plain user can reach.
    """
    if os.geteuid() != 0:
        pytest.skip("these tests run as a plain user already")
    interpreter = _interpreter_for_everyone()
    if not interpreter:
        pytest.skip("no Python of this version that a plain user can execute")
    if not _can_execute(str(program)):
        pytest.skip("these sources lie in a directory that a plain user cannot enter")
    paths = [str(ROOT), str(ROOT / "proto"), str(ROOT / "actors"), *site.getsitepackages()]
    # Not below pytest's own directory, which other users may not enter.
    with tempfile.TemporaryDirectory(prefix="dms-plain-", dir="/var/tmp", ignore_cleanup_errors=True) as home:
        os.chown(home, NOBODY, NOBODY)
        done = subprocess.run(
            [interpreter, str(program), home],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env={"PYTHONPATH": ":".join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    if done.returncode != 0 and "ModuleNotFoundError" in done.stderr:
        pytest.skip(f"that Python lacks our dependencies: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _interpreter_for_everyone() -> str:
    """A Python of our version that a plain user can execute; ours may lie in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        done = (
            subprocess.run(
                [candidate, "-I", "-c", "pass"], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False
            )
            if _can_execute(candidate)
            else None
        )
        if done is not None and done.returncode == 0:
            return candidate
    return ""


def _can_execute(path: str) -> bool:
    """Whether it is there, and a plain user can get to it."""
    parents = Path(path).parents
    return Path(path).exists() and all(parent.stat().st_mode & 0o001 for parent in parents)
