"""The provider's hands, where an actor that is built anew meets work that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dms.config import Home
from dms.executors.scripted import ScriptedExecutor
from dms.node.logs import LogStore
from dms.node.post import NodePost
from dms.node.sealing import Sealer
from dms.node.workbench import Workbench
from dms.store.blobs import BlobStore
from dms.testing.samples import ALLOCATION, NOW, PROVIDER, REQUEST, REQUESTER, TOPIC
from dms.trust.wallet import Wallet
from dms_actors.loop_calls import LoopCalls
from dms_actors.ports import Executor, Run
from dms_actors.testing.network import MemoryFabric
from dms_proto.allocation.machine import NodeRestarted, RunExited, RunStarted
from dms_proto.ids import AllocationId
from dms_proto.machine import Stimulus
from dms_proto.secrets import OpenSecret
from dms_proto.work import EndReason, Task

TASK = Task("scripted", ("exit", "0"))


class SlowToStart(ScriptedExecutor):
    """Starts a run when `may_start` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.may_start = asyncio.Event()

    async def run(self, allocation_id: str, task: Task, directory: Path, secrets: Sequence[OpenSecret] = ()) -> Run:
        self.asked.set()
        await self.may_start.wait()
        return await super().run(allocation_id, task, directory, secrets)


@asynccontextmanager
async def workbench(home: Path, executor: Executor, told: asyncio.Queue[Stimulus]) -> AsyncIterator[Workbench]:
    """One whose allocations' actor is `told`."""
    loop = asyncio.get_running_loop()
    calls, me = LoopCalls(loop), PROVIDER.peer_id
    network = MemoryFabric().network(me)
    sealer = Sealer(bytes(32), me)
    post = NodePost(
        signer=PROVIDER,
        me=me,
        topic=TOPIC,
        network=network,
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
        loop=loop,
        calls=calls,
        executors={"scripted": executor},
        jobs=home / "jobs",
        blobs=BlobStore(home / "blobs"),
        logs=LogStore(home / "logs"),
        network=network,
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
        bench.execute(ALLOCATION, REQUEST, REQUESTER.peer_id, TASK)
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
