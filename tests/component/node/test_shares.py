"""Equal nodes get the same share of a node's tasks, by the preferences it has by default, and as well where it wants just that."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.config.settings import Provider
from dms.jobs.resolve import BIDS_TO_SHARE
from dms.jobs.spec import JobSpec
from dms.node.api import LocalApi
from dms.rpc.api.jobs import SubmitParams, WaitParams
from dms.testing.market import CONFIG, Market
from dms_proto.market.preferences import EVENLY, PRESETS
from dms_proto.work import EndReason

from .conftest import spec

pytestmark = pytest.mark.slow
TASKS = 400
OFF = 15
A_FEW = 4
"""At once: so few that no node is ever busy, and the ranking alone decides."""
BY_DEFAULT = spec("print", "x")
EVENLY_SHARED = spec("print", "x", preferences=PRESETS[EVENLY](), bids_wanted=BIDS_TO_SHARE)


def only_asks(index: int) -> dict[str, Any]:
    """Options: the first node takes no work; the others are equal."""
    return {"config": msgspec.structs.replace(CONFIG, provider=Provider(enabled=False))} if index == 0 else {}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[LocalApi]:
    async with Market(tmp_path, 5, build=only_asks) as market:
        api = await LocalApi.start(market.nodes[0].services)
        try:
            yield api
        finally:
            await api.close()


@pytest.mark.parametrize(
    ("wanted", "at_once"),
    [(BY_DEFAULT, A_FEW), (BY_DEFAULT, TASKS), (EVENLY_SHARED, A_FEW)],
    ids=["a few at a time", "all at once", "evenly"],
)
async def test_four_equal_nodes_get_a_quarter_each_of_400_tasks(api: LocalApi, wanted: JobSpec, at_once: int) -> None:
    won: Counter[str] = Counter()
    turn = asyncio.Semaphore(at_once)

    async def task() -> None:
        async with turn:
            job = (await api.job_submit(SubmitParams(wanted))).job_id
            view = await api.job_wait(WaitParams(job, 60_000))
        assert view.summary.reason is EndReason.COMPLETED, view.summary
        won[view.slots[0].attempts[-1].provider] += 1

    await asyncio.gather(*(task() for _ in range(TASKS)))
    assert len(won) == 4
    assert all(abs(count - TASKS / 4) <= OFF for count in won.values()), won
