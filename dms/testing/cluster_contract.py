"""What every engine of a cluster owes the node, as one test class: each subclass says how one is started, with the machines that are named here."""

# ruff: noqa: D102 - a test is named after the behaviour it shows

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

import psutil
import pytest

from dms.executors.cluster.cluster import Cluster, PlacedExecutor
from dms.executors.cluster.engine import EngineError
from dms.executors.cluster.engines import engine_of
from dms.executors.settings import ClusterSettings, EngineSettings, ExecutorSettings
from dms.testing.executor_contract import PATIENCE_S, RunWatcher, ending_of, events_of, output_of
from dms.testing.marked import marked
from dms_actors.ports import Exited, Preparing
from dms_proto.capability import NOTHING, Isolation, Resources
from dms_proto.units import CORE, MIB
from dms_proto.work import Ending, EndReason, Task

MACHINES: Final = {"large": Resources(2 * CORE, 1500 * MIB), "small": Resources(CORE, 700 * MIB)}
"""The machines of the clusters that tests start."""
BY_THE_PROVIDER: Final = frozenset({EndReason.PROVIDER_STOPPED, EndReason.PROVIDER_FAULT})


class EngineThere(Protocol):
    """An engine that runs, with `MACHINES`.

    Attributes:
        root: what it keeps.
        words: by which its processes, variables and files are known.
    """

    root: Path
    words: tuple[str, ...]

    def settings(self) -> EngineSettings:
        """How it is spoken to."""
        ...

    def ports(self) -> Sequence[int]:
        """Where its processes listen on loopback."""
        ...

    def cancel(self, name: str) -> None:
        """Ends a job by its name, as its administrator would."""
        ...

    def stop(self) -> None:
        """Has it give no answer."""
        ...

    def start(self) -> None:
        """Has it answer again."""
        ...


def shell(text: str, *arguments: str, resources: Resources = NOTHING) -> Task:
    """A task that runs a script."""
    return Task("sandbox", ("/bin/bash", "-c", text, "sh", *arguments), resources=resources)


