"""What holds of containers holds for a node and an engine without rights: the same tests, by a plain user with rootless podman."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.testing.rootless import run_tests

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
TESTS = sorted(path.name for path in HERE.glob("test_*.py") if path != Path(__file__))


@pytest.mark.parametrize("tests", TESTS)
def test_what_holds_of_containers_holds_without_root(tests: str) -> None:
    run_tests(HERE / tests, timeout_s=280)
