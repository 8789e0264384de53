"""The command line against a node in memory, behind a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dms.config.paths import Home
from dms.testing.commands import Dms
from dms.testing.node_jobs import Script
from dms.testing.served import served_node


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def dms_with(home: Home) -> Iterator[Callable[[Sequence[Script]], Dms]]:
    """Starts a node whose jobs follow the given scripts."""
    open_nodes = []

    def start(scripts: Sequence[Script]) -> Dms:
        context = served_node(home, scripts)
        open_nodes.append(context)
        return Dms(context.__enter__())

    yield start
    for context in open_nodes:
        context.__exit__(None, None, None)


@pytest.fixture
def dms(dms_with: Callable[[Sequence[Script]], Dms]) -> Dms:
    return dms_with(())