class EngineContract:
    """A subclass has a fixture `there` of its module."""

    @pytest.fixture
    def settings(self, there: EngineThere, tmp_path: Path) -> ExecutorSettings:
        (tmp_path / "shared").mkdir()
        cluster = ClusterSettings(there.settings(), ("sandbox", "wasm"), tmp_path / "shared", sys.executable)
        return ExecutorSettings(tmp_path / "state", cluster=cluster)

    @pytest.fixture
    async def nodes(self, settings: ExecutorSettings) -> AsyncIterator[Nodes]:
        nodes = Nodes(settings)
        yield nodes
        await nodes.close()

    @pytest.fixture
    def executor(self, nodes: Nodes) -> PlacedExecutor:
        return nodes.next()

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        directory = tmp_path / "shared" / "job"
        directory.mkdir(mode=0o700)
        return directory

    async def test_its_machines_are_its_capacity_and_one_of_them_proves_what_is_offered(
        self, executor: PlacedExecutor
    ) -> None:
        offer = await executor.probe()

        assert (offer.name, offer.isolation) == ("sandbox", Isolation.NAMESPACES)
        assert {"disk", "wall", "output"} <= set(offer.limits)
        assert executor.cluster.known is not None
        capacity = executor.cluster.known.capacity
        assert capacity.sizes == tuple(MACHINES.values())
        assert capacity.whole == Resources(3 * CORE, 2200 * MIB)

    async def test_a_task_runs_in_a_sandbox_on_one_of_them_and_its_output_and_files_come_back(
        self, executor: PlacedExecutor, directory: Path
    ) -> None:
        await executor.probe()
        (directory / "in").write_text("one two three")

        run = await executor.run("a-1", shell("wc -w < in; echo warning >&2; echo 5 > out; exit 7"), directory)
        events = await events_of(run)

        assert output_of(events, "stdout") == b"3\n"
        assert output_of(events, "stderr") == b"warning\n"
        last = events[-1]
        assert isinstance(last, Exited)
        assert (last.ending.reason, last.ending.exit_code) == (EndReason.EXIT_NONZERO, 7)
        assert (directory / "out").read_text() == "5\n"

    async def test_a_task_reaches_neither_the_engine_nor_its_credentials(
        self, executor: PlacedExecutor, directory: Path, there: EngineThere
    ) -> None:
        assert there.ports()
        for port in there.ports():
            socket.create_connection(("127.0.0.1", port)).close()
        words = " ".join(f"-e {word}" for word in there.words)
        script = f"""
        env | grep -i {words}
        test -e {there.root} && echo its files
        for port in {" ".join(map(str, there.ports()))}; do
            (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && echo it answers at $port
        done
        ls /run /etc /tmp /var/spool 2>/dev/null | grep -i {words}
        cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -i {words}
        cat /proc/*/comm | grep -i {words}
        echo looked
        """

        events = await events_of(await executor.run("a-1", shell(script), directory))

        assert output_of(events, "stdout") == b"looked\n"

    async def test_what_is_larger_than_what_is_free_waits_and_a_stop_takes_it_out_of_the_queue(
        self, executor: PlacedExecutor, directory: Path
    ) -> None:
        large = Resources(cpu_millicores=2 * CORE, memory_bytes=64 * MIB)
        first = RunWatcher(await executor.run("a-1", shell("echo up; exec sleep 600", resources=large), directory))
        await first.wait_output(b"up\n")

        second = RunWatcher(await executor.run("a-2", shell("true", resources=large), directory))
        await second.wait_for(bool)
        (told,) = second.events
        assert isinstance(told, Preparing)
        assert told.detail.startswith(f"it waits in the queue of {executor.cluster.engine.name}: ")
        await second.run.stop(30_000)

        assert (await second.ending()).reason is EndReason.CANCELLED
        jobs = await executor.cluster.engine.jobs()
        assert jobs[executor.cluster.name_of("a-1")].is_running
        assert executor.cluster.name_of("a-2") not in jobs
        await first.run.stop(0)
        assert (await first.ending()).reason is EndReason.CANCELLED

    async def test_what_runs_and_what_waits_is_found_again_by_the_next_node(
        self, nodes: Nodes, executor: PlacedExecutor, directory: Path
    ) -> None:
        large = Resources(cpu_millicores=2 * CORE, memory_bytes=64 * MIB)
        runs = shell("echo up; while [ ! -e go ]; do sleep 0.05; done", resources=large)
        waits = shell("echo late", resources=large)
        first = RunWatcher(await executor.run("a-1", runs, directory))
        await first.wait_output(b"up\n")
        second = RunWatcher(await executor.run("a-2", waits, directory))
        await second.wait_for(bool)
        first.abandon()
        second.abandon()

        executor = nodes.next()
        found = [await executor.adopt(name, task, directory, "") for name, task in (("a-1", runs), ("a-2", waits))]
        adopted = [RunWatcher(run) for run in found if run is not None]
        await adopted[1].wait_for(bool)
        (directory / "go").touch()

        assert [(await watcher.ending()).reason for watcher in adopted] == [EndReason.COMPLETED] * 2
        assert [output_of(watcher.events, "stdout") for watcher in adopted] == [b"up\n", b"late\n"]

    async def test_a_job_that_an_administrator_cancels_ends_by_the_providers_doing(
        self, nodes: Nodes, directory: Path, there: EngineThere
    ) -> None:
        def cancel() -> None:
            there.cancel(nodes.last.name_of("a-1"))

        assert (await nodes.ending_though_away(directory, cancel)).reason in BY_THE_PROVIDER

    async def test_an_engine_that_is_away_takes_no_job_and_the_owner_is_told(
        self, executor: PlacedExecutor, directory: Path, there: EngineThere
    ) -> None:
        there.stop()
        try:
            with pytest.raises(EngineError):
                await executor.cluster.capacity()
            assert executor.cluster.fault
            refused = await ending_of(await executor.run("a-2", shell("true"), directory))
            assert refused.reason is EndReason.PROVIDER_FAULT
            assert f"{executor.cluster.engine.name} took no job" in refused.detail
        finally:
            there.start()
        await executor.cluster.capacity()
        assert not executor.cluster.fault


class Nodes:
    """The nodes that offer a cluster, one after the other."""

    def __init__(self, settings: ExecutorSettings) -> None:
        self._settings = settings
        self._clusters: list[Cluster] = []

    def next(self) -> PlacedExecutor:
        """The next node's executor for the sandbox."""
        assert self._settings.cluster is not None
        self._clusters.append(Cluster(self._settings, engine_of(self._settings.cluster.engine)))
        return self._clusters[-1].executors()[0]

    @property
    def last(self) -> Cluster:
        """That of the last of them."""
        return self._clusters[-1]

    async def ending_though_away(
        self, directory: Path, happens: Callable[[], None], resources: Resources = NOTHING
    ) -> Ending:
        """Has something happen to a job that runs while no node is there, waits until nothing of it is left, and asks the next node of its end."""
        mark = uuid4().hex
        task = shell("echo up; while :; do sleep 1; done", mark, resources=resources)
        watcher = RunWatcher(await self.next().run("a-1", task, directory))
        await watcher.wait_output(b"up\n")
        inside = marked(mark)
        assert inside
        watcher.abandon()
        await self.last.close()

        await asyncio.to_thread(happens)

        _, alive = await asyncio.to_thread(psutil.wait_procs, inside, PATIENCE_S)
        assert not alive
        adopted = await self.next().adopt("a-1", task, directory, "")
        assert adopted is not None
        return await ending_of(adopted)

    async def close(self) -> None:
        """Ends what runs, and all of them."""
        for cluster in self._clusters:
            await cluster.close()
            await cluster.sweep("sandbox", [])
            await cluster.engine.close()
