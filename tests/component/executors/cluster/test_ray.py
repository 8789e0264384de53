"""On a Ray that this test run has started, with two machines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.executors.cluster.cluster import PlacedExecutor
from dms.executors.cluster.engine import EngineError
from dms.executors.cluster.ray import Ray
from dms.executors.settings import RaySettings
from dms.testing.cluster_contract import MACHINES, EngineContract, Nodes, shell
from dms.testing.executor_contract import PATIENCE_S, RunWatcher
from dms.testing.ray import HEAD, OTHER, RayThere, running_ray
from dms_proto.capability import Resources
from dms_proto.units import CORE, MIB
from dms_proto.work import EndReason

pytestmark = pytest.mark.slow

ON_THE_OTHER = Resources(cpu_millicores=2 * CORE, memory_bytes=64 * MIB)


@pytest.fixture(scope="module")
def ray() -> Iterator[RayThere]:
    with running_ray() as there:
        yield there


@pytest.fixture
def there(ray: RayThere) -> RayThere:
    ray.mend()
    return ray


class TestRay(EngineContract):
    async def test_what_a_job_takes_is_not_idle(self, executor: PlacedExecutor, directory: Path) -> None:
        task = shell("echo up; exec sleep 600", resources=ON_THE_OTHER)
        watcher = RunWatcher(await executor.run("a-1", task, directory))
        await watcher.wait_output(b"up\n")

        async with asyncio.timeout(PATIENCE_S):
            while (capacity := await executor.cluster.capacity()).idle.cpu_millicores != CORE:  # noqa: ASYNC110 - Ray tells it every 5 s
                await asyncio.sleep(0.2)
        large, small = sorted(capacity.machines, key=lambda machine: machine.whole.cpu_millicores, reverse=True)
        assert small.idle == MACHINES[HEAD]
        assert large.idle.cpu_millicores == 0
        assert large.idle.memory_bytes == pytest.approx(MACHINES[OTHER].memory_bytes - 224 * MIB, rel=0.01)

        await watcher.run.stop(0)
        assert (await watcher.ending()).reason is EndReason.CANCELLED

    async def test_with_another_token_it_is_said_what_to_set(self, there: RayThere, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("0" * 64)
        for token in (str(tmp_path / "token"), ""):
            engine = Ray(RaySettings(there.settings().address, token))
            with pytest.raises(EngineError, match=r"name a file that has it in executors\.ray_token_file"):
                await engine.capacity()
            await engine.close()

    async def test_a_machine_that_dies_takes_its_jobs_along_and_ray_says_why(
        self, nodes: Nodes, directory: Path, there: RayThere
    ) -> None:
        ending = await nodes.ending_though_away(directory, lambda: there.kill(OTHER), ON_THE_OTHER)
        assert ending.reason is EndReason.PROVIDER_FAULT
        assert "node was terminated unexpectedly" in ending.detail

    async def test_jobs_end_with_the_head_and_are_lost_though_it_stays_away(
        self, nodes: Nodes, directory: Path, there: RayThere, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dms.executors.cluster.run.SILENT_S", 0.0)
        ending = await nodes.ending_though_away(directory, there.kill_head, ON_THE_OTHER)
        assert ending.reason is EndReason.PROVIDER_FAULT
        assert ending.detail.startswith("ray does not answer, and the runner of job")
