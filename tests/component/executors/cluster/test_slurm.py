"""On a Slurm that this test run has started, with two machines."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dms.executors.cluster.cluster import Cluster, PlacedExecutor
from dms.executors.cluster.engine import EngineError
from dms.executors.cluster.slurm import Slurm
from dms.executors.settings import ClusterSettings, ExecutorSettings, SlurmSettings
from dms.testing.executor_contract import RunWatcher, ending_of, events_of, output_of
from dms.testing.slurm import MACHINES, SlurmThere, running_slurm
from dms_actors.ports import Exited, Preparing
from dms_proto.capability import NOTHING, Isolation, Resources
from dms_proto.units import CORE, MIB
from dms_proto.work import EndReason, Task

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmThere]:
    with running_slurm() as there:
        yield there


@pytest.fixture
def settings(slurm: SlurmThere, tmp_path: Path) -> ExecutorSettings:
    (tmp_path / "shared").mkdir()
    engine = SlurmSettings(conf=str(slurm.conf))
    cluster = ClusterSettings(engine, ("sandbox", "wasm"), tmp_path / "shared", sys.executable)
    return ExecutorSettings(tmp_path / "state", cluster=cluster)


@pytest.fixture
async def cluster(settings: ExecutorSettings) -> AsyncIterator[Cluster]:
    assert settings.cluster is not None
    cluster = Cluster(settings, Slurm(settings.cluster.engine))
    yield cluster
    await cluster.close()
    await cluster.sweep("sandbox", [])


@pytest.fixture
def executor(cluster: Cluster) -> PlacedExecutor:
    return cluster.executors()[0]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "shared" / "job"
    directory.mkdir(mode=0o700)
    return directory


def shell(text: str, resources: Resources = NOTHING) -> Task:
    return Task("sandbox", ("/bin/sh", "-c", text), resources=resources)


async def test_its_machines_are_its_capacity_and_one_of_them_proves_what_is_offered(
    cluster: Cluster, executor: PlacedExecutor
) -> None:
    offer = await executor.probe()

    assert (offer.name, offer.isolation) == ("sandbox", Isolation.NAMESPACES)
    assert {"disk", "wall", "output"} <= set(offer.limits)
    assert cluster.known is not None
    sizes = {machine.name: machine.whole for machine in cluster.known.capacity.machines}
    assert sizes == {name: Resources(cores * CORE, mib * MIB) for name, (cores, mib) in MACHINES.items()}
    assert cluster.known.capacity.whole == Resources(3 * CORE, 2200 * MIB)


async def test_a_task_runs_in_a_sandbox_on_one_of_them_and_its_output_and_files_come_back(
    executor: PlacedExecutor, directory: Path
) -> None:
    await executor.probe()
    (directory / "in").write_text("one two three")

    run = await executor.run("a-1", shell("wc -w < in; echo warning >&2; echo 5 > out; exit 7"), directory)
    events = await events_of(run)

    assert output_of(events, "stdout") == b"3\n"
    assert output_of(events, "stderr") == b"warning\n"
    last = events[-1]
    assert isinstance(last, Exited)
    ending = last.ending
    assert (ending.reason, ending.exit_code) == (EndReason.EXIT_NONZERO, 7)
    assert (directory / "out").read_text() == "5\n"


async def test_a_task_reaches_neither_the_engine_nor_its_credentials(
    executor: PlacedExecutor, directory: Path, slurm: SlurmThere
) -> None:
    conf = dict(line.split("=", 1) for line in slurm.conf.read_text().splitlines() if "=" in line)
    script = f"""
    env | grep -i slurm
    test -e {slurm.root} && echo files of slurm
    test -S {slurm.root}/munge/socket && echo munge
    (exec 3<>/dev/tcp/127.0.0.1/{conf["SlurmctldPort"]}) 2>/dev/null && echo controller
    ls /run /etc/slurm /var/spool/slurmd 2>/dev/null | grep -i -e munge -e slurm
    cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -i slurm
    cat /proc/*/comm | grep -i -e slurm -e munge
    echo looked
    """
    task = Task("sandbox", ("/bin/bash", "-c", script))

    events = await events_of(await executor.run("a-1", task, directory))

    assert output_of(events, "stdout") == b"looked\n"


async def test_what_is_larger_than_what_is_free_waits_and_a_stop_takes_it_out_of_the_queue(
    executor: PlacedExecutor, directory: Path, slurm: SlurmThere
) -> None:
    large = Resources(cpu_millicores=2 * CORE, memory_bytes=64 * MIB)
    first = RunWatcher(await executor.run("a-1", shell("echo up; exec sleep 600", large), directory))
    await first.wait_output(b"up\n")

    second = RunWatcher(await executor.run("a-2", shell("true", large), directory))
    await second.wait_for(bool)
    assert second.events == [Preparing("it waits in the queue of slurm: Resources")]
    await second.run.stop(30_000)

    assert (await second.ending()).reason is EndReason.CANCELLED
    assert slurm.tell("squeue", "--noheader", "--format", "%T").split() == ["RUNNING"]
    await first.run.stop(0)
    assert (await first.ending()).reason is EndReason.CANCELLED


async def test_a_job_that_an_administrator_cancels_ends_by_the_providers_doing(
    cluster: Cluster, executor: PlacedExecutor, directory: Path, slurm: SlurmThere
) -> None:
    watcher = RunWatcher(await executor.run("a-1", shell("echo up; exec sleep 600"), directory))
    await watcher.wait_output(b"up\n")
    slurm.tell("scancel", "--name", cluster.name_of("a-1"))

    ending = await watcher.ending()

    assert ending.reason in {EndReason.PROVIDER_STOPPED, EndReason.PROVIDER_FAULT}


async def test_while_slurm_is_away_jobs_go_on_and_the_owner_is_told(
    cluster: Cluster, executor: PlacedExecutor, directory: Path, slurm: SlurmThere
) -> None:
    watcher = RunWatcher(await executor.run("a-1", shell("echo up; while [ ! -e go ]; do sleep 0.05; done"), directory))
    await watcher.wait_output(b"up\n")
    slurm.stop_controller()
    try:
        with pytest.raises(EngineError):
            await cluster.capacity()
        assert cluster.fault
        (directory / "go").touch()
        assert (await watcher.ending()).reason is EndReason.COMPLETED
        refused = await ending_of(await executor.run("a-2", shell("true"), directory))
        assert refused.reason is EndReason.PROVIDER_FAULT
        assert "slurm took no job" in refused.detail
    finally:
        slurm.start_controller()
