"""An honest pair while each attacker of `dms.testing.attackers` is at work on one of the two. Real processes on loopback; the attacker is one, too.

The machine is shared: attacker and pair compete for its cores, which counts against the nodes here as it would not over a network. The start of the
attacker's process does not count: rounds under attack begin when it is ready, and end when it is forgiven. Peace against peace, measured
likewise, says how far apart two percentiles are by chance.
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
from typing import Final, NamedTuple

from bench.market import BIG, connected, pss_mib, spec
from dms.devnet.network import DevNet, DevNode
from dms.devnet.topology import NodeSpec
from dms.jobs.spec import JobSpec
from dms.rpc.api.jobs import SubmitParams, WatchJobParams
from dms.rpc.async_client import AsyncClient
from dms.testing.attackers import ABANDONER, AGAINST_REQUESTERS
from dms_proto.market.preferences import cheapest

FORGIVE_S = 5
FORGIVE_WINNERS_S = 30
"""As by default: each lets a job down when it comes, and another once it is forgiven, and none between."""
WARM_UP = 20
REPEATS = 3
"""Turns of peace and attack; one only of those that win: each is remembered longer than the one before it at the same source."""
NOBODY: Final = "nobody"
"""Peace instead of an attack, for as many rounds."""


class Outcome(NamedTuple):
    """What one attack did.

    Percentiles are over the rounds of all turns, times the longest of any turn. `slowest_ms`: of those under attack.
    `forgiven_s`: 0 for who does not come back.
    """

    kind: str
    p95_before_ms: float
    p95_under_ms: float
    slowest_ms: float
    rounds_before: int
    rounds_under: int
    growth_mib: float
    muted_s: float
    forgiven_s: float

    @property
    def ratio(self) -> float:
        """How much longer it took under attack."""
        return self.p95_under_ms / self.p95_before_ms


@contextlib.contextmanager
def pair(bid_validity_ms: int = 10_000, forgive_s: int = FORGIVE_S) -> Iterator[DevNet]:
    """One that asks, one that runs work. The shorter its bids are valid, the sooner it is known who takes none of them."""
    forgive = {"network.forgive_s": forgive_s}
    works = NodeSpec("provider", "provider", {**BIG, **forgive, "market.bid_validity_ms": bid_validity_ms})
    nodes = (NodeSpec("requester", "requester", {"provider.enabled": False, **forgive}), works)
    with tempfile.TemporaryDirectory(prefix="dms-attack-") as root, DevNet(Path(root), nodes) as net:
        yield net


def muted_means(kind: str) -> str:
    """What is counted as the time to mute it."""
    if kind in AGAINST_REQUESTERS:
        return "from the first job that it won and let down to the last"
    if kind == ABANDONER:
        return "from the first commit that was given up to its connection closed"
    return "from its first hostile byte to its connection closed"


async def measure(net: DevNet, kind: str, rounds: int) -> Outcome:
    """Rounds in peace and one attack in turn, `REPEATS` times: what else the machine does falls on both."""
    victim, job = net["requester" if kind in AGAINST_REQUESTERS else "provider"], job_under(kind)
    before, under = list[float](), list[float]()
    told: dict[str, float] = {}
    async with connected(net["requester"]) as client:
        for _ in range(WARM_UP):
            await to_running(client, job)
        memory = pss_mib(victim)
        for _ in range(1 if kind in AGAINST_REQUESTERS else REPEATS):
            before += [await to_running(client, job) for _ in range(rounds)]
            if kind == NOBODY:
                under += [await to_running(client, job) for _ in range(rounds)]
                continue
            attacked, said = await _under_attack(client, victim, kind, job)
            under += attacked
            for name, seconds in said.items():
                told[name] = max(told.get(name, 0.0), seconds)
        growth = pss_mib(victim) - memory
    muted, forgiven = told.get("muted", 0.0), told.get("forgiven", 0.0)
    return Outcome(kind, p95(before), p95(under), max(under), len(before), len(under), growth, muted, forgiven)


async def _under_attack(
    client: AsyncClient, victim: DevNode, kind: str, job: JobSpec
) -> tuple[list[float], dict[str, float]]:
    """Rounds from an attack's beginning to its end; and what the attacker says of it."""
    attacker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "dms.testing.attackers", kind, victim.address, "devnet"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # libp2p says there at length that it was refused
    )
    assert attacker.stdout is not None
    assert b"ready" in await attacker.stdout.readline(), kind
    saying = asyncio.create_task(attacker.stdout.read())
    under = [await to_running(client, job), await to_running(client, job)]
    while not saying.done():
        under.append(await to_running(client, job))
    assert await attacker.wait() == 0, kind
    told: dict[str, float] = {}
    for line in saying.result().splitlines():
        told |= json.loads(line)
    return under, told


def job_under(kind: str) -> JobSpec:
    """The first bid will do; but who attacks by winning is compared with others, by price alone, or it would win nothing beside a proven provider."""
    if kind in AGAINST_REQUESTERS:
        return spec("/bin/sleep", "0.02", preferences=cheapest())
    return spec("/bin/sleep", "0.02", bids_wanted=1)


async def to_running(client: AsyncClient, spec: JobSpec) -> float:
    """Milliseconds from the request to its program running; returns when it has ended."""
    started = time.perf_counter()
    took = 0.0
    job = (await client.call("job.submit", SubmitParams(spec)))["job_id"]
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
