"""On an HTCondor that this test run has started, with two machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import psutil
import pytest

from dms.executors.cluster.cluster import PlacedExecutor
from dms.executors.cluster.engine import Capacity, Engine, EngineError, EngineJob, Order
from dms.executors.cluster.gpus import VARIABLES
from dms.executors.cluster.htcondor import Htcondor
from dms.testing.cluster_contract import MACHINES, EngineContract, Nodes, shell
from dms.testing.daemons import wait_until
from dms.testing.executor_contract import PATIENCE_S, RunWatcher
from dms.testing.htcondor import HtcondorThere, running_htcondor
from dms.testing.marked import marked
from dms_proto.capability import Resources
from dms_proto.units import CORE, MIB, MINUTE
from dms_proto.work import EndReason

pytestmark = pytest.mark.slow

BINDINGS = "dms.executors.cluster.htcondor_bindings"
ON_THE_LARGE = Resources(cpu_millicores=2 * CORE, memory_bytes=64 * MIB)


@pytest.fixture(scope="module")
def pool() -> Iterator[HtcondorThere]:
    with running_htcondor() as there:
        yield there


@pytest.fixture
def there(pool: HtcondorThere) -> HtcondorThere:
    pool.start()
    return pool


@pytest.fixture
async def engine(there: HtcondorThere) -> AsyncIterator[Htcondor]:
    engine = Htcondor(there.settings())
    yield engine
    for job in (await engine.jobs()).values():
        await engine.cancel(job.id)
    await engine.close()


class TestHtcondor(EngineContract):
    async def test_while_its_schedd_is_away_jobs_go_on(
        self, executor: PlacedExecutor, directory: Path, there: HtcondorThere
    ) -> None:
        task = shell("echo up; while [ ! -e go ]; do sleep 0.05; done")
        watcher = RunWatcher(await executor.run("a-1", task, directory))
        await watcher.wait_output(b"up\n")
        there.kill("schedd")
        try:
            (directory / "go").touch()
            assert (await watcher.ending()).reason is EndReason.COMPLETED
        finally:
            there.start()
        # What it then does not find any more it holds.
        await jobs_once(executor.cluster.engine, lambda jobs: not there.queued(executor.cluster.name_of("a-1")))

    @pytest.mark.timeout(240)
    async def test_a_machine_that_dies_takes_its_jobs_along_and_htcondor_says_why(
        self, nodes: Nodes, directory: Path, there: HtcondorThere, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies_and_is_given_up() -> None:
            there.kill("large")
            wait_until(lambda: there.waits(nodes.last.name_of("a-1")), "the machine is given up", there.root)

        monkeypatch.setattr("dms.executors.cluster.htcondor.LEASE_S", 20)  # HTCondor makes it no less
        ending = await nodes.ending_though_away(directory, dies_and_is_given_up, ON_THE_LARGE)
        assert ending.reason is EndReason.PROVIDER_FAULT
        assert "Job disconnected too long" in ending.detail

    async def test_what_is_evicted_ends_by_the_providers_doing_and_is_not_started_again(
        self, nodes: Nodes, directory: Path, there: HtcondorThere
    ) -> None:
        def evict() -> None:
            there.tell("vacate_job", *there.asked_for(nodes.last.name_of("a-1")))

        assert (await nodes.ending_though_away(directory, evict)).reason is EndReason.PROVIDER_STOPPED
        name = nodes.last.name_of("a-1")
        await jobs_once(nodes.last.engine, lambda jobs: not there.queued(name))

    async def test_what_is_held_does_not_wait_for_its_release(
        self, executor: PlacedExecutor, directory: Path, there: HtcondorThere
    ) -> None:
        first = RunWatcher(await executor.run("a-1", shell("sleep 600", resources=ON_THE_LARGE), directory))
        second = RunWatcher(await executor.run("a-2", shell("true", resources=ON_THE_LARGE), directory))
        await second.wait_for(bool)

        await asyncio.to_thread(there.tell, "hold", *there.asked_for(executor.cluster.name_of("a-2")))

        ending = await second.ending()
        assert ending.reason is EndReason.PROVIDER_FAULT
        assert "via condor_hold (by user" in ending.detail
        name = executor.cluster.name_of("a-2")
        await jobs_once(executor.cluster.engine, lambda jobs: not there.queued(name))
        await first.run.stop(0)
        await first.ending()

    async def test_what_another_takes_is_not_idle(
        self, executor: PlacedExecutor, directory: Path, there: HtcondorThere
    ) -> None:
        there.submit("executable = /bin/sleep", "arguments = 600", "request_cpus = 2", "request_memory = 100")

        capacity = await capacity_once(executor.cluster.engine, lambda capacity: capacity.idle.cpu_millicores == CORE)

        large, small = sorted(capacity.machines, key=lambda machine: machine.whole.cpu_millicores, reverse=True)
        assert (large.whole, large.idle.cpu_millicores) == (MACHINES["large"], 0)
        assert large.idle.memory_bytes <= MACHINES["large"].memory_bytes - 100 * MIB
        assert small.idle == small.whole == MACHINES["small"]
        await asyncio.to_thread(there.tell, "rm", "-all")
        await capacity_once(executor.cluster.engine, lambda capacity: capacity.idle.cpu_millicores == 3 * CORE)

    async def test_a_machine_that_is_drained_takes_no_jobs(
        self, executor: PlacedExecutor, there: HtcondorThere
    ) -> None:
        engine = executor.cluster.engine
        (large,) = [each for each in (await engine.capacity()).machines if each.whole == MACHINES["large"]]
        await asyncio.to_thread(there.tell, "drain", large.name)
        capacity = await capacity_once(engine, lambda capacity: not all(each.takes_jobs for each in capacity.machines))
        assert capacity.idle == MACHINES["small"]
        assert capacity.whole.cpu_millicores == 3 * CORE
        await asyncio.to_thread(there.tell, "drain", "-cancel", large.name)
        await capacity_once(engine, lambda capacity: capacity.idle.cpu_millicores == 3 * CORE)


class TestItself:
    async def test_machines_that_do_not_meet_the_owners_requirements_are_neither_counted_nor_used(
        self, there: HtcondorThere, tmp_path: Path
    ) -> None:
        settings = msgspec.structs.replace(there.settings(), requirements="TotalSlotCpus == 1")
        engine = Htcondor(settings)
        assert (await engine.capacity()).whole == MACHINES["small"]
        await engine.submit("runs", order(tmp_path, "sleep", "600"))
        await engine.submit("waits", order(tmp_path, "sleep", "600"))
        jobs = await jobs_once(engine, lambda jobs: jobs["runs"].is_running)
        assert jobs["runs"].detail.startswith("slot1_1@small@")
        assert not jobs["waits"].is_running
        for job in jobs.values():
            await engine.cancel(job.id)
        await jobs_once(engine, lambda jobs: not jobs)
        await engine.close()

    @pytest.mark.parametrize("requirements", ["TotalSlotCpus == 77", "((", "NoSuchAttribute"])
    async def test_where_no_machine_meets_them_it_is_said_what_to_look_at(
        self, there: HtcondorThere, requirements: str
    ) -> None:
        engine = Htcondor(msgspec.structs.replace(there.settings(), requirements=requirements))
        with pytest.raises(EngineError, match=r"executors\.htcondor_requirements"):
            await engine.capacity()
        await engine.close()

    async def test_a_job_that_is_over_can_be_cancelled_again(self, engine: Htcondor, tmp_path: Path) -> None:
        job_id = await engine.submit("over", order(tmp_path, "true"))
        await jobs_once(engine, lambda jobs: not jobs)
        await engine.cancel(job_id)

    async def test_a_command_comes_through_as_it_is_and_gets_nothing_of_htcondors_environment_but_gpus(
        self, engine: Htcondor, tmp_path: Path
    ) -> None:
        directory = tmp_path / 'it\'s a $(HOME) "of" its own'
        directory.mkdir()
        said = ("/bin/sh", "-c", 'pwd; printf "%s\\n" "$@"; env', "sh", "a b", "$(HOME)", "it's", '"', "")
        await engine.submit("says", order(directory, *said))
        await jobs_once(engine, lambda jobs: not jobs)
        lines = (directory / "runner.log").read_text().splitlines()
        assert lines[:6] == [str(directory), *said[4:]]
        assert {line.partition("=")[0] for line in lines[6:]} - VARIABLES.keys() == {"PATH", "PWD"}

    async def test_a_runner_that_goes_on_for_too_long_is_ended(self, engine: Htcondor, tmp_path: Path) -> None:
        await engine.submit("long", order(tmp_path, "sleep", "600", wall_ms=1000))
        await jobs_once(engine, lambda jobs: jobs["long"].is_running)
        await jobs_once(engine, lambda jobs: not jobs)

    async def test_a_schedd_that_hangs_holds_up_nobody_but_who_asks_it(
        self, engine: Htcondor, there: HtcondorThere, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert await engine.jobs() == {}
        monkeypatch.setattr("dms.executors.cluster.htcondor_client.ANSWER_S", 0.5)
        with there.hanging("schedd"), pytest.raises(EngineError, match="gave no answer within"):
            await engine.jobs()
        monkeypatch.undo()
        assert await engine.jobs() == {}

    async def test_who_was_asked_and_died_is_started_again(self, engine: Htcondor) -> None:
        assert await engine.jobs() == {}
        own = psutil.Process().children(recursive=True)
        (bindings,) = [each for each in marked(BINDINGS) if each in own]
        bindings.kill()
        bindings.wait()
        with pytest.raises(EngineError, match="bindings cannot be used"):
            await engine.jobs()
        assert await engine.jobs() == {}


def order(directory: Path, *command: str, wall_ms: int = MINUTE) -> Order:
    return Order(command, directory, Resources(CORE, 64 * MIB), wall_ms)


async def capacity_once(engine: Engine, holds: Callable[[Capacity], bool]) -> Capacity:
    async with asyncio.timeout(PATIENCE_S):
        while not holds(capacity := await engine.capacity()):  # noqa: ASYNC110 - other processes tell
            await asyncio.sleep(0.1)
    return capacity


async def jobs_once(engine: Engine, holds: Callable[[Mapping[str, EngineJob]], bool]) -> Mapping[str, EngineJob]:
    async with asyncio.timeout(PATIENCE_S):
        while not holds(jobs := await engine.jobs()):  # noqa: ASYNC110 - other processes tell
            await asyncio.sleep(0.1)
    return jobs
