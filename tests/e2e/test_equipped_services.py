"""Services with GPUs and datasets on a whole node: given in the sandbox, on invented devices, and free again when a container is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import REQUESTER, WholeMarket, wait_until, whole_market

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

SERVER = """
import os, socket
from pathlib import Path
words = Path("words/list.txt").read_text()
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    connection, _ = listener.accept()
    with connection:
        if connection.recv(1):
            connection.sendall(f"{os.environ['CUDA_VISIBLE_DEVICES']} {words}".encode())
"""
KIND = "python-script"
PROGRAM = f"server{os.getpid()}.py"
"""Of this run alone: processes are found by it."""
DEVICE = b"CUDA_VISIBLE_DEVICES=GPU-sim-0"
SIZE = ("--cpu", "250m", "--memory", "64MiB", "--disk", "16MiB", "--gpus", "1", "--gpu-model", "A100")
PROVIDER = NodeSpec(
    "provider",
    "provider",
    {
        "provider.cpu": "2",
        "provider.memory": "1GiB",
        "provider.disk": "2GiB",
        "provider.simulate_gpus": "2xA100-40G",
        "pool.cpu": "500m",
        "pool.memory": "128MiB",
        "pool.disk": "64MiB",
        "pool.gpus": ["sim-0"],
    },
)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    with whole_market(tmp_path_factory.mktemp("market"), REQUESTER, PROVIDER) as market:
        root = tmp_path_factory.mktemp("service")
        (root / PROGRAM).write_text(SERVER)
        (root / "words").mkdir()
        (root / "words" / "list.txt").write_text("of the dataset")
        task = ("-p", f"script={root / PROGRAM}", "-p", "port=8080", "--dataset", "words", *SIZE)
        for command in (
            ("data", "add", "--name", "words", str(root / "words")),
            *(("service", "install", KIND, entry, *task) for entry in ("one", "two")),
            *(("service", "start", KIND, entry) for entry in ("one", "two")),
        ):
            done = market.dms(*command, node="provider")
            assert done.returncode == 0, done.stderr
        yield market


def used(market: WholeMarket) -> list[str]:
    """The devices that containers have."""
    return [gpu["device"] for gpu in market.json("pool", "list", node="provider")["used"].get("gpus", [])]


def server_pid() -> int:
    """The process of the container, as this machine knows it."""
    (pid,) = (int(process.name) for process in Path("/proc").iterdir() if _is_server(process))
    return pid


def _is_server(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return words[:2] == [b"python3", PROGRAM.encode()] and DEVICE in (process / "environ").read_bytes()
    except OSError:
        return False


def test_a_container_has_its_device_and_dataset_and_the_device_is_free_when_it_is_killed(market: WholeMarket) -> None:
    called = market.dms("service", "call", KIND, "one", node="provider", given="x")
    assert called.stdout == "GPU-sim-0 of the dataset", called.stderr
    assert used(market) == ["sim-0"]
    refused = market.dms("service", "call", KIND, "two", node="provider", given="x")
    assert (refused.returncode, "nothing may go for it" in refused.stderr) == (1, True)
    os.kill(server_pid(), signal.SIGKILL)
    wait_until(lambda: not used(market), "the device is free again")
    assert market.dms("service", "call", KIND, "two", node="provider", given="x").stdout.startswith("GPU-sim-0")


def test_a_device_stays_with_its_container_when_the_node_is_killed_and_is_free_when_both_were(
    market: WholeMarket,
) -> None:
    assert market.dms("service", "call", KIND, "two", node="provider", given="x").returncode == 0
    assert used(market) == ["sim-0"]
    market["provider"].kill()
    market["provider"].launch()
    market["provider"].wait_ready()
    wait_until(lambda: used(market) == ["sim-0"], "the container is known again with its device")
    market["provider"].kill()
    os.kill(server_pid(), signal.SIGKILL)
    market["provider"].launch()
    market["provider"].wait_ready()
    assert market.dms("service", "call", KIND, "two", node="provider", given="x").stdout.startswith("GPU-sim-0")
    assert used(market) == ["sim-0"]
