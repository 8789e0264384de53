"""An honest pair while each attacker of `dms.testing.attackers` is at work on its provider. Real processes on loopback; the attacker is one, too.

The machine is shared: attacker, victim and requester compete for its cores, which counts against the node here as it would not over a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.market import BIG, connected, pss_mib, spec
from dms.devnet.network import DevNet
from dms.devnet.topology import NodeSpec
from dms.rpc.api.jobs import SubmitParams, WatchJobParams
from dms.rpc.async_client import AsyncClient

FORGIVE_S = 5
WARM_UP = 20


class Outcome(NamedTuple):
    """What one attack did. `forgiven_s`: 0 for attackers that do not come back."""

    kind: str
    p95_before_ms: float
    p95_under_ms: float
    rounds_under: int
    growth_mib: float
    muted_s: float
    forgiven_s: float


@contextlib.contextmanager
def pair() -> Iterator[DevNet]:
    """One that asks, one that runs work and will be attacked."""
    victim = NodeSpec("provider", "provider", {**BIG, "network.forgive_s": FORGIVE_S})
    nodes = (NodeSpec("requester", "requester", {"provider.enabled": False}), victim)
    with tempfile.TemporaryDirectory(prefix="dms-attack-") as root, DevNet(Path(root), nodes) as net:
        yield net


async def measure(net: DevNet, kind: str, rounds: int) -> Outcome:
    """Rounds in peace, then one attack with rounds from its beginning to its end."""
    async with connected(net["requester"]) as client:
        for _ in range(WARM_UP):
            await to_running(client)
        before = [await to_running(client) for _ in range(rounds)]
        memory = pss_mib(net["provider"])
        attacker = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "dms.testing.attackers", kind, net["provider"].address, "devnet"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # libp2p says there at length that it was refused
        )
        assert attacker.stdout is not None
        saying = asyncio.create_task(attacker.stdout.read())
        under: list[float] = []
        while not saying.done():
            under.append(await to_running(client))
        growth = pss_mib(net["provider"]) - memory
        assert await attacker.wait() == 0, kind
    told: dict[str, float] = {}
    for line in saying.result().splitlines():
        told |= json.loads(line)
    return Outcome(kind, p95(before), p95(under), len(under), growth, told["muted"], told.get("forgiven", 0.0))


async def to_running(client: AsyncClient) -> float:
    """Milliseconds from the request to its program running; returns when it has ended."""
    started = time.perf_counter()
    took = 0.0
    job = (await client.call("job.submit", SubmitParams(spec("/bin/sleep", "0.02", bids_wanted=1))))["job_id"]
    async for update in client.follow("job", WatchJobParams(job, logs=False)):
        if update["type"] == "slot" and update["phase"] == "running" and not took:
            took = (time.perf_counter() - started) * 1e3
        if update["type"] == "ended":
            assert update["job"]["summary"]["reason"] == "completed", update
            return took
    raise AssertionError(f"the feed of {job} ended before the job")


def p95(times: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(times, n=20)[-1]
