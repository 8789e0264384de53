"""The provider's hands, where an actor that is built anew meets work that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from dms.config import Home
from dms.executors.outputs import DEFAULT_LIMITS
from dms.executors.scripted import ScriptedExecutor
from dms.node.datasets import Datasets
from dms.node.holdings import Holdings
from dms.node.logs import LogStore
from dms.node.post import NodePost
from dms.node.reaching import Reaching
from dms.node.sealing import Sealer
from dms.node.workbench import Workbench
from dms.store.blobs import BlobStore
from dms.store.datasets import DatasetShelf
from dms.testing.samples import ALLOCATION, NOW, PROVIDER, REQUEST, REQUESTER, TOPIC
from dms.trust.wallet import Wallet
from dms_actors.loop_calls import LoopCalls
from dms_actors.ports import Executor, Run
from dms_actors.testing.network import MemoryFabric
from dms_proto.allocation.stimuli import InputsArrived, NodeRestarted, OutputsStored, RunExited, RunStarted
from dms_proto.capability import Resources
from dms_proto.data.chunks import LISTED_FROM
from dms_proto.data.manifest import Manifest, encoded
from dms_proto.ids import AllocationId, Digest, digest_of
from dms_proto.machine import Stimulus
from dms_proto.messages import AllocationMessage
from dms_proto.secrets import OpenSecret
from dms_proto.units import MIB
from dms_proto.work import MAX_MANIFEST, DatasetInput, EndReason, Input, Task

TASK = Task("scripted", ("exit", "0"))


class SlowToStart(ScriptedExecutor):
    """Starts a run when `may_start` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.may_start = asyncio.Event()

    async def run(
        self,
        allocation_id: str,
        task: Task,
        directory: Path,
        secrets: Sequence[OpenSecret] = (),
        *,
        gives_way: bool = False,
    ) -> Run:
        self.asked.set()
        await self.may_start.wait()
        return await super().run(allocation_id, task, directory, secrets, gives_way=gives_way)


@asynccontextmanager
async def workbench(home: Path, executor: Executor, told: asyncio.Queue[Stimulus]) -> AsyncIterator[Workbench]:
    """One whose allocations' actor is `told`."""
    loop = asyncio.get_running_loop()
    calls, me = LoopCalls(loop), PROVIDER.peer_id
    blobs = BlobStore(home / "blobs")
    datasets = Datasets(blobs, DatasetShelf(home / "datasets"), me, lambda: NOW)
    network = MemoryFabric().network(me)
    sealer = Sealer(bytes(32), me)
    reaching = Reaching(me, network)
    post = NodePost(
        signer=PROVIDER,
        me=me,
        topic=TOPIC,
        network=network,
        reaching=reaching,
        clock=lambda: NOW,
        loop=loop,
        calls=calls,
        sealer=sealer,
        wallet=Wallet(Home(home), me),
        forgive_s=30,
    )

    def tell(_allocation: AllocationId, stimulus: Stimulus) -> None:
        told.put_nowait(stimulus)

    bench = Workbench(
        calls=calls,
        executors={"scripted": executor},
        jobs=home / "jobs",
        blobs=blobs,
        datasets=datasets,
        holdings=Holdings(blobs, datasets),
        logs=LogStore(home / "logs"),
        me=me,
        network=network,
        reaching=reaching,
        post=post,
        sealer=sealer,
        tell=tell,
    )
    try:
        yield bench
    finally:
        await bench.close_all()
        await post.close()


async def test_work_that_is_just_being_started_is_not_lost_to_an_actor_that_is_built_anew(tmp_path: Path) -> None:
    executor, told = SlowToStart(), asyncio.Queue[Stimulus]()
    async with asyncio.timeout(10), workbench(tmp_path, executor, told) as bench:
        bench.execute(ALLOCATION, REQUEST, REQUESTER.peer_id, TASK, gives_way=False)
        await executor.asked.wait()

        bench.adopt(ALLOCATION, REQUEST, REQUESTER.peer_id, TASK, "")
        assert await told.get() == NodeRestarted(adopted=True)
        executor.may_start.set()

        assert isinstance(await told.get(), RunStarted)
        ended = await told.get()
        assert isinstance(ended, RunExited)
        assert ended.ending.reason is EndReason.COMPLETED


