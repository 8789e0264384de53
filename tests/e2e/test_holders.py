"""A dataset that two nodes share, read where neither it nor its id was ever seen, and a holder that dies on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import REQUESTER, wait_until
from dms.testing.wired_market import WiredMarket, wired_market
from dms_proto.units import MIB

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

SIZE = 64 * MIB
HOLDERS = ("holder", "other")
LOST = 4 * MIB
"""What the death of a holder costs at the most: what it had sent ahead, and what all say to each other meanwhile."""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WiredMarket]:
    room = {"provider.cpu": "1", "provider.memory": "512MiB", "provider.disk": "2GiB"}
    holders = [NodeSpec(name, "requester", {"provider.enabled": False}) for name in HOLDERS]
    provider = NodeSpec("provider", "provider", room)
    with wired_market(tmp_path_factory.mktemp("holders"), REQUESTER, provider, *holders) as market:
        if lack := market.lacks():
            pytest.skip(lack)
        yield market


def shared_by_both(market: WiredMarket, file: Path) -> tuple[str, str]:
    """The id of a new dataset, which both holders have added, and the digest of its file."""
    content = os.urandom(SIZE)
    file.write_bytes(content)
    added = [market.dms("data", "add", str(file), "--shared", node=node) for node in HOLDERS]
    assert all(done.returncode == 0 for done in added), added
    (id_,) = {done.stdout.split()[-1] for done in added}
    return id_, hashlib.sha256(content).hexdigest()


def given_by(market: WiredMarket) -> dict[str, int]:
    """How many bytes the provider has kept for the last job, by the nodes that gave them."""
    (ready,) = market.json(
        "events", "query", "--kind", "AllocationReady", "--about", last_run(market), node="provider"
    )["events"]
    names = {node.peer_id: name for name, node in market.net.nodes.items()}
    return {names[peer]: size for peer, size in ready["body"]["fetched"]}


def last_run(market: WiredMarket) -> str:
    """The allocation of the last job."""
    (slot,) = market.json("job", "show", market.last_job()["job_id"])["slots"]
    return str(slot["attempts"][-1]["allocation_id"])


def test_whoever_is_given_the_id_reads_it_and_the_bytes_come_once_of_both_holders(
    market: WiredMarket, tmp_path: Path
) -> None:
    id_, digest = shared_by_both(market, tmp_path / "content")
    before = market.wires.carried
    done = market.dms("run", "--dataset", f"{id_}:in", "--disk", "256MiB", "--", "sha256sum", "in/content")
    assert (done.returncode, done.stdout.split()[:1]) == (0, [digest]), done.stderr
    assert market.wires.carried - before < SIZE + LOST
    given = given_by(market)
    assert given.pop("requester", 0) < MIB, "it does not pass through who asked, but for what says which files it has"
    assert set(given) == set(HOLDERS)
    assert sum(given.values()) >= SIZE


def test_when_a_holder_dies_on_the_way_the_rest_comes_of_the_other_and_nothing_twice(
    market: WiredMarket, tmp_path: Path
) -> None:
    """The last test: it kills a holder."""
    id_, digest = shared_by_both(market, tmp_path / "content")
    before = market.wires.carried
    read = ("run", "--dataset", f"{id_}:in", "--disk", "256MiB", "--", "sha256sum", "in/content")
    with market.started(*read) as process:
        wait_until(lambda: market.wires.carried > before + SIZE // 3, "a third of it has come")
        market["holder"].kill()
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out.split()[:1]) == (0, [digest]), said
    assert market.wires.carried - before < SIZE + LOST
    assert sum(given_by(market).get(name, 0) for name in HOLDERS) >= SIZE
