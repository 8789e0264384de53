"""The market as a user meets it: real nodes on loopback, driven through their JSON-RPC sockets.

Each figure says how it was taken. CPU is summed over every process of every node, children that have ended included.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

from dms.devnet.network import DevNet, DevNode, environment
from dms.devnet.topology import NodeSpec
from dms.jobs.spec import JobSpec
from dms.rpc.api.jobs import SubmitParams, WatchJobParams
from dms.rpc.async_client import AsyncClient
from dms_proto.capability import Capability, ExecutorOffer, Resources
from dms_proto.units import CREDIT, MIB, MINUTE
from dms_proto.work import Limits, Task

BIG = {
    "provider.cpu": "2",
    "provider.memory": "2GiB",
    "provider.disk": "4GiB",
    "executors.enabled": ["sandbox", "wasm", "python", "scripted"],
    "store.strangers_daily": "1TiB",  # the one that asks is a stranger, with more jobs than one has
    "executors.minimum_isolation": "none",  # the scripted executor isolates nothing, and runs nothing
}


def topology(providers: int, **asking: Any) -> tuple[NodeSpec, ...]:
    """One that asks, with more settings where given, and `providers` that run work, all alike."""
    asks = NodeSpec("requester", "requester", {"provider.enabled": False, **asking})
    return (asks, *(NodeSpec(f"provider-{i}", "provider", dict(BIG)) for i in range(1, providers + 1)))


def spec(*command: str, executor: str = "sandbox", **changes: Any) -> JobSpec:
    resources = Resources(cpu_millicores=100, memory_bytes=32 * MIB, disk_bytes=4 * MIB)
    task = Task(executor, command, resources=resources, limits=Limits(wall_ms=MINUTE))
    needs = Capability(resources=resources, executors=(ExecutorOffer(executor),), max_wall_ms=MINUTE)
    return JobSpec(task=task, needs=needs, max_price=CREDIT, bids_wanted=changes.pop("bids_wanted", 3), **changes)


async def until_ended(client: AsyncClient, job: str) -> dict[str, Any]:
    async for update in client.follow("job", WatchJobParams(job, logs=False)):
        if update["type"] == "ended":
            ended: dict[str, Any] = update["job"]["summary"]
            return ended
    raise AssertionError(f"the feed of {job} ended before the job")


async def until_running(client: AsyncClient, job: str) -> None:
    async for update in client.follow("job", WatchJobParams(job, logs=False)):
        if update["type"] == "slot" and update["phase"] == "running":
            return


async def run_one(client: AsyncClient, job: JobSpec) -> float:
    """Milliseconds from the request to its result being here."""
    started = time.perf_counter()
    submitted = await client.call("job.submit", SubmitParams(job))
    ended = await until_ended(client, submitted["job_id"])
    assert ended["reason"] == "completed", ended
    return (time.perf_counter() - started) * 1e3


def cpu_ms(net: DevNet) -> float:
    total = 0.0
    for node in net.nodes.values():
        assert node.process is not None
        for pid in tree(node.process.pid):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
                total += sum(map(int, fields[11:15])) * 1e3 / os.sysconf("SC_CLK_TCK")
    return total


def tree(pid: int) -> set[int]:
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found |= tree(int(child))
    return found


@contextlib.contextmanager
def devnet(providers: int, **asking: Any) -> Iterator[DevNet]:
    nodes = topology(providers, **asking)
    with tempfile.TemporaryDirectory(prefix="dms-bench-") as root, DevNet(Path(root), nodes) as net:
        yield net


@contextlib.asynccontextmanager
async def connected(node: DevNode) -> AsyncIterator[AsyncClient]:
    client = await AsyncClient.connect(node.home.socket)
    async with client:
        yield client


async def latency(net: DevNet, rounds: int) -> dict[str, float]:
    """`true` in the sandbox, one job at a time, connections open."""
    async with connected(net["requester"]) as client:
        for _ in range(10):
            await run_one(client, spec("/bin/true"))
        before = cpu_ms(net)
        times = [await run_one(client, spec("/bin/true")) for _ in range(rounds)]
        cpu = (cpu_ms(net) - before) / rounds
    return {"p50_ms": statistics.median(times), "p99_ms": sorted(times)[int(rounds * 0.99) - 1], "cpu_ms": cpu}


async def throughput(net: DevNet, jobs: int, executor: str = "sandbox") -> dict[str, float]:
    """`jobs` jobs submitted at once; until all have ended, every one of them well."""
    job = spec("/bin/true") if executor == "sandbox" else spec("exit", "0", executor=executor)
    async with connected(net["requester"]) as client:
        before, started = cpu_ms(net), time.perf_counter()
        await asyncio.gather(*(client.call("job.submit", SubmitParams(job)) for _ in range(jobs)))
        while (await client.call("job.list", {"active": True, "limit": 1}))["total"]:
            await asyncio.sleep(0.05)
        took = time.perf_counter() - started
        ended = (await client.call("job.list", {"limit": jobs}))["jobs"]
        reasons = Counter(job["reason"] for job in ended)
        assert reasons == {"completed": jobs}, reasons
    return {"jobs_per_s": jobs / took, "cpu_ms": (cpu_ms(net) - before) / jobs}


async def pieces(net: DevNet, count: int, executor: str = "sandbox") -> dict[str, float]:
    """One job of `count` allocations, asked for, awarded and committed together; until the last has ended well."""
    job = spec("/bin/true", count=count) if executor == "sandbox" else spec("exit", "0", executor=executor, count=count)
    async with connected(net["requester"]) as client:
        before = cpu_ms(net)
        took = await run_one(client, job)
    return {"pieces_per_s": count / took * 1e3, "cpu_ms": (cpu_ms(net) - before) / count}


async def failover(net: DevNet) -> float:
    """Milliseconds from kill -9 of the winner (its node and network process) after the commit to the job running elsewhere."""
    async with connected(net["requester"]) as client:
        job = (await client.call("job.submit", SubmitParams(spec("/bin/sleep", "5"))))["job_id"]
        await until_running(client, job)
        shown = await client.call("job.show", {"job_id": job})
        winner = shown["slots"][0]["attempts"][-1]["provider"]
        node = next(node for node in net.nodes.values() if node.peer_id == winner)
        assert node.process is not None
        started = time.perf_counter()
        for pid in sorted(tree(node.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while True:
            slot = (await client.call("job.show", {"job_id": job}))["slots"][0]
            attempt = slot["attempts"][-1]
            if attempt["provider"] != winner and attempt["phase"] == "running":
                break
            await asyncio.sleep(0.005)
        took = (time.perf_counter() - started) * 1e3
        await client.call("job.cancel", {"job_id": job})
    node.process.wait()
    return took


def large(*command: str, **changes: Any) -> JobSpec:
    """A job that takes both cores of a node."""
    base = spec(*command)
    resources = Resources(cpu_millicores=2000, memory_bytes=64 * MIB, disk_bytes=4 * MIB)
    task = Task("sandbox", command, resources=resources, limits=base.task.limits)
    needs = Capability(resources=resources, executors=base.needs.executors, max_wall_ms=MINUTE)
    return JobSpec(task=task, needs=needs, max_price=CREDIT, bids_wanted=1, **changes)


async def freed(net: DevNet) -> float:
    """Milliseconds from the end of the job that held the capacity to the waiting job running. One provider."""
    async with connected(net["requester"]) as client:
        jobs = []
        for seconds in ("2", "1"):
            jobs.append(await client.call("job.submit", SubmitParams(large("/bin/sleep", seconds))))
            if len(jobs) == 1:
                await until_running(client, jobs[0]["job_id"])
        await until_ended(client, jobs[0]["job_id"])
        started = time.perf_counter()
        await until_running(client, jobs[1]["job_id"])
        took = (time.perf_counter() - started) * 1e3
        await until_ended(client, jobs[1]["job_id"])
    return took


def joining(rounds: int = 5) -> float:
    """Median milliseconds from a node that fits having joined to the job that waited for it running there.

    The only other provider has half a core less than the job needs. The node has joined when it answers on its socket or when the requester has
    heard its hello, whichever comes first. Each round is a node of its own.
    """
    small = NodeSpec("small", "provider", BIG | {"provider.cpu": "1.5"})
    late = tuple(NodeSpec(f"late-{number}", "provider", dict(BIG)) for number in range(rounds))
    with tempfile.TemporaryDirectory(prefix="dms-bench-") as root:
        net = DevNet(Path(root), (*topology(0), small, *late))
        try:
            net.onboard()
            for name in ("requester", "small"):
                net[name].launch()
            for name in ("requester", "small"):
                net[name].wait_ready()
            return statistics.median(asyncio.run(_joins(net["requester"], net[spec.name])) for spec in late)
        finally:
            net.stop()


async def _joins(requester: DevNode, late: DevNode) -> float:
    async with connected(requester) as client:
        job = (await client.call("job.submit", SubmitParams(large("/bin/true", patience_ms=MINUTE))))["job_id"]
        while not (await client.call("job.show", {"job_id": job}))["declines"]:
            await asyncio.sleep(0.02)
        running = asyncio.create_task(_time_of(until_running(client, job)))
        late.launch()
        ready = await _time_of(asyncio.to_thread(late.wait_ready))
        began = await running
        met = await client.call("events.query", {"kinds": ["PeerGreeted"], "limit": 100})
        heard = next(event["at"] for event in met["events"] if event["body"]["peer"] == late.peer_id)
        shown = await client.call("job.show", {"job_id": job})
        assert shown["slots"][0]["attempts"][-1]["provider"] == late.peer_id, shown
        await until_ended(client, job)
    late.stop()
    return began - min(ready, float(heard))


async def _time_of(what: Awaitable[None]) -> float:
    """Unix ms at which it was over."""
    await what
    return time.time() * 1e3


def cold_start() -> float:
    """Seconds from starting four onboarded nodes to the first result of a sandboxed job."""
    with tempfile.TemporaryDirectory(prefix="dms-bench-") as root:
        net = DevNet(Path(root), topology(3))
        try:
            net.onboard()
            started = time.perf_counter()
            for node in net.nodes.values():
                node.launch()
            net["requester"].wait_ready()
            asyncio.run(_first_result(net))
            return time.perf_counter() - started
        finally:
            net.stop()


async def _first_result(net: DevNet) -> None:
    async with connected(net["requester"]) as client:
        await run_one(client, spec("/bin/true", patience_ms=30_000, bids_wanted=1))


def idle(net: DevNet, seconds: float = 10.0) -> dict[str, float]:
    """Memory (PSS of all its processes) and CPU of one idle provider."""
    node = net["provider-1"]
    assert node.process is not None
    pids = tree(node.process.pid)
    before = _node_cpu(pids)
    time.sleep(seconds)
    used = (_node_cpu(pids) - before) / (seconds * 1e3) * 100
    return {"pss_mib": pss_mib(node), "cpu_percent": used}


def pss_mib(node: DevNode) -> float:
    """Memory of all processes of a node."""
    assert node.process is not None
    return sum(_pss_kib(pid) for pid in tree(node.process.pid)) / 1024


def _node_cpu(pids: set[int]) -> float:
    total = 0.0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += sum(map(int, fields[11:13])) * 1e3 / os.sysconf("SC_CLK_TCK")
    return total


def _pss_kib(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def ready() -> float:
    """Seconds from `dms up` to an answer on the socket."""
    with tempfile.TemporaryDirectory(prefix="dms-bench-") as root:
        net = DevNet(Path(root), topology(0))
        try:
            net.onboard()
            started = time.perf_counter()
            net["requester"].launch()
            net["requester"].wait_ready()
            return time.perf_counter() - started
        finally:
            net.stop()


def command(node: DevNode, *arguments: str, runs: int = 15) -> float:
    """Median milliseconds of one `dms` command."""
    dms, times = Path(sys.executable).with_name("dms"), []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([dms, *arguments], env=environment(node), capture_output=True, check=True)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)
