"""On a Slurm that this test run has started, with two machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.executors.cluster.cluster import PlacedExecutor
from dms.testing.cluster_contract import EngineContract, shell
from dms.testing.executor_contract import RunWatcher
from dms.testing.slurm import SlurmThere, running_slurm
from dms_proto.work import EndReason

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def there() -> Iterator[SlurmThere]:
    with running_slurm() as there:
        yield there


class TestSlurm(EngineContract):
    async def test_while_it_is_away_jobs_go_on(
        self, executor: PlacedExecutor, directory: Path, there: SlurmThere
    ) -> None:
        watcher = RunWatcher(
            await executor.run("a-1", shell("echo up; while [ ! -e go ]; do sleep 0.05; done"), directory)
        )
        await watcher.wait_output(b"up\n")
        there.stop()
        try:
            (directory / "go").touch()
            assert (await watcher.ending()).reason is EndReason.COMPLETED
        finally:
            there.start()
