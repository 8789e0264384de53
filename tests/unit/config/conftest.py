"""No test here asks the machine's own keyring."""

from __future__ import annotations

import pytest

from dms.testing.keyrings import server


@pytest.fixture(autouse=True)
def no_keyring() -> None:
    server()
