"""What runs gets more, or less, through whole nodes: within what is free, for its own requester, and again when nodes were killed."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from dms.devnet.topology import NodeSpec
from dms.rpc.api.allocations import ResizeParams
from dms.rpc.api.jobs import JobParams
from dms.testing.whole_market import (
    MARK,
    REQUESTER,
    WholeMarket,
    first_line,
    kill_marked,
    marked_job,
    processes_marked,
    wait_until,
    whole_market,
)

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

PROVIDER = NodeSpec(
    "provider",
    "provider",
    {
        "provider.cpu": "2",
        "provider.memory": "1GiB",
        "provider.disk": "2GiB",
        "provider.simulate_gpus": "1xA100-40G",
    },
)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    with whole_market(tmp_path_factory.mktemp("resize"), REQUESTER, PROVIDER) as market:
        yield market


@pytest.fixture
def mark(market: WholeMarket) -> Iterator[str]:
    with marked_job(market) as mark:
        yield mark


def asked(mark: str, *options: str, script: str = "echo up; exec sleep 600") -> tuple[str, ...]:
    small = ("--cpu", "0.2", "--memory", "64MiB", "--disk", "16MiB", "--max-price", "100")
    return ("run", *small, "-e", f"{MARK}={mark}", "--queue", "0s", *options, "--", "sh", "-c", script)


def available(market: WholeMarket) -> tuple[int, int]:
    free = market.status("provider")["capability"]["available"]
    return free.get("cpu_millicores", 0), free.get("memory_bytes", 0) >> 20


def test_cores_and_memory_change_while_a_job_runs_and_are_free_again(market: WholeMarket, mark: str) -> None:
    before = available(market)
    with market.started(*asked(mark)) as process:
        first_line(process)
        job = market.last_job()["job_id"]

        larger = market.dms("alloc", "resize", job, "--cpu", "1.5", "--memory", "512MiB")
        assert larger.returncode == 0, larger.stderr
        wait_until(lambda: available(market) == (before[0] - 1500, before[1] - 512), "its node has as much less")
        assert processes_marked(mark), "it was not started again"

        refused = market.dms("alloc", "resize", job, "--cpu", "4")
        assert refused.returncode == 1
        assert "4 cores wanted, 2 cores with what it has" in refused.stderr
        assert available(market) == (before[0] - 1500, before[1] - 512)

        smaller = market.dms("alloc", "resize", job, "--cpu", "0.1")
        assert smaller.returncode == 0, smaller.stderr
        wait_until(lambda: available(market) == (before[0] - 100, before[1] - 512), "what it gives up is free")
        assert re.search(r"slot 0 has 0.1 cores, 512 MiB memory.* since \S+", market.dms("job", "show", job).stdout)
        assert "it has what was asked for" in market.dms("trace", job, node="provider").stdout
        kill_marked(mark)
        process.communicate(timeout=60)
    wait_until(lambda: available(market) == before, "all of it is free again")


def test_a_resize_survives_the_death_of_both_nodes(market: WholeMarket, mark: str) -> None:
    before = available(market)
    with market.started(*asked(mark), node="provider") as process:
        first_line(process)
        job = market.json("job", "list", node="provider")["jobs"][0]["job_id"]
        assert market.dms("alloc", "resize", job, "--cpu", "1", node="provider").returncode == 0
        wait_until(lambda: available(market)[0] == before[0] - 1000, "its node has a core less")
        market["provider"].kill()
        market["provider"].launch()
        market["provider"].wait_ready()
        assert processes_marked(mark)
        assert available(market)[0] == before[0] - 1000, "it has its size again"
        (shown,) = market.json("alloc", "list", "--active", node="provider")["allocations"]
        assert shown["task"]["resources"]["cpu_millicores"] == 1000
        again = market.dms("alloc", "resize", job, "--cpu", "0.5", node="provider")
        assert again.returncode == 0, again.stderr
        kill_marked(mark)
    wait_until(lambda: available(market) == before, "all of it is free again")


def send(market: WholeMarket, node: str, sign: signal.Signals) -> None:
    process = market[node].process
    assert process is not None
    process.send_signal(sign)


@contextmanager
def in_a_resize(market: WholeMarket, mark: str) -> Iterator[str]:
    """A job that was asked to get a core, of a provider that stands still: too short to be given up for it, so no command is started meanwhile."""
    with market.started(*asked(mark)) as process, market["requester"].client() as asking:
        first_line(process)
        job = market.last_job()["job_id"]
        send(market, "provider", signal.SIGSTOP)
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(asking.call, "alloc.resize", ResizeParams(job, 1000))
            wait_until(lambda: size_of(market, job) == "is to get another size", "it is asked for")
            yield job
            answer.exception()


def size_of(market: WholeMarket, job: str) -> str:
    """What came of the last change of its size."""
    with market["requester"].client() as client:
        (slot,) = client.call("job.show", JobParams(job))["slots"]
    return str(slot.get("size", ""))


def has_a_core(market: WholeMarket, job: str) -> bool:
    return "slot 0 has 1 core, " in market.dms("job", "show", job).stdout


def test_a_requester_that_is_killed_in_the_middle_of_a_resize_hears_the_answer(market: WholeMarket, mark: str) -> None:
    before = available(market)
    with in_a_resize(market, mark) as job:
        market["requester"].kill()
        send(market, "provider", signal.SIGCONT)
        market["requester"].launch()
        market["requester"].wait_ready()
        wait_until(lambda: has_a_core(market, job), "it has its new size")
        assert available(market)[0] == before[0] - 1000
        assert processes_marked(mark), "it was not started again"
        kill_marked(mark)
    wait_until(lambda: available(market) == before, "all of it is free again")


def test_a_provider_that_is_killed_in_the_middle_of_a_resize_makes_it_when_it_is_back(
    market: WholeMarket, mark: str
) -> None:
    before = available(market)
    with in_a_resize(market, mark) as job:
        send(market, "requester", signal.SIGSTOP)  # a run that has just begun would be given up for a second's absence
        market["provider"].kill()
        market["provider"].launch()
        market["provider"].wait_ready()
        send(market, "requester", signal.SIGCONT)
        wait_until(lambda: has_a_core(market, job), "it has its new size")
        assert available(market)[0] == before[0] - 1000
        assert processes_marked(mark), "it was not started again"
        kill_marked(mark)
    wait_until(lambda: available(market) == before, "all of it is free again")


def gpu_left(market: WholeMarket) -> int:
    gpus = market.status("provider")["capability"]["available"].get("gpus", [])
    return sum(gpu.get("milli", 1000) for gpu in gpus)


def test_shares_of_a_gpu_grow_and_shrink_among_own_machines(market: WholeMarket, mark: str) -> None:
    share = ("--gpus", "1", "--gpu-share", "0.25", "--gpu-memory", "4GiB")
    with market.started(*asked(mark, *share), node="provider") as process:
        first_line(process)
        job = market.json("job", "list", node="provider")["jobs"][0]["job_id"]
        grown = market.dms("alloc", "resize", job, "--gpu-share", "0.5", "--gpu-memory", "8GiB", node="provider")
        assert grown.returncode == 0, grown.stderr
        wait_until(lambda: gpu_left(market) == 500, "half of the device is left")
        other = market.dms("alloc", "resize", job, "--gpu-memory", "64GiB", node="provider")
        assert "40 GiB" in other.stderr
        kill_marked(mark)
    wait_until(lambda: gpu_left(market) == 1000, "the device is free again")


def test_a_stranger_s_whole_gpu_does_not_become_a_share(market: WholeMarket, mark: str) -> None:
    with market.started(*asked(mark, "--gpus", "1")) as process:
        first_line(process)
        job = market.last_job()["job_id"]
        refused = market.dms("alloc", "resize", job, "--gpu-share", "0.5", "--gpu-memory", "8GiB")
        assert "shares are for machines of the same owner" in refused.stderr
        assert gpu_left(market) == 0
        kill_marked(mark)
        process.communicate(timeout=60)