async def test_work_nobody_knows_of_is_not_adopted(tmp_path: Path) -> None:
    told = asyncio.Queue[Stimulus]()
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        bench.adopt(ALLOCATION, REQUEST, REQUESTER.peer_id, TASK, "")

        assert await told.get() == NodeRestarted(adopted=False)


def _takes_nothing(home: Path) -> None:
    """Puts a file where the blobs of this node were to go."""
    (home / "blobs").rename(home / "away")
    (home / "blobs").write_text("in the way")


async def test_what_a_node_cannot_store_is_its_own_fault(tmp_path: Path) -> None:
    told = asyncio.Queue[Stimulus]()
    task = Task("scripted", ("write", "out.txt", "42"), outputs=("out.txt",))
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        bench.execute(ALLOCATION, REQUEST, REQUESTER.peer_id, task, gives_way=False)
        while not isinstance(await told.get(), RunExited):
            pass
        _takes_nothing(tmp_path)

        bench.store_outputs(ALLOCATION, REQUESTER.peer_id, task)

        stored = await told.get()
        assert isinstance(stored, OutputsStored)
        assert stored.ours
        assert stored.failed.startswith("outputs could not be stored")


async def test_what_a_job_leaves_beyond_the_limits_is_its_own_failure(tmp_path: Path) -> None:
    told = asyncio.Queue[Stimulus]()
    task = Task("scripted", ("write", "out.txt", "42"), outputs=("*",))
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        bench.execute(ALLOCATION, REQUEST, REQUESTER.peer_id, task, gives_way=False)
        while not isinstance(await told.get(), RunExited):
            pass
        for number in range(DEFAULT_LIMITS.files):
            (bench.directory(ALLOCATION) / str(number)).touch()

        bench.store_outputs(ALLOCATION, REQUESTER.peer_id, task)

        stored = await told.get()
        assert isinstance(stored, OutputsStored)
        assert stored.failed
        assert not stored.ours


async def test_an_input_that_is_not_to_be_had_is_not_the_providers_fault(tmp_path: Path) -> None:
    told = asyncio.Queue[Stimulus]()
    task = Task("scripted", ("exit", "0"), inputs=(Input("in.txt", Digest("sha256:" + "0" * 64), 2),))
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        bench.fetch_inputs(ALLOCATION, REQUEST, REQUESTER.peer_id, task)

        arrived = await told.get()
        assert isinstance(arrived, InputsArrived)
        assert arrived.failed.startswith("input in.txt")
        assert not arrived.ours


async def test_while_a_job_runs_its_requester_is_told_again_and_again_how_far_its_log_has_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dms.node.workbench.REACH_S", 0.0)
    told, heard = asyncio.Queue[Stimulus](), list[AllocationMessage]()
    task = Task("scripted", ("print", "hello", "use", "1", "use", "2"))
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        bench._post.deliver_to_self_by(lambda delivered: heard.append(delivered.message))  # type: ignore[arg-type]
        bench.execute(ALLOCATION, REQUEST, PROVIDER.peer_id, task, gives_way=False)
        while not isinstance(await told.get(), RunExited):
            pass
    assert [(message.channel, message.offset, message.data) for message in heard] == [
        ("stdout", 0, b"hello"),
        ("stdout", 5, b""),
        ("stdout", 5, b""),
    ]


async def test_inputs_larger_than_the_disk_that_was_agreed_are_not_fetched(tmp_path: Path) -> None:
    told = asyncio.Queue[Stimulus]()
    task = Task(
        "scripted",
        ("exit", "0"),
        inputs=(Input("in.txt", Digest("sha256:" + "0" * 64), 3 * MIB),),
        resources=Resources(disk_bytes=2 * MIB),
    )
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        bench.fetch_inputs(ALLOCATION, REQUEST, REQUESTER.peer_id, task)

        assert await told.get() == InputsArrived("its inputs take 3 MiB of disk, 2 MiB were agreed")


