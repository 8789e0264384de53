"""Whole nodes: batch jobs have the CPU that others leave idle, stand still while it is needed, and lose nothing by it but time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.config.settings import Provider
from dms.executors.scripted import ScriptedExecutor
from dms.node.api import LocalApi
from dms.rpc.api.allocations import AllocationListParams
from dms.rpc.api.jobs import JobParams, JobView, WaitParams
from dms.testing.market import CAPABILITY, CONFIG, TARIFF, Market, until
from dms_proto.capability import JobClass, Resources
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.messages import Phase
from dms_proto.reputation import Kind
from dms_proto.units import GIB, HOUR
from dms_proto.work import EndReason

from .conftest import Local, spec

CORE = 1000


def market_of(evict_after_ms: int) -> Any:
    """One node that asks, and one of one core, where batch jobs give way."""

    def build(index: int) -> dict[str, Any]:
        if index == 0:
            return {"config": msgspec.structs.replace(CONFIG, provider=Provider(enabled=False))}
        policy = ProviderPolicy(tariff=TARIFF, offline_gives_way=True, evict_offline_after_ms=evict_after_ms)
        resources = Resources(CORE, 8 * GIB, 50 * GIB)
        return {"capability": msgspec.structs.replace(CAPABILITY, resources=resources), "policy": policy}

    return build


@pytest.fixture
async def local(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Local]:
    async with Market(tmp_path, 2, build=market_of(request.param)) as market:
        local = Local(market)
        local.apis += [await LocalApi.start(node.services) for node in market.nodes]
        try:
            yield local
        finally:
            for api in local.apis:
                await api.close()


def job(kind: JobClass, *command: str, **changes: Any) -> Any:
    wanted = spec(*command, **changes)
    return msgspec.structs.replace(wanted, needs=msgspec.structs.replace(wanted.needs, job_classes=(kind,)))


async def running(local: Local, job_id: str, attempt: int = 1) -> JobView:
    """Waits until an attempt at a job runs."""

    def runs(view: JobView) -> bool:
        attempts = view.slots[0].attempts
        return len(attempts) == attempt and attempts[-1].phase is Phase.RUNNING

    return await until(lambda: local.show(job_id), runs)


async def is_frozen(local: Local, job_id: str, *, wanted: bool) -> JobView:
    return await until(lambda: local.show(job_id), lambda view: bool(view.slots[0].attempts[-1].frozen) is wanted)


async def standing(api: LocalApi) -> dict[str, tuple[str, int]]:
    """By job: why what is not over stands still at a node, and since when."""
    listed = await api.alloc_list(AllocationListParams(active=True))
    return {each.request_id: (each.frozen, each.frozen_since) for each in listed.allocations}


@pytest.mark.parametrize("local", [HOUR], indirect=True)
async def test_a_batch_job_stands_still_while_somebody_waits_and_goes_on(local: Local) -> None:
    batch = await local.submit(job(JobClass.BATCH, "wait"))
    await running(local, batch)

    online = await local.submit(job(JobClass.INTERACTIVE, "wait"))
    await running(local, online)
    view = await is_frozen(local, batch, wanted=True)
    started = local.market.executors[1]["scripted"][0]
    assert isinstance(started, ScriptedExecutor)
    assert started.giving_way == {view.slots[0].attempts[0].allocation_id}
    assert view.slots[0].attempts[0].frozen.startswith("somebody waits for other work here")
    for api in local.apis:
        seen = await standing(api)
        assert seen[online] == ("", 0)
        assert seen[batch][0].startswith("somebody waits for other work here")
        assert seen[batch][1] > 0

    await local.api.job_cancel(JobParams(online))
    view = await is_frozen(local, batch, wanted=False)
    for api in local.apis:
        await until(lambda api=api: standing(api), lambda found: found == {batch: ("", 0)})
    assert view.slots[0].attempts[0].phase is Phase.RUNNING
    await local.api.job_cancel(JobParams(batch))
    await local.api.job_wait(WaitParams(batch, 20_000))
    await local.market.drained()


@pytest.mark.parametrize("local", [0], indirect=True)
async def test_one_that_is_evicted_is_tried_again_without_blame_and_goes_on_from_its_checkpoint(local: Local) -> None:
    batch = await local.submit(job(JobClass.BATCH, "parts", "state", "1", "on_stop", "85", "wait", checkpoint="state"))
    await running(local, batch)

    online = await local.submit(job(JobClass.INTERACTIVE, "sleep_ms", "10"))

    view = await running(local, batch, attempt=2)
    (first, second) = view.slots[0].attempts
    assert first.ending is not None
    assert (first.ending.reason, first.ending.exit_code, first.price) == (EndReason.EVICTED, 85, 0)
    assert (await local.api.job_wait(WaitParams(online, 20_000))).summary.reason is EndReason.COMPLETED
    inside = local.market.nodes[1].services.workbench.directory(second.allocation_id)
    assert (inside / "state").read_text() == "xx"
    evidence = (await local.market.nodes[0].state()).evidence
    assert all(Kind.FAULT not in seen.counts for seen in evidence.values())
    await local.api.job_cancel(JobParams(batch))
    await local.api.job_wait(WaitParams(batch, 20_000))
    await local.market.drained()
