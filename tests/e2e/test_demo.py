"""The demo is a promise of the README: it does what it says, with real processes, and leaves nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.libp2p
@pytest.mark.timeout(400)
def test_the_demo_shows_a_whole_market_at_work(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "demo.py"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for told in (
        "3 bid",
        "1 bid",
        "would take memory",
        "completed",
        "16 text/words.txt",
        "the same order",
        "intact:",
        "hello from job",
        "provider-1 $ dms alloc list",
    ):
        assert told in done.stdout, f"{told!r} is missing from:\n{done.stdout}"
    assert _processes_with(str(tmp_path)) == []


def _processes_with(path: str) -> list[str]:
    """Command lines of processes that name `path`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if path in line:
            found.append(line)
    return found
