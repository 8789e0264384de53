from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.store.events import EventStore
from dms.testing.event_log_contract import StepClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


@pytest.fixture
async def store(path: Path, clock: StepClock) -> AsyncIterator[EventStore]:
    async with await EventStore.open(path, clock=clock) as opened:
        yield opened
