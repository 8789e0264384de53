"""Runs as a plain user: probes the executors and tries a job against each wall and limit. Prints what happened as JSON."""

import asyncio
import json
import os
import sys
from pathlib import Path

from dms.executors import ExecutorSettings, detect
from dms_actors.ports import Exited, LogChunk
from dms_proto.capability import Resources
from dms_proto.secrets import OpenSecret
from dms_proto.work import Limits, Task

JOBS = {
    "true": Task("sandbox", ("true",)),
    "id": Task("sandbox", ("sh", "-c", "id -u; env | sort; ls /; exit 3")),
    "memory": Task(
        "sandbox",
        # Each stays below what the kernel refuses one process, and keeps what it has until it is killed: the two together are too much.
        ("sh", "-c", 'hold() { x=$(head -c 30000000 /dev/zero | tr "\\0" x); sleep 60; }; hold & hold & wait'),
        resources=Resources(memory_bytes=48 << 20),
        limits=Limits(wall_ms=60_000),
    ),
    "processes": Task(
        "sandbox",
        ("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done"),
        limits=Limits(wall_ms=60_000, processes=6),
    ),
    "disk": Task(
        "sandbox",
        ("sh", "-c", "for i in 1 2 3 4; do head -c 4000000 /dev/zero > $i; done; mkdir d; chmod 0 d; sleep 60"),
        resources=Resources(disk_bytes=10_000_000),
        limits=Limits(wall_ms=60_000),
    ),
    "closed": Task("sandbox", ("sh", "-c", "mkdir d; echo x > d/f; chmod 0 d/f d")),
    "stop": Task("sandbox", ("sh", "-c", "setsid sleep 600 & trap '' TERM; while :; do sleep 1; done")),
    "secret": Task(
        "sandbox", ("sh", "-c", "stat -c '%a %U' /run/secrets /run/secrets/KEY; cat /run/secrets/KEY; echo $TOKEN")
    ),
    "wasm": Task("wasm", module="m.wat"),
}
SECRETS = (OpenSecret("KEY", b"of a file\n"), OpenSecret("TOKEN", b"of a variable", variable=True))
MODULE = '(module (func (export "_start")))'


async def run(executor, home, name, task):
    directory = home / name
    directory.mkdir(mode=0o700)
    (directory / "m.wat").write_text(MODULE)
    run = await executor.run(f"a-{name}", task, directory, SECRETS if name == "secret" else ())
    output = b""
    async for event in run.events():
        if name == "stop" and not isinstance(event, Exited):
            await run.stop(100)
        if isinstance(event, LogChunk):
            output += event.data
        if isinstance(event, Exited):
            ending = event.ending
    readable = all(os.access(path, os.R_OK) for path in directory.rglob("*"))
    return {
        "reason": ending.reason.value,
        "detail": ending.detail,
        "output": output.decode(),
        "readable": readable,
        "cpu_us": ending.usage.cpu_us,
    }


async def main():
    home = Path(sys.argv[1])
    found = await detect(ExecutorSettings(home / "state"))
    executors = {executor.name: executor for executor, _ in found.available}
    jobs = {}
    for name, task in JOBS.items():
        if task.executor in executors:
            jobs[name] = await run(executors[task.executor], home, name, task)
    await found.close()
    offers = {offer.name: {"limits": offer.limits, "meter": offer.meter.value} for _, offer in found.available}
    reasons = {gone.name: str(gone.error) for gone in found.unavailable}
    print(json.dumps({"offers": offers, "reasons": reasons, "jobs": jobs}))


asyncio.run(main())
