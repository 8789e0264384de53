"""Another size while it runs, through the local interface: what is not answered yet may still happen, and is not called refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dms.executors.scripted import ScriptedExecutor, ScriptedRun
from dms.node.api import LocalApi, allocations
from dms.rpc.api.allocations import ResizeParams
from dms.rpc.api.jobs import JobParams, JobView, SubmitParams
from dms.testing.market import Market, until
from dms_actors.ports import Run
from dms_proto.capability import Resources
from dms_proto.errors import PeerError, UserError
from dms_proto.messages import Phase
from dms_proto.secrets import OpenSecret
from dms_proto.units import CORE
from dms_proto.work import Task
from tests.component.node.conftest import spec


class GatedRun(ScriptedRun):
    """Changes its size when the gate is opened."""

    gate: asyncio.Event

    async def resize(self, resources: Resources) -> None:
        await self.gate.wait()
        await super().resize(resources)


class GatedExecutor(ScriptedExecutor):
    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def run(
        self,
        allocation_id: str,
        task: Task,
        directory: Path,
        secrets: Sequence[OpenSecret] = (),
        *,
        gives_way: bool = False,
    ) -> Run:
        self._started += 1
        run = self._runs[allocation_id] = GatedRun(task, directory, f"gated:{self._started}", self._sleep)
        run.gate = self.gate
        return run


async def test_what_is_not_answered_is_not_refused_and_is_shown_when_it_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = GatedExecutor()
    there = {"scripted": (gated, await gated.probe())}

    def build(_index: int) -> dict[str, Any]:
        return {"executors": there}

    monkeypatch.setattr(allocations, "RESIZE_S", 0.1)
    async with Market(tmp_path, 1, build=build) as market:
        api = await LocalApi.start(market.nodes[0].services)

        async def shown() -> JobView:
            return await api.job_show(JobParams(job))

        job = (await api.job_submit(SubmitParams(spec("wait")))).job_id
        await until(shown, lambda view: [attempt.phase for attempt in view.slots[0].attempts] == [Phase.RUNNING])
        with pytest.raises(PeerError) as unanswered:
            await api.alloc_resize(ResizeParams(job, cpu_millicores=2 * CORE))
        assert (unanswered.value.code, unanswered.value.retryable) == ("resize_unanswered", True)
        assert "may yet get 2 cores" in unanswered.value.message
        with pytest.raises(PeerError, match="may yet get 2 cores"):  # one change after the other
            await api.alloc_resize(ResizeParams(job, cpu_millicores=3 * CORE))
        assert "is to get another size" in str(await shown())

        gated.gate.set()
        await until(shown, lambda view: "has 2 cores" in str(view))
        assert (await api.alloc_resize(ResizeParams(job, cpu_millicores=2 * CORE))).resources.cpu_millicores == 2 * CORE
        with pytest.raises(UserError, match="resize_refused") as refused:
            await api.alloc_resize(ResizeParams(job, cpu_millicores=0))
        assert refused.value.hint == f"dms job show {job} says what it has"
        await api.job_cancel(JobParams(job))
        await market.drained()
        await api.close()
