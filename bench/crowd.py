"""Twenty whole nodes on loopback: whom a bid request reaches, and how soon; directly, and by gossip alone.

A request asks everybody for a bid, so whoever hears it writes one down. The time is that of the bid in the bidder's log less that of the request in
the requester's, both by the machine's one clock: hearing, checking and deciding are in it. Nodes offer the scripted executor alone, since nothing
here is about running programs; all else is as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.market import connected, spec, until_ended
from dms.devnet.network import DevNet, DevNode
from dms.devnet.topology import NodeSpec
from dms.rpc.api.jobs import SubmitParams
from dms.rpc.async_client import AsyncClient

NODES = 20
JOINED_S = 2.0
"""From this long after joining everybody is reached."""
PAUSE_S = 0.25
PATIENCE_S = 60.0
SETTLE_S = 1.0
"""Bids of the last request are written down by then."""
QUIET = {"market.ask_directly": False}
SMALL = {
    "provider.cpu": "1",
    "provider.memory": "256MiB",
    "provider.disk": "1GiB",
    "executors.enabled": ["scripted"],
    "executors.minimum_isolation": "none",
    "market.bid_validity_ms": 1_000,
}


class Reached(NamedTuple):
    """How requests of one node spread.

    Attributes:
        times_ms: per request and node that heard it, from the request to the bid.
        expected: how many there should be.
    """

    times_ms: list[int]
    expected: int

    @property
    def share(self) -> float:
        """Percent of the nodes that heard a request, over all requests."""
        return 100 * len(self.times_ms) / self.expected

    @property
    def p95_ms(self) -> float:
        """Of those that heard it."""
        return statistics.quantiles(self.times_ms, n=20, method="inclusive")[-1]


def topology() -> tuple[NodeSpec, ...]:
    """All alike, but that the second asks by gossip alone."""
    names = ("asks", "gossips", *(f"node-{number}" for number in range(3, NODES + 1)))
    return tuple(NodeSpec(name, "provider", SMALL | (QUIET if name == "gossips" else {})) for name in names)


def measure(rounds: int = 20) -> dict[str, Reached]:
    """By who asks: half of the requests 2 s after nineteen have joined, half 2 s after the last one has."""
    with tempfile.TemporaryDirectory(prefix="dms-bench-") as root:
        net = DevNet(Path(root), topology())
        try:
            net.onboard()
            return asyncio.run(_both(net, rounds // 2))
        finally:
            net.stop()


async def _both(net: DevNet, rounds: int) -> dict[str, Reached]:
    *early, last = net.nodes.values()
    found = {"asks": Reached([], 0), "gossips": Reached([], 0)}
    here: list[DevNode] = []
    for arriving in (early, [last]):
        for node in arriving:
            node.launch()
        for node in arriving:
            await asyncio.to_thread(node.wait_ready)
        here += arriving
        async with contextlib.AsyncExitStack() as stack:
            clients = {node.spec.name: await stack.enter_async_context(connected(node)) for node in here}
            await asyncio.gather(*(_until_joined(client) for client in clients.values()))
            await asyncio.sleep(JOINED_S)
            asked = {name: [await _ask(clients[name]) for _ in range(rounds)] for name in found}
            await asyncio.sleep(SETTLE_S)
            for name, requests in asked.items():
                others = [client for other, client in clients.items() if other != name]
                more = await _spread(clients[name], others, requests)
                found[name] = Reached(found[name].times_ms + more.times_ms, found[name].expected + more.expected)
    return found


async def _until_joined(client: AsyncClient) -> None:
    """Until a node has met one other."""
    deadline = time.monotonic() + PATIENCE_S
    while not (await client.call("node.status"))["network"]["connected"]:
        assert time.monotonic() < deadline, "a node has met nobody"
        await asyncio.sleep(0.02)


async def _ask(client: AsyncClient) -> str:
    """Has a job of no work run, and gives its request when it has ended and the bids it did not take are free again."""
    job = spec("exit", "0", executor="scripted", bids_wanted=NODES)
    request: str = (await client.call("job.submit", SubmitParams(job)))["job_id"]
    await until_ended(client, request)
    await asyncio.sleep(PAUSE_S)
    return request


async def _spread(asking: AsyncClient, others: Sequence[AsyncClient], requests: Sequence[str]) -> Reached:
    times: list[int] = []
    for request in requests:
        opened = await asking.call("events.query", {"stream": request, "kinds": ["RequestOpened"]})
        begun = opened["events"][0]["at"]
        for client in others:
            bids = (await client.call("bids.list", {"direction": "sent", "request_id": request}))["bids"]
            times += [min(bid["at"] for bid in bids) - begun] if bids else []
    return Reached(times, len(others) * len(requests))


def main() -> None:
    """Prints both."""
    for name, reached in measure().items():
        print(f"{name:8} {reached.share:6.1f} % of {reached.expected}, p95 {reached.p95_ms:.0f} ms")


if __name__ == "__main__":
    main()
