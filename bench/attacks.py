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
REPEATS = 3
"""Turns of peace and attack: the ratio is the median of theirs."""


class Outcome(NamedTuple):
    """What one attack did. Times and ratio are medians over the repeats. `forgiven_s`: 0 for attackers that do not come back."""

    kind: str
    p95_before_ms: float
    p95_under_ms: float
    ratio: float
    rounds_under: int
    growth_mib: float
    muted_s: float
    forgiven_s: float


@contextlib.contextmanager
def pair() -> Iterator[DevNet]:
    """One that asks, one that runs work and will be attacked."""
    victim = NodeSpec("provider", "provider", {**BIG, "network.forgive_s": FORGIVE_S, "market.bid_validity_ms": 500})
    nodes = (NodeSpec("requester", "requester", {"provider.enabled": False}), victim)
    with tempfile.TemporaryDirectory(prefix="dms-attack-") as root, DevNet(Path(root), nodes) as net:
        yield net


async def measure(net: DevNet, kind: str, rounds: int, repeats: int = REPEATS) -> Outcome:
    """Rounds in peace and one attack in turn, `repeats` times: what else the machine does falls on both."""
    ratios: list[float] = []
    before, under = list[float](), list[float]()
    told: dict[str, float] = {}
    async with connected(net["requester"]) as client:
        for _ in range(WARM_UP):
            await to_running(client)
        memory = pss_mib(net["provider"])
        for _ in range(repeats):
            peace = [await to_running(client) for _ in range(rounds)]
            attacked, said = await _under_attack(client, net["provider"].address, kind)
            before.append(p95(peace))
            under.append(p95(attacked))
            ratios.append(under[-1] / before[-1])
            for name, seconds in said.items():
                told[name] = max(told.get(name, 0.0), seconds)
        growth = pss_mib(net["provider"]) - memory
    middle = statistics.median
    forgiven = told.get("forgiven", 0.0)
    return Outcome(kind, middle(before), middle(under), middle(ratios), len(attacked), growth, told["muted"], forgiven)


async def _under_attack(client: AsyncClient, address: str, kind: str) -> tuple[list[float], dict[str, float]]:
    """Rounds from an attack's beginning to its end; and what the attacker says of it."""
    attacker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "dms.testing.attackers", kind, address, "devnet"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # libp2p says there at length that it was refused
    )
    assert attacker.stdout is not None
    saying = asyncio.create_task(attacker.stdout.read())
    under = [await to_running(client), await to_running(client)]
    while not saying.done():
        under.append(await to_running(client))
    assert await attacker.wait() == 0, kind
    told: dict[str, float] = {}
    for line in saying.result().splitlines():
        told |= json.loads(line)
    return under, told


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
