"""Cost of running `true`: a bare process, bare bubblewrap, and the sandbox executor. Prints latency and CPU per run.

Run it as `python bench/executors.py [RUNS]`. CPU is that of all processes involved (job, launcher, this one), measured as the difference of a
cgroup's or the machine's counters where there are any, so an otherwise idle machine gives the best figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from dms.executors.sandbox.engine import Sandbox
from dms.executors.sandbox.executor import SandboxExecutor
from dms.executors.settings import ExecutorSettings
from dms_actors.ports import Exited
from dms_proto.work import Task

RUNS = 100


def own_cpu_ms() -> float:
    times = os.times()
    return (times.user + times.system) * 1000


def process_cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e6


async def measure(
    name: str, once: Callable[[int], Awaitable[float]], runs: int, launcher: int = 0
) -> dict[str, object]:
    """`once` gives the CPU milliseconds of the job itself, so far as the parent's own times do not contain them."""
    for i in range(3):
        await once(-1 - i)
    latencies, job_cpu = [], 0.0
    own, other = own_cpu_ms() + children_cpu_ms(), process_cpu_ms(launcher) if launcher else 0.0
    for i in range(runs):
        begin = time.perf_counter()
        job_cpu += await once(i)
        latencies.append((time.perf_counter() - begin) * 1000)
    own = own_cpu_ms() + children_cpu_ms() - own
    other = process_cpu_ms(launcher) - other if launcher else 0.0
    latencies.sort()
    figures = {
        "what": name,
        "p50_ms": round(statistics.median(latencies), 2),
        "p99_ms": round(latencies[int(len(latencies) * 0.99)], 2),
        "min_ms": round(latencies[0], 2),
        "cpu_ms": round((own + other + job_cpu) / runs, 2),
        "cpu_job_ms": round(job_cpu / runs, 2),
        "cpu_node_ms": round(own / runs, 2),
        "cpu_launcher_ms": round(other / runs, 2),
    }
    print(json.dumps(figures), flush=True)
    return figures


def children_cpu_ms() -> float:
    times = os.times()
    return (times.children_user + times.children_system) * 1000


async def main(runs: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="dms-bench-"))
    sandbox = Sandbox(ExecutorSettings(home / "state"))
    executor = SandboxExecutor(sandbox)
    try:
        offer = await executor.probe()
        print(json.dumps({"limiter": sandbox.limiter.name, "limits": offer.limits, "bwrap": offer.version}))

        async def process(_: int) -> float:
            await asyncio.to_thread(subprocess.run, ["/bin/true"], check=True)
            return 0.0

        async def bare(_: int) -> float:
            command = [sandbox.binary, "--unshare-all", "--ro-bind", "/", "/", "/bin/true"]
            await asyncio.to_thread(subprocess.run, command, check=True)
            return 0.0

        async def ours(number: int) -> float:
            directory = home / "job"
            directory.mkdir(mode=0o700)
            run = await executor.run(f"a-{number % 1_000_000}", Task("sandbox", ("/bin/true",)), directory)
            async for event in run.events():
                if isinstance(event, Exited):
                    ending = event.ending
            directory.rmdir()
            return ending.usage.cpu_us / 1000

        await measure("subprocess true", process, runs)
        await measure("bwrap --unshare-all true", bare, runs)
        await measure("sandbox executor true", ours, runs, sandbox.launcher_pid)
    finally:
        await sandbox.close()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS))
