"""Functions called on the market: one worker at each of two providers, beside processes of this machine and the bare tunnel under it.

A call is `abs(7)` everywhere, so what is measured is the way there and back.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any, NamedTuple

from bench import market, tunnels
from dms.client import Market
from dms.devnet.network import DevNet

LEASE: dict[str, Any] = {"cpu": 1.5, "memory": "64MiB", "disk": "16MiB", "max_price": 10}
"""The second worker lands at the other provider, since each has room for one."""
COLD = 10
SECONDS = 60.0


class Warm(NamedTuple):
    """One call after the other, and as many at once as there are."""

    p50_ms: float
    p95_ms: float
    calls_per_s: float


class Measured(NamedTuple):
    """All of it, in one run."""

    processes: Warm
    tunnel_p50_ms: float
    functions: Warm
    in_chunks_per_s: float
    cold_p50_ms: float
    cold_most_ms: float


def measure(rounds: int) -> Measured:
    """Measures everything."""
    with ProcessPoolExecutor(2) as processes:
        floor = warm(processes, rounds)
    with market.devnet(2) as net:
        tunnel = asyncio.run(bare_tunnel(net, rounds))
        client = Market(net["requester"].home.root)
        with client.executor(workers=2, **LEASE) as executor:
            until_both(executor)
            functions = warm(executor, rounds)
            chunks = rate(lambda: list(executor.map(abs, range(100 * rounds), chunksize=100)), 100 * rounds)
        cold = sorted(first_call(client) for _ in range(COLD))
    return Measured(floor, tunnel, functions, chunks, statistics.median(cold), cold[-1])


def warm(executor: Executor, rounds: int) -> Warm:
    """Calls of an executor that has its workers."""
    executor.submit(abs, 7).result(SECONDS)
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        executor.submit(abs, 7).result(SECONDS)
        times.append((time.perf_counter() - begun) * 1e3)

    def all_at_once() -> None:
        for future in [executor.submit(abs, 7) for _ in range(4 * rounds)]:
            future.result(SECONDS)

    return Warm(*tunnels.spread(times), rate(all_at_once, 4 * rounds))


def rate(work: Callable[[], object], calls: int) -> float:
    begun = time.perf_counter()
    work()
    return calls / (time.perf_counter() - begun)


def until_both(executor: Executor) -> None:
    """Returns when both workers do calls: two that take a while are then done at the same time."""
    while True:
        begun = time.perf_counter()
        for future in [executor.submit(time.sleep, 0.3) for _ in range(2)]:
            future.result(SECONDS)
        if time.perf_counter() - begun < 0.5:
            return


def first_call(client: Market) -> float:
    """Milliseconds to the result of the first call: a round of the market, a sandbox, a Python, a tunnel."""
    with client.executor(workers=1, **LEASE) as executor:
        begun = time.perf_counter()
        executor.submit(abs, 7).result(SECONDS)
        return (time.perf_counter() - begun) * 1e3


async def bare_tunnel(net: DevNet, rounds: int) -> float:
    """The median exchange of 100 bytes with an echo in a sandbox there."""
    async with market.connected(net["requester"]) as node:
        job = await tunnels.started(node)
        reader, writer = await tunnels.opened(net, job)
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            writer.write(tunnels.SMALL)
            await reader.readexactly(len(tunnels.SMALL))
            times.append((time.perf_counter() - begun) * 1e3)
        writer.close()
        await node.call("job.cancel", {"job_id": job})
        await market.until_ended(node, job)
    return statistics.median(times)
