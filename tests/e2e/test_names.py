"""Names between the allocations of a job, by whole nodes: the example, and a provider that is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import MARK, REQUESTER, WholeMarket, marked_job, wait_until, whole_market

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

EXAMPLE = Path(__file__).parents[2] / "examples" / "jobs" / "names.yaml"
ROOM = {"provider.cpu": "500m", "provider.memory": "512MiB", "provider.disk": "1GiB"}
"""Of each provider: for two of the example's allocations, not for three."""
PROVIDERS = ("provider", "other")
TALK = """
import os, socket, threading, time
index = int(os.environ["DMS_INDEX"])
own = socket.create_server(("127.0.0.1", 9000))
def echo():
    while True:
        with own.accept()[0] as way:
            way.sendall(way.recv(100))
threading.Thread(target=echo, daemon=True).start()
said = 0
while True:
    try:
        with socket.create_connection((f"{1 - index}.job.internal", 9000), timeout=20) as way:
            way.sendall(b"hello")
            if way.recv(100) == b"hello":
                said += 1
                print(said, flush=True)
    except OSError:
        pass
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    providers = [NodeSpec(name, "provider", ROOM) for name in PROVIDERS]
    with whole_market(tmp_path_factory.mktemp("names"), REQUESTER, *providers) as market:
        yield market


def test_the_example_goes_round_over_two_providers(market: WholeMarket) -> None:
    done = market.dms("job", "submit", str(EXAMPLE), "--follow")
    assert done.returncode == 0, done.stderr
    said = sorted(line.partition("number")[2] for line in done.stdout.splitlines())
    assert said == [" 0 hears number 1", " 1 hears number 2", " 2 hears number 0"], done.stdout
    allocations = market.json("alloc", "list")["allocations"]
    assert len({allocation["provider"] for allocation in allocations}) == len(PROVIDERS)


def test_a_killed_provider_is_called_again_and_calls_again_where_it_is_back(
    market: WholeMarket, tmp_path: Path
) -> None:
    """The last test: it kills a provider's node. Its allocation goes on, is adopted by the next, and finds and is found as before."""
    with marked_job(market) as mark:
        document = {
            "command": ["/usr/bin/python3", "-c", TALK],
            "count": 2,
            "together": True,
            "ports": [9000],
            "names": True,
            "resources": {"cpu": "300m", "memory": "64MiB", "disk": "16MiB"},
            "env": {MARK: mark},
            "timeouts": {"run": "10m"},
        }
        (tmp_path / "job.json").write_text(json.dumps(document))
        job = market.json("job", "submit", str(tmp_path / "job.json"))["job_id"]

        def said(slot: int) -> int:
            lines = market.dms("job", "logs", job, "--slot", str(slot)).stdout.split()
            return len(lines)

        try:
            wait_until(lambda: said(0) and said(1), "both hear each other")
            market["provider"].kill()
            market["provider"].launch()
            market["provider"].wait_ready()
            before = said(0), said(1)
            wait_until(lambda: said(0) > before[0] + 2 and said(1) > before[1] + 2, "both hear each other again")
        finally:
            market.dms("job", "cancel", job)
            market.dms("job", "wait", job)
