"""A process that runs jobs as a node does, to be killed: `node.py STATE JOBS LIMITER NAME=SCRIPT…`. Prints each run's handle once it has started.

A run whose name begins with "lent" gives way.
"""

# ruff: noqa: ASYNC240 - it is alone in its process

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor
from dms_actors.ports import Run, Started
from dms_proto.work import Limits, Task


async def follow(name: str, run: Run) -> None:
    async for event in run.events():
        if isinstance(event, Started):
            print(name, event.handle, flush=True)


async def main() -> None:
    state, jobs, limiter, wall_ms, *runs = sys.argv[1:]
    sandbox = Sandbox(ExecutorSettings(Path(state), limiters=(limiter,) if limiter else ()))
    executor = SandboxExecutor(sandbox)
    followers = []
    for name, script in (each.split("=", 1) for each in runs):
        directory = Path(jobs, name)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        task = Task("sandbox", ("/bin/sh", "-c", script), limits=Limits(wall_ms=int(wall_ms)))
        run = await executor.run(name, task, directory, gives_way=name.startswith("lent"))
        followers.append(follow(name, run))
    print("launcher", sandbox.launcher_pid, flush=True)
    await asyncio.gather(*followers)
    await asyncio.Event().wait()


asyncio.run(main())
