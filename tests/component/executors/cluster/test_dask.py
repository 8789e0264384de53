"""On a Dask that this test run has started, with two workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.executors.cluster.cluster import PlacedExecutor
from dms.testing.cluster_contract import BY_THE_PROVIDER, EngineContract, Nodes, shell
from dms.testing.dask import DaskThere, running_dask
from dms.testing.executor_contract import PATIENCE_S, RunWatcher
from dms_proto.capability import Resources
from dms_proto.units import CORE, MIB
from dms_proto.work import EndReason

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def there() -> Iterator[DaskThere]:
    with running_dask() as there:
        yield there


class TestDask(EngineContract):
    async def test_a_task_is_placed_where_there_is_room(self, executor: PlacedExecutor, directory: Path) -> None:
        """Which the scheduler alone would not see: neither worker is busy by its measure."""
        await nothing_left_of_earlier_jobs(executor)
        watchers = []
        for name, cores in (("a-1", 1), ("a-2", 2)):
            size = Resources(cpu_millicores=cores * CORE, memory_bytes=64 * MIB)
            task = shell("echo up; exec sleep 600", resources=size)
            watchers.append(RunWatcher(await executor.run(name, task, directory)))
            await watchers[-1].wait_output(b"up\n")

        for watcher in watchers:
            await watcher.run.stop(0)
            assert (await watcher.ending()).reason is EndReason.CANCELLED

    async def test_a_worker_that_dies_takes_its_jobs_along(
        self, nodes: Nodes, directory: Path, there: DaskThere
    ) -> None:
        try:
            assert (await nodes.ending_though_away(directory, there.kill_workers)).reason in BY_THE_PROVIDER
        finally:
            there.start_workers()

    async def test_jobs_end_with_the_scheduler(self, nodes: Nodes, directory: Path, there: DaskThere) -> None:
        try:
            ending = await nodes.ending_though_away(directory, there.stop_scheduler)
            assert ending.reason is EndReason.PROVIDER_STOPPED
        finally:
            there.stop()
            there.start()


async def nothing_left_of_earlier_jobs(executor: PlacedExecutor) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (capacity := await executor.cluster.capacity()).idle != capacity.whole:  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.1)
