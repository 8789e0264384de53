"""A market of real nodes on an in-memory network, each with its local interface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from dms.jobs.spec import JobSpec
from dms.node.api import LocalApi
from dms.node.projections import projections
from dms.rpc.api.jobs import JobParams, JobView, SubmitParams, WaitParams
from dms.testing.market import CAPABILITY, Market, peer_of
from dms_proto.capability import Capability, ExecutorOffer, Price, Resources
from dms_proto.ids import PeerId, RequestId
from dms_proto.market.offer_state import PolicyWished
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.units import MIB, MINUTE
from dms_proto.work import Limits, Task

NEEDS = Resources(cpu_millicores=1000, memory_bytes=256 * MIB, disk_bytes=64 * MIB)
START = 1_000


def spec(*command: str, needs: Resources = NEEDS, **changes: object) -> JobSpec:
    """A job for the scripted executor; `changes` are fields of `JobSpec`, or of its task."""
    task = Task("scripted", command, resources=needs, limits=Limits(wall_ms=MINUTE))
    task_fields = {name: changes.pop(name) for name in tuple(changes) if name in Task.__struct_fields__}
    task = msgspec.structs.replace(task, **task_fields)
    wanted = Capability(resources=needs, executors=(ExecutorOffer("scripted"),), max_wall_ms=MINUTE)
    return msgspec.structs.replace(JobSpec(task, wanted, max_price=10_000_000), **changes)


class Local:
    """A market with an interface at each node."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.apis: list[LocalApi] = []

    @property
    def api(self) -> LocalApi:
        """Of the first node, whose owner asks."""
        return self.apis[0]

    async def submit(self, wanted: JobSpec) -> RequestId:
        """Submits at the first node."""
        return (await self.api.job_submit(SubmitParams(wanted))).job_id

    async def run(self, wanted: JobSpec) -> JobView:
        """Submits and waits for the end."""
        job = await self.submit(wanted)
        view = await self.api.job_wait(WaitParams(job, 20_000))
        assert view.summary.ended_at, view
        return view

    async def show(self, job: str) -> JobView:
        """The job now."""
        return await self.api.job_show(JobParams(job))

    async def restart(self, index: int) -> None:
        """Ends a node and starts it again on its home."""
        await self.apis[index].close()
        await self.market.nodes[index].stop()
        self.apis[index] = await LocalApi.start((await self.market.start(index)).services)


async def priced(local: Local) -> PeerId:
    """Has the second node alone work, for a fee of `START`; gives its name."""
    for api in (local.apis[0], local.apis[2]):
        await api.node_pause()
    await local.apis[1]._wish(PolicyWished(ProviderPolicy(tariff=Price(start=START))), "test")
    return peer_of(local.market.nodes[1])


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Local]:
    async with Market(tmp_path, 3) as market:
        local = Local(market)
        try:
            for node in market.nodes:
                local.apis.append(await LocalApi.start(node.services))
            yield local
            for api in local.apis:
                for projection in projections(api._me):
                    assert not await api._runner.differs(projection.name), "made anew, a read model must be the same"
        finally:
            for api in local.apis:
                await api.close()


__all__ = ["CAPABILITY", "START", "Local", "local", "priced", "spec"]
