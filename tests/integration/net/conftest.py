from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from dms.testing.live_networks import Crew


@pytest_asyncio.fixture
async def crew() -> AsyncIterator[Crew]:
    """Starts network processes; all are stopped at the end of the test."""
    crew = Crew()
    yield crew
    await crew.stop()