@pytest.mark.parametrize("names", ["inputs", "a dataset"])
async def test_many_small_files_do_not_fill_more_of_the_disk_than_was_agreed(tmp_path: Path, names: str) -> None:
    told = asyncio.Queue[Stimulus]()
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        files = tuple(Input(f"{number:04}", bench._blobs.put_bytes(b"1"), 1) for number in range(4_000))
        data = encoded(Manifest(files))
        dataset = DatasetInput("data", bench._blobs.put_bytes(data), len(data), len(files))
        task = {"inputs": Task("scripted", inputs=files), "a dataset": Task("scripted", datasets=(dataset,))}[names]
        bench.fetch_inputs(
            ALLOCATION, REQUEST, REQUESTER.peer_id, msgspec.structs.replace(task, resources=Resources(disk_bytes=MIB))
        )

        arrived = await told.get()
        assert isinstance(arrived, InputsArrived)
        assert "of disk, 1 MiB were agreed" in arrived.failed
        assert not arrived.ours
        assert not any(bench.directory(ALLOCATION).iterdir())


@pytest.mark.parametrize("places", [("a", "a/b"), ("a/b", "a"), ("x" * 256,), ("a", "data")])
async def test_what_cannot_be_laid_out_is_not_the_providers_fault(tmp_path: Path, places: tuple[str, ...]) -> None:
    told = asyncio.Queue[Stimulus]()
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        here = bench._blobs.put_bytes(b"1")
        data = encoded(Manifest((Input("in", here, 1),)))
        dataset = DatasetInput("data", bench._blobs.put_bytes(data), len(data), 1)
        task = Task("scripted", inputs=tuple(Input(place, here, 1) for place in places), datasets=(dataset,))
        bench.fetch_inputs(ALLOCATION, REQUEST, REQUESTER.peer_id, task)

        arrived = await told.get()
        assert isinstance(arrived, InputsArrived)
        assert arrived.failed
        assert not arrived.ours
        assert not any(bench.directory(ALLOCATION).iterdir())


@pytest.mark.parametrize("names", ["an input", "two inputs", "a list of chunks", "a dataset"])
async def test_what_is_here_already_is_not_taken_for_less_than_it_is(tmp_path: Path, names: str) -> None:
    """By its size room was found for it, on the disk or in memory."""
    told = asyncio.Queue[Stimulus]()
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        here = bench._blobs.put_bytes(bytes(MAX_MANIFEST + 1))
        other = digest_of(b"other")
        task = {
            "an input": Task("scripted", inputs=(Input("in.txt", here, 1),)),
            "two inputs": Task("scripted", inputs=(Input("in.txt", here, 1), Input("too.txt", here, MAX_MANIFEST + 1))),
            "a list of chunks": Task("scripted", inputs=(Input("in.txt", other, LISTED_FROM + 1, chunks=here),)),
            "a dataset": Task("scripted", datasets=(DatasetInput("data", here, 1, 1),)),
        }[names]
        bench.fetch_inputs(ALLOCATION, REQUEST, REQUESTER.peer_id, task)

        arrived = await told.get()
        assert isinstance(arrived, InputsArrived)
        assert f"{here} has {MAX_MANIFEST + 1} bytes, and not " in arrived.failed
        assert not arrived.ours


async def test_a_manifest_that_is_nested_too_deeply_is_none(tmp_path: Path) -> None:
    told = asyncio.Queue[Stimulus]()
    async with asyncio.timeout(10), workbench(tmp_path, ScriptedExecutor(), told) as bench:
        deep = b"\x81\xa1x" + b"\x91" * 5_000 + b"\xc0"
        task = Task("scripted", datasets=(DatasetInput("data", bench._blobs.put_bytes(deep), len(deep), 1),))
        bench.fetch_inputs(ALLOCATION, REQUEST, REQUESTER.peer_id, task)

        arrived = await told.get()
        assert isinstance(arrived, InputsArrived)
        assert "is no manifest of a dataset" in arrived.failed
