"""GPUs of clusters, on engines that this test run has started. The devices are invented; who has which is the engine's."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from dms.executors.cluster.cluster import PlacedExecutor
from dms.executors.settings import ClusterSettings, EngineSettings, ExecutorSettings
from dms.hardware.gpu_simulated import SIMULATED
from dms.testing.cluster_contract import Nodes, shell
from dms.testing.dask import running_dask
from dms.testing.executor_contract import RunWatcher, ending_of
from dms.testing.htcondor import running_htcondor
from dms.testing.ray import running_ray
from dms.testing.slurm import running_slurm
from dms_proto.capability import Gpu, Resources
from dms_proto.units import CORE, GIB, MIB
from dms_proto.work import EndReason, Task

pytestmark = pytest.mark.slow
GPUS = 2
"""Of the larger machine, as many as it has cores."""


def of_slurm() -> Iterator[EngineSettings]:
    with running_slurm(gpus=GPUS) as there:
        yield there.settings()


def of_dask() -> Iterator[EngineSettings]:
    with running_dask(gpus=GPUS) as there:
        yield there.settings()


def of_ray() -> Iterator[EngineSettings]:
    with running_ray(gpus=GPUS) as there:
        yield there.settings()


def of_htcondor() -> Iterator[EngineSettings]:
    with running_htcondor(gpus=GPUS) as there:
        yield there.settings()


@pytest.fixture(
    scope="module", params=[of_slurm, of_dask, of_ray, of_htcondor], ids=["slurm", "dask", "ray", "htcondor"]
)
def engine(request: pytest.FixtureRequest) -> Iterator[EngineSettings]:
    start: Callable[[], Iterator[EngineSettings]] = request.param
    yield from start()


@pytest.fixture
def settings(engine: EngineSettings, tmp_path: Path) -> ExecutorSettings:
    (tmp_path / "shared").mkdir()
    cluster = ClusterSettings(
        engine, ("sandbox",), tmp_path / "shared", sys.executable, simulated_gpus=f"{GPUS}xA100-40G"
    )
    return ExecutorSettings(tmp_path / "state", cluster=cluster)


@pytest.fixture
async def nodes(settings: ExecutorSettings) -> AsyncIterator[Nodes]:
    nodes = Nodes(settings)
    yield nodes
    await nodes.close()


@pytest.fixture
async def executor(nodes: Nodes) -> PlacedExecutor:
    executor = nodes.next()
    await executor.probe()
    return executor


def with_gpus(task: Task, *gpus: Gpu) -> Task:
    return msgspec.structs.replace(task, resources=Resources(CORE, 64 * MIB, gpus=gpus))


def directory(tmp_path: Path, name: str) -> Path:
    directory = tmp_path / "shared" / name
    directory.mkdir(mode=0o700)
    return directory


async def test_each_job_gets_one_of_its_own_and_is_told_which(executor: PlacedExecutor, tmp_path: Path) -> None:
    assert executor.cluster.known is not None
    capacity = executor.cluster.known.capacity
    offered = capacity.whole.gpus
    assert [(gpu.vendor, gpu.model, gpu.memory_bytes) for gpu in offered] == [
        ("nvidia", f"A100{SIMULATED}", 40 * GIB)
    ] * GPUS
    assert [len(size.gpus) for size in capacity.sizes] == [GPUS, 0]

    task = shell('echo "$CUDA_VISIBLE_DEVICES"; exec sleep 600')
    told = set()
    watchers = []
    for name, gpu in zip(("a-1", "a-2"), offered, strict=True):
        watchers.append(RunWatcher(await executor.run(name, with_gpus(task, gpu), directory(tmp_path, name))))
        await watchers[-1].wait_output(b"\n")
        told.add((Path(executor.cluster.runs_directory) / name / "stdout").read_text())
    assert told == {"GPU-sim-0\n", "GPU-sim-1\n"}

    for watcher in watchers:
        await watcher.run.stop(0)
        assert (await watcher.ending()).reason is EndReason.CANCELLED


async def test_a_job_without_one_is_told_of_none(executor: PlacedExecutor, tmp_path: Path) -> None:
    run = await executor.run("a-1", shell('test -z "${CUDA_VISIBLE_DEVICES+x}"'), directory(tmp_path, "a-1"))
    assert (await ending_of(run)).reason is EndReason.COMPLETED


async def test_a_machine_with_less_than_was_promised_runs_nothing(executor: PlacedExecutor, tmp_path: Path) -> None:
    assert executor.cluster.known is not None
    (kind, has), *_ = executor.cluster.known.gpus.items()
    larger = msgspec.structs.replace(has, memory_bytes=80 * GIB)
    executor.cluster.known.gpus[kind] = larger  # as a machine had them that is there no more
    task = with_gpus(shell("touch ran"), msgspec.structs.replace(larger, device="large/0"))
    where = directory(tmp_path, "a-1")

    ending = await ending_of(await executor.run("a-1", task, where))

    assert ending.reason is EndReason.PROVIDER_FAULT
    assert "less than what was promised" in ending.detail
    assert not (where / "ran").exists()
