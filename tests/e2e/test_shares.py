"""Four whole nodes that are alike get the same share of many tasks of a fifth, by the preferences it has by default.

Here are networks, stores and processes of their own; that it comes to a quarter as well of 400 tasks, tests/component shows.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.devnet.network import DevNet
from dms.devnet.topology import NodeSpec
from dms.jobs.spec import JobSpec
from dms.rpc.api.jobs import SubmitParams, WaitParams
from dms.rpc.async_client import AsyncClient
from dms_proto.capability import Capability, ExecutorOffer, Resources
from dms_proto.units import CREDIT, MIB, MINUTE
from dms_proto.work import Limits, Task

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

TASKS = 100
OFF = 8
"""Each node has room for four tasks of half a second, so that it is they that take the time, and not the one machine on which all nodes run."""
LONG_MS = 180_000
ALIKE = {
    "provider.cpu": "2",
    "provider.memory": "1GiB",
    "provider.disk": "1GiB",
    "store.strangers_daily": "1TiB",  # the one that asks is a stranger to them, with more jobs than one has
    "executors.enabled": ["scripted"],
    "executors.minimum_isolation": "none",  # the scripted executor runs nothing
}
RESOURCES = Resources(cpu_millicores=500, memory_bytes=16 * MIB, disk_bytes=4 * MIB)
LIMITS = Limits(wall_ms=MINUTE)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevNet]:
    asks = NodeSpec("requester", "requester", {"provider.enabled": False})
    works = (NodeSpec(f"provider-{number}", "provider", dict(ALIKE)) for number in range(1, 5))
    with DevNet(Path(tmp_path_factory.mktemp("shares")), (asks, *works)) as net:
        yield net


@pytest.mark.parametrize("at_once", [TASKS, 4, 10], ids=["all at once", "four at a time", "ten at a time"])
def test_each_node_gets_a_quarter(net: DevNet, at_once: int) -> None:
    won = asyncio.run(_shares(net, at_once))
    assert sum(won.values()) == TASKS
    assert len(won) == 4, won
    assert all(abs(tasks - TASKS / 4) <= OFF for tasks in won.values()), won


async def _shares(net: DevNet, at_once: int) -> Counter[str]:
    won: Counter[str] = Counter()
    turn = asyncio.Semaphore(at_once)
    async with await AsyncClient.connect(net["requester"].home.socket) as client:

        async def task() -> None:
            async with turn:
                job = (await client.call("job.submit", SubmitParams(_task())))["job_id"]
                view = await client.call("job.wait", WaitParams(job, LONG_MS))
            assert view["summary"]["reason"] == "completed", view
            won[view["slots"][0]["attempts"][-1]["provider"]] += 1

        await asyncio.gather(*(task() for _ in range(TASKS)))
    return won


def _task() -> JobSpec:
    task = Task("scripted", ("sleep_ms", "500"), resources=RESOURCES, limits=LIMITS)
    needs = Capability(resources=RESOURCES, executors=(ExecutorOffer("scripted"),), max_wall_ms=MINUTE)
    return JobSpec(task=task, needs=needs, max_price=CREDIT)
