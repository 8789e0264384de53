from __future__ import annotations

import asyncio
import base64
import fcntl
import itertools
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dms.testing.live_networks import Crew

JS = Path(__file__).parent / "js"
PATIENCE_S = 20.0


@pytest.fixture(scope="session")
def js_packages() -> Path:
    """The installed npm packages; the test is skipped by name where they cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; js interop needs Node 20 or newer")
    with (JS / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = JS / "node_modules" / ".package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < (JS / "package-lock.json").stat().st_mtime:
            done = subprocess.run(
                ["npm", "ci", "--no-progress"], cwd=JS, capture_output=True, text=True, timeout=110, check=False
            )
            if done.returncode:
                pytest.skip(f"npm cannot install the js packages: {done.stderr.strip().splitlines()[-1:]}")
    return JS


class JsPeer:
    """A js-libp2p peer in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self.events: list[dict[str, Any]] = []

    async def __call__(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Has the peer do something, and gives its answer."""
        number = next(self._numbers)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "command": command, **arguments}).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            answer = await future
        assert "error" not in answer, answer["error"]
        return answer

    async def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Waits for an event with these fields."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for event in self.events:
                    if event["event"] == kind and fields.items() <= event.items():
                        return event
                self._changed.clear()
                await self._changed.wait()

    async def end(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(PATIENCE_S):
            await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "event" in message:
                self.events.append(message)
                self._changed.set()
            elif message["id"] in self._answers:
                self._answers.pop(message["id"]).set_result(message)


def text(data: bytes) -> str:
    """Bytes as the peer reads and writes them."""
    return base64.b64encode(data).decode()


@pytest_asyncio.fixture
async def js(js_packages: Path) -> AsyncIterator[JsPeer]:
    """A js peer that listens."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(js_packages / "peer.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    peer = JsPeer(process)
    await peer.event("ready")
    yield peer
    await peer.end()


@pytest_asyncio.fixture
async def crew() -> AsyncIterator[Crew]:
    """Starts network processes; all are stopped at the end of the test."""
    crew = Crew()
    yield crew
    await crew.stop()
