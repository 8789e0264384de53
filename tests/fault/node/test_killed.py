"""kill -9 in a whole market: of either node, of either network process, while a job runs. The job comes to its end all the same.

A provider that is away for longer than half of what its job has run is given up and the job begins again (docs/concepts); within that it goes on.
Which of the two happens is a matter of the machine's speed, so the tests hold either way: the exit code is the job's, everything is free, nothing
is left, and no allocation has run twice.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from dms.devnet.network import DevNode
from dms.testing.whole_market import (
    MARK,
    WholeMarket,
    first_line,
    processes_marked,
    wait_gone,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

SCRIPT = "echo up; sleep 3; echo held; while [ ! -e go ]; do sleep 0.05; done; echo result > out.txt; echo over; exit 7"
"""Has run for a while when it says "held", so that it is worth waiting for; then goes on until it is let go."""


def run_of(mark: str, into: Path) -> tuple[str, ...]:
    """It waits for its node where it is given up by the time that this is back: a busy machine takes long to start one."""
    options = ("--wait", "1m", "-e", f"{MARK}={mark}", "-o", "out.txt", "--into", str(into))
    return ("run", *options, "--", "sh", "-c", SCRIPT)


def wait_held(process: subprocess.Popen[str]) -> None:
    assert [first_line(process), first_line(process)] == ["up\n", "held\n"]


def let_go(provider: DevNode) -> None:
    """Lets every job of the provider go on to its end."""
    for directory in provider.home.jobs.glob("a-*"):
        with suppress(OSError):  # it has just ended
            (directory / "go").touch()


def finish(market: WholeMarket, process: subprocess.Popen[str], into: Path) -> None:
    """Lets the job end, in whichever attempt it is, and checks what reaches the requester."""

    def is_over() -> bool:
        let_go(market["provider"])
        return process.poll() is not None

    wait_until(is_over, "dms run has ended")
    output, errors = process.communicate()
    assert process.returncode == 7, f"{errors}\n{market.dms('job', 'show', market.last_job()['job_id']).stdout}"
    assert output.endswith("over\n")
    assert (into / "out.txt").read_text() == "result\n"
    check_attempts(market)


def check_attempts(market: WholeMarket) -> None:
    """Nothing ran twice, and an attempt that was given up was given up because its provider was away."""
    job = market.last_job()
    (slot,) = market.json("job", "show", job["job_id"])["slots"]
    *given_up, last = slot["attempts"]
    assert last["ending"]["reason"] == "exit_nonzero"
    assert {attempt["ending"]["reason"] for attempt in given_up} <= {"provider_lost"}
    allocations = [attempt["allocation_id"] for attempt in slot["attempts"]]
    assert len(set(allocations)) == len(allocations)
    for allocation in allocations:
        events = market.json("events", "query", "--about", allocation, node="provider")["events"]
        kinds = [event["kind"] for event in events]
        assert kinds.count("AllocationStarted") <= 1
        assert kinds.count("AllocationEnded") == 1


def network_process(node: DevNode) -> psutil.Process:
    assert node.process is not None
    (found,) = [c for c in psutil.Process(node.process.pid).children() if "dms.net" in c.cmdline()]
    return found


def test_a_job_outlives_its_provider_node(market: WholeMarket, mark: str, tmp_path: Path) -> None:
    provider = market["provider"]
    with market.started(*run_of(mark, tmp_path)) as process:
        wait_held(process)
        before = set(processes_marked(mark))
        provider.kill()
        assert before & set(processes_marked(mark)), "the job goes on without its node"
        provider.launch()
        provider.wait_ready()
        finish(market, process, tmp_path)


def test_a_job_outlives_its_requester_node(market: WholeMarket, mark: str, tmp_path: Path) -> None:
    """It even ends while the requester is away; `dms run` waits for the node to come back."""
    requester = market["requester"]
    with market.started(*run_of(mark, tmp_path)) as process:
        wait_held(process)
        requester.kill()
        let_go(market["provider"])
        wait_gone(mark)
        requester.launch()
        requester.wait_ready()
        finish(market, process, tmp_path)
    assert market.last_job()["done"] == 1


@pytest.mark.parametrize("name", ["provider", "requester"])
def test_a_job_outlives_a_network_process(market: WholeMarket, mark: str, tmp_path: Path, name: str) -> None:
    node = market[name]
    before = market.status(name)
    with market.started(*run_of(mark, tmp_path)) as process:
        wait_held(process)
        network_process(node).kill()
        wait_until(lambda: is_back(market, name, before), f"the network of {name} is back")
        finish(market, process, tmp_path)
    after = market.status(name)
    assert (after["id"], after["pid"]) == (before["id"], before["pid"])
    assert after["network"]["addresses"] == before["network"]["addresses"]


def is_back(market: WholeMarket, name: str, before: Any) -> bool:
    now = market.status(name)["network"]
    return bool(now["restarts"] > before["network"]["restarts"] and now["connected"] == before["network"]["connected"])
