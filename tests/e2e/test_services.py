"""Services on whole nodes: a server in the sandbox, called through the network process, kept warm, and there again after kill -9."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import PROVIDER, REQUESTER, WholeMarket, wait_until, whole_market

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

SCRIPT = "examples/services/upper.py"
KIND, ENTRY = "python-script", "upper"
POOL = {"pool.cpu": "500m", "pool.memory": "128MiB", "pool.disk": "64MiB"}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    provider = NodeSpec(PROVIDER.name, PROVIDER.role, {**PROVIDER.settings, **POOL})
    with whole_market(tmp_path_factory.mktemp("market"), REQUESTER, provider) as market:
        yield market


@pytest.fixture(scope="module", autouse=True)
def offered(market: WholeMarket) -> None:
    """The provider offers the example."""
    size = ["--cpu", "250m", "--memory", "64MiB", "--disk", "16MiB"]
    for command in (
        ["install", KIND, ENTRY, "-p", f"script={SCRIPT}", "-p", "port=8080", *size],
        ["start", KIND, ENTRY],
    ):
        done = market.dms("service", *command, node="provider")
        assert done.returncode == 0, done.stderr


def call(market: WholeMarket, text: str, node: str = "requester", *options: str) -> subprocess.CompletedProcess[str]:
    return market.dms("service", "call", KIND, ENTRY, *options, node=node, given=text)


def answered(market: WholeMarket) -> int:
    """Calls one more; gives how many the process says that it has answered."""
    number, _, said = call(market, "x", "provider").stdout.partition(": ")
    assert said == "X"
    return int(number)


def grant_calls(market: WholeMarket) -> None:
    """Lets the requester call."""
    me = market.json("node", "id")["peer_id"]
    granted = market.dms("grant", "create", "--to", me, "--can", "call", node="provider")
    assert granted.returncode == 0, granted.stderr
    kept = market.dms("grant", "keep", granted.stdout.strip())
    assert kept.returncode == 0, kept.stderr


def test_a_call_takes_a_grant_and_with_one_it_is_answered(market: WholeMarket) -> None:
    refused = call(market, "hello", "requester", "--node", "provider")
    assert refused.returncode == 1
    assert "calls take a grant: wanted the right to call, there no grant was shown" in refused.stderr
    grant_calls(market)
    done = call(market, "hello", "requester", "--node", "provider")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": HELLO")
    (tab,) = market.json("account", "tabs")["tabs"]  # they are no machines of one owner
    assert (tab["service"], tab["ours"], tab["why_over"], tab["max_price"]) == (f"{KIND}/{ENTRY}", True, "", 1_000_000)
    wait_until(lambda: [billed[:2] for billed in _billed(market)] == [(tab["tab_id"], 1)], "the call is billed")


def test_the_next_call_finds_the_same_process_warm(market: WholeMarket) -> None:
    first, second = (answered(market) for _ in range(2))
    assert second == first + 1


def test_the_nearest_node_that_offers_it_is_found(market: WholeMarket) -> None:
    grant_calls(market)
    assert call(market, "x").stdout.endswith(": X")
    wrong = market.dms("service", "call", KIND, "lower")
    assert (wrong.returncode, "no node known here offers the service python-script/lower" in wrong.stderr) == (1, True)


def test_the_control_blocks_are_shown_with_the_decision(market: WholeMarket) -> None:
    call(market, "x", "provider")
    view = market.json("pool", "list", node="provider")
    (container,) = view["containers"]
    assert container["phase"] == "ready"
    assert container["tally"]["hits"] == sum(each["tally"]["hits"] for each in view["virtual"]) >= 1
    shown = market.dms("pool", "show", container["container_id"], node="provider").stdout
    assert "there was no other of its kind" in shown
    assert "computed again it is the same" in shown
    listed = market.dms("service", "list", node="provider").stdout
    assert "offered" in listed


def test_a_killed_node_knows_its_containers_again_with_every_hit(market: WholeMarket) -> None:
    before = answered(market)
    hits, billed = _hits(market), _billed(market)
    market["provider"].kill()
    market["provider"].launch()
    market["provider"].wait_ready()
    wait_until(lambda: _phases(market) == ["ready"], "the container is known again")
    assert _hits(market) == hits
    assert _billed(market) == billed
    assert answered(market) == before + 1, "it is the same process"
    assert _hits(market) == hits + 1


def test_a_service_that_is_stopped_leaves_nothing_running(market: WholeMarket) -> None:
    call(market, "x", "provider")
    assert market.dms("service", "stop", KIND, ENTRY, node="provider").returncode == 0
    wait_until(lambda: _phases(market) == [], "the container has ended")
    refused = call(market, "x", "provider", "--node", "provider")
    assert "the service python-script/upper is not offered there" in refused.stderr


def _billed(market: WholeMarket) -> list[tuple[str, int, int]]:
    """What calls of others have come to at the provider."""
    tabs = market.json("account", "tabs", node="provider")["tabs"]
    return [(tab["tab_id"], tab["calls"], tab["ran_ms"]) for tab in tabs]


def _hits(market: WholeMarket) -> int:
    return sum(each["tally"]["hits"] for each in market.json("pool", "list", node="provider")["virtual"])


def _phases(market: WholeMarket) -> list[str]:
    return [each["phase"] for each in market.json("pool", "list", node="provider")["containers"]]
