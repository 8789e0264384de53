"""What holds for every test, and the market of whole nodes that several files share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from dms.testing.whole_market import WholeMarket, marked_job, whole_market
from dms_proto.units import GIB

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
"""Every node and every command is a process, and each would compile the whole program anew."""

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * GIB
"""More than all tests together have there at once."""
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
"""Tests keep their files in memory: every node waits for the disk at each step, and no test takes the power away (docs/decisions/0067)."""

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
"""No time limit for an example: machines that run tests are shared, and a slow example is no wrong one."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """What failed, once more and briefly, as the last lines: with `CI` set values are shown whole, and of a long log often only the end is kept."""
    yield
    for report in terminalreporter.getreports("failed") + terminalreporter.getreports("error"):
        said = getattr(getattr(report.longrepr, "reprcrash", None), "message", str(report.longrepr))
        terminalreporter.write_line(f"failed: {report.nodeid}: {said.partition(chr(10))[0][:300]}")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    """One requester and one provider, for all tests of a file. A file that wants another market has its own."""
    with whole_market(tmp_path_factory.mktemp("market")) as market:
        yield market


@pytest.fixture
def mark(market: WholeMarket) -> Iterator[str]:
    """The mark of one job, whose processes must all be gone when the test is over."""
    with marked_job(market) as mark:
        yield mark
