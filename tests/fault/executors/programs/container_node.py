"""A process that runs containers as a node does, to be killed: `container_node.py STATE JOBS SOCKET IMAGE WALL_MS NAME=SCRIPT…`. Prints handles."""

# ruff: noqa: ASYNC240 - it is alone in its process

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dms.executors import ExecutorSettings, OciExecutor, OciSettings
from dms_actors.ports import Run, Started
from dms_proto.work import Limits, Task


async def follow(name: str, run: Run) -> None:
    async for event in run.events():
        if isinstance(event, Started):
            print(name, event.handle, flush=True)


async def main() -> None:
    state, jobs, socket, image, wall_ms, *runs = sys.argv[1:]
    executor = OciExecutor(ExecutorSettings(Path(state), oci=OciSettings(socket=socket)))
    followers = []
    for name, script in (run.split("=", 1) for run in runs):
        directory = Path(jobs, name)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        task = Task("oci", ("/bin/sh", "-c", script), image=image, limits=Limits(wall_ms=int(wall_ms)))
        followers.append(follow(name, await executor.run(name, task, directory)))
    await asyncio.gather(*followers)
    await asyncio.Event().wait()


asyncio.run(main())
