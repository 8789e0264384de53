"""What the tests of a node among peers that mean harm share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet() -> Iterator[None]:
    """Nothing is logged: each of a thousand refusals would be."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
