"""Both event stores keep the contract of the port."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dms.store.events import EventStore
from dms.testing.event_log_contract import EventLogContract, StepClock
from dms_actors.testing.event_log import MemoryEventLog


class TestEventStore(EventLogContract):
    @pytest.fixture
    async def log(self, tmp_path: Path, clock: StepClock) -> AsyncIterator[EventStore]:
        async with await EventStore.open(tmp_path / "events.db", clock=clock) as store:
            yield store


class TestMemoryEventLog(EventLogContract):
    @pytest.fixture
    def log(self, clock: StepClock) -> MemoryEventLog:
        return MemoryEventLog(clock)
