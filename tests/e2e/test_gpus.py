"""GPUs through a whole market, on invented devices: whole ones, several, instances, shares, on two nodes at once; who gets which, and when they are
free again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dms.devnet.topology import NodeSpec
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
        "provider.simulate_gpus": "2xA100-40G,1xH100-80G/2x1g.10gb+1x3g.40gb",
    },
)
OTHER = NodeSpec(
    "other",
    "provider",
    {
        "provider.cpu": "1",
        "provider.memory": "512MiB",
        "provider.disk": "1GiB",
        "provider.simulate_gpus": "1xL40-48G",
    },
)
SAY = "echo $CUDA_VISIBLE_DEVICES; exec sleep 600"
SMALL = ("--cpu", "0.1", "--memory", "32MiB", "--disk", "16MiB")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    with whole_market(tmp_path_factory.mktemp("gpus"), REQUESTER, PROVIDER, OTHER) as market:
        yield market


@pytest.fixture
def mark(market: WholeMarket) -> Iterator[str]:
    with marked_job(market) as mark:
        yield mark


def asked(mark: str, *gpus: str, script: str = SAY) -> tuple[str, ...]:
    """A job for `dms run` that says which devices it was given, and stays."""
    return ("run", *SMALL, "-e", f"{MARK}={mark}", "--queue", "0s", *gpus, "--", "sh", "-c", script)


def free(market: WholeMarket, node: str = "provider") -> dict[str, int]:
    """Thousandths that are free of each device."""
    gpus = market.status(node)["capability"]["available"].get("gpus", [])
    return {gpu["device"]: gpu.get("milli", 1000) for gpu in gpus}


def test_a_job_has_whole_devices_to_itself(market: WholeMarket, mark: str) -> None:
    models = ("A100", "A100", "MIG 1g", "MIG 1g", "MIG 3g")
    with ExitStack() as jobs:
        told = [
            first_line(jobs.enter_context(market.started(*asked(mark, "--gpus", "1", "--gpu-model", model)))).strip()
            for model in models
        ]
        assert sorted(told[:2]) == ["GPU-sim-0", "GPU-sim-1"]
        assert sorted(told[2:]) == ["MIG-sim-2-0", "MIG-sim-2-1", "MIG-sim-2-2"]
        assert free(market) == {}
        refused = market.dms(*asked(mark, "--gpus", "1", "--gpu-model", "H100"))
        assert "1 node could do it but is busy" in refused.stderr
        kill_marked(mark)


def test_a_job_of_two_devices_is_told_both(market: WholeMarket, mark: str) -> None:
    script = "echo $CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES"
    done = market.dms(*asked(mark, "--gpus", "2", "--gpu-model", "A100", script=script))
    assert sorted(set(re.split("[ ,]", done.stdout.strip()))) == ["GPU-sim-0", "GPU-sim-1"]


def test_a_stranger_gets_no_share_and_is_told_why(market: WholeMarket, mark: str) -> None:
    refused = market.dms(*asked(mark, "--gpu-share", "0.5", "--gpu-memory", "4GiB"))
    assert "impossible (requester)" in refused.stderr
    told = market.dms("job", "explain", market.last_job()["job_id"]).stdout
    assert "shares are for machines of the same owner" in told


def test_the_owner_divides_a_device_as_long_as_there_is_room(market: WholeMarket, mark: str) -> None:
    half = ("--gpu-model", "MIG 3g", "--gpu-share", "0.5", "--gpu-memory", "20GiB")
    with ExitStack() as jobs:
        for _ in range(2):
            started = market.started(*asked(mark, *half), node="provider")
            assert first_line(jobs.enter_context(started)).strip() == "MIG-sim-2-2"
        shown = market.dms("node", "capability", node="provider").stdout
        (row,) = (line for line in shown.splitlines() if line.startswith("MIG-sim-2-2"))
        assert "1, 40 GiB" in row
        assert "not told" in row
        assert free(market) == {"MIG-sim-2-0": 1000, "MIG-sim-2-1": 1000, "sim-0": 1000, "sim-1": 1000}
        assert market.dms(*asked(mark, *half), node="provider").returncode == 125
        kill_marked(mark)


def test_a_device_is_free_when_its_program_is_killed(market: WholeMarket, mark: str) -> None:
    with market.started(*asked(mark, "--gpus", "1", "--gpu-model", "A100")) as process:
        first_line(process)
        assert len(free(market)) == 4
        kill_marked(mark)
        wait_until(lambda: len(free(market)) == 5, "the device is free again")
        process.communicate(timeout=60)
        assert process.returncode == 137


def test_devices_are_free_once_the_node_is_back_when_node_and_program_were_killed(
    market: WholeMarket, mark: str
) -> None:
    with market.started(*asked(mark, "--gpus", "2", "--gpu-model", "A100")) as process:
        first_line(process)
        market["provider"].kill()
        assert processes_marked(mark), "a run outlives its node"
        kill_marked(mark)
        market["provider"].launch()
        market["provider"].wait_ready()
        wait_until(lambda: len(free(market)) == 5, "the devices are free again")
        process.communicate(timeout=60)


def test_devices_stay_taken_while_their_program_outlives_its_node(market: WholeMarket, mark: str) -> None:
    """A job of the node's own: another requester might have given it up by the time the node is back."""
    with market.started(*asked(mark, "--gpus", "1", "--gpu-model", "A100"), node="provider") as process:
        taken = first_line(process).strip().removeprefix("GPU-")
        wait_until(lambda: market.status("provider")["work"]["running"], "its start is written down")
        market["provider"].kill()
        market["provider"].launch()
        market["provider"].wait_ready()
        assert processes_marked(mark)
        assert taken not in free(market)
        kill_marked(mark)
        wait_until(lambda: taken in free(market), "the device is free again")


TOGETHER = ("--together", "--gpus", "1", "--gpu-model", "0 (")


def run_three_together(market: WholeMarket, mark: str) -> None:
    """A provider that was killed before any job of its ended well is taken last for a while: one that does is what brings it back."""
    assert market.dms("run", *SMALL, "--gpus", "1", "--gpu-model", "A100", "--", "true").returncode == 0
    three = asked(mark, "--count", "3", *TOGETHER, "--gpu-memory", "40GiB", script="echo $CUDA_VISIBLE_DEVICES")
    wait_until(lambda: market.dms(*three).returncode == 0, "both providers have room for what goes together")
    wait_until(lambda: len(free(market)) == 5 and free(market, "other"), "the devices are free again")


def test_what_goes_together_runs_on_two_nodes_at_once(market: WholeMarket, mark: str) -> None:
    run_three_together(market, mark)
    slots = market.json("job", "show", market.last_job()["job_id"])["slots"]
    assert len({slot["attempts"][0]["provider"] for slot in slots}) == 2


def test_what_goes_together_does_not_begin_when_one_has_no_place(market: WholeMarket, mark: str) -> None:
    run_three_together(market, mark)
    refused = market.dms(*asked(mark, "--count", "4", *TOGETHER))
    assert "a place for 3 of 4 allocations that go together" in refused.stderr
    assert processes_marked(mark) == []
