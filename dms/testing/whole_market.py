"""A market of whole nodes for end-to-end tests: the nodes of a devnet, the `dms` command as a person types it, and what jobs leave behind.

Every command is a process of its own, every job gets a mark in its environment by which its processes are found wherever they went.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from dms.devnet.network import DevNet, DevNode, environment
from dms.devnet.topology import NodeSpec

TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.02
MARK: Final = "DMS_TEST_MARK"
DMS: Final = (sys.executable, "-c", "from dms.cli import main; main()")
REQUESTER: Final = NodeSpec("requester", "requester", {"provider.enabled": False})
PROVIDER: Final = NodeSpec(
    "provider", "provider", {"provider.cpu": "1", "provider.memory": "512MiB", "provider.disk": "2GiB"}
)


class WholeMarket:
    """A running devnet and the commands of its nodes' owners."""

    def __init__(self, net: DevNet) -> None:
        self.net = net

    def __getitem__(self, name: str) -> DevNode:
        return self.net[name]

    def dms(
        self, *arguments: str, node: str = "requester", given: str | None = None, seconds: float = TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, which has to come in so many seconds; `given` on its standard input."""
        return subprocess.run(
            [*DMS, *arguments],
            env=environment(self.net[node]),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def json(self, *arguments: str, node: str = "requester") -> Any:  # whatever the command prints
        """What a command prints with --json."""
        done = self.dms(*arguments, "--json", node=node)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def started(self, *arguments: str, node: str = "requester") -> Iterator[subprocess.Popen[str]]:
        """A command that goes on while the test looks; killed at the end of the block if it still does."""
        process = subprocess.Popen(
            [*DMS, *arguments],
            env=environment(self.net[node]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def last_job(self) -> Mapping[str, Any]:
        """The summary of the requester's newest job."""
        job: Mapping[str, Any] = self.json("job", "list")["jobs"][0]
        return job

    def status(self, name: str) -> Mapping[str, Any]:
        """What `dms status --json` says."""
        with self.net[name].client() as client:
            status: Mapping[str, Any] = client.call("node.status")
        return status

    def wait_free(self, name: str = "provider") -> None:
        """Waits until all that a node offers is free again."""

        def is_free() -> bool:
            status = self.status(name)
            capability = status["capability"]
            return bool(status["work"]["running"] == 0 and not capability["locked"] and not capability["allocated"])

        wait_until(is_free, f"{name} is free again")

    def lacks(self, name: str = "provider") -> str:
        """What a node lacks for running the jobs of these tests; empty when it can."""
        executors = self.status(name)["capability"]["offer"].get("executors", [])
        if all(executor["name"] != "sandbox" for executor in executors):
            return "no sandbox on this machine; dms doctor --only sandbox says why"
        if not any(Path(place, "python3").exists() for place in ("/usr/bin", "/usr/local/bin")):
            return "no python3 below /usr to run inside"
        return ""


@contextmanager
def whole_market(root: Path, *topology: NodeSpec) -> Iterator[WholeMarket]:
    """A market of these nodes for a while, by default of one that asks and one that runs. Skips where no job can run."""
    with DevNet(root, topology or (REQUESTER, PROVIDER)) as net:
        market = WholeMarket(net)
        if lack := market.lacks():
            pytest.skip(lack)
        yield market


def wait_until(condition: Callable[[], object], what: str, seconds: float = TIMEOUT_S) -> None:
    """Waits for what happens in another process.

    Raises:
        AssertionError: it did not happen within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(POLL_S)


@contextmanager
def marked_job(market: WholeMarket) -> Iterator[str]:
    """A mark for the job of one test, for `dms run --env`. At the end nothing of it may run, and the provider must be free again."""
    mark = uuid.uuid4().hex
    try:
        yield mark
        wait_until(lambda: not processes_marked(mark), "the job's processes are gone")
        market.wait_free()
    finally:
        kill_marked(mark)  # only where the test failed is any left


def kill_marked(mark: str) -> None:
    """Kills what there is of a job."""
    for pid in processes_marked(mark):
        with suppress(ProcessLookupError):  # its parent's end was its own
            os.kill(pid, signal.SIGKILL)


def processes_marked(mark: str) -> list[int]:
    """Process ids of a job, by its mark; those in its sandbox and those that left it."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if wanted in variables:
            found.append(int(process.name))
    return found


def wait_gone(mark: str) -> None:
    """Waits until nothing of a job runs any more."""
    wait_until(lambda: not processes_marked(mark), "the job's processes are gone")


def first_line(process: subprocess.Popen[str]) -> str:
    """The next line that a command prints on standard output.

    Raises:
        AssertionError: it ended first; with what it said on standard error.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, said = process.communicate(timeout=TIMEOUT_S)
        raise AssertionError(f"{process.args!r} ended with {process.returncode} before it printed a line: {said}")
    return line
