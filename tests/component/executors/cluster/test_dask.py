"""On a Dask that this test run has started, with two workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dms.executors.cluster.cluster import PlacedExecutor
from dms.testing.cluster_contract import BY_THE_PROVIDER, EngineContract, marked, shell
from dms.testing.dask import DaskThere, running_dask
from dms.testing.executor_contract import PATIENCE_S, RunWatcher

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def there() -> Iterator[DaskThere]:
    with running_dask() as there:
        yield there


class TestDask(EngineContract):
    async def test_a_worker_that_dies_takes_its_jobs_along(
        self, executor: PlacedExecutor, directory: Path, there: DaskThere
    ) -> None:
        watcher = RunWatcher(
            await executor.run("a-1", shell("echo up; while :; do sleep 1; done", "dies-1"), directory)
        )
        await watcher.wait_output(b"up\n")
        inside = marked("dies-1")
        there.kill_workers()
        try:
            assert (await watcher.ending()).reason in BY_THE_PROVIDER
            _, alive = psutil.wait_procs(inside, PATIENCE_S)
            assert not alive
        finally:
            there.start_workers()
