"""Large contents between whole nodes whose link is cut on the way, or one of which is killed. `python -m bench data` does it with a gigabyte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.testing import cut_transfers
from dms.testing.whole_market import wait_until
from dms.testing.wired_market import WiredMarket
from dms_proto.units import MIB

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

SIZE = 96 * MIB
CUTS = 5
LOST = 3 * MIB
"""What one cut costs at the most: what is sent ahead (`dms.net.fetching.WINDOW`), what the sockets hold, and a chunk."""
GROWTH = 48 * MIB
"""Most memory that a node needs to move a content of any size: half of this one, and not a twentieth of a gigabyte."""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WiredMarket]:
    with cut_transfers.pair(tmp_path_factory.mktemp("cuts"), SIZE) as market:
        if lack := market.lacks():
            pytest.skip(lack)
        yield market


@pytest.mark.parametrize("way", [cut_transfers.dataset, cut_transfers.result])
def test_it_arrives_whole_and_little_of_it_is_sent_twice(
    market: WiredMarket, tmp_path: Path, way: cut_transfers.Way
) -> None:
    moved = way(market, tmp_path, SIZE, CUTS)
    assert moved.more < CUTS * LOST
    assert moved.growth < GROWTH


@pytest.mark.parametrize("killed", ["provider", "requester"])
def test_a_node_that_is_killed_on_the_way_goes_on_with_what_has_come_of_a_dataset(
    market: WiredMarket, tmp_path: Path, killed: str
) -> None:
    file = tmp_path / f"content-{killed}"
    file.write_bytes(os.urandom(SIZE))
    assert market.dms("data", "add", str(file), "--name", file.name).returncode == 0
    said = with_a_kill(market, killed, "--dataset", f"{file.name}:in", "--", "sha256sum", f"in/{file.name}")
    assert said == digest_of(file)


def test_a_requester_that_is_killed_on_the_way_goes_on_with_what_has_come_of_a_result(
    market: WiredMarket, tmp_path: Path
) -> None:
    """A provider that is killed may count as lost before it is back, and then the work is done again."""
    make = f"head -c {SIZE} /dev/urandom > out && sha256sum out"
    said = with_a_kill(market, "requester", "--output", "out", "--into", str(tmp_path), "--", "sh", "-c", make)
    assert said == digest_of(tmp_path / "out")


def with_a_kill(market: WiredMarket, killed: str, *job: str) -> str:
    """The first word that a job prints while a node is killed, and started again, with half of its content on the wire."""
    before = market.wires.carried
    room = ("--disk", str(2 * SIZE + 16 * MIB), "--wait", "1m")  # for the only provider, while it starts again
    with market.started("run", *room, *job) as process:
        wait_until(lambda: market.wires.carried > before + SIZE // 2, "half of it has come")
        market[killed].kill()
        market[killed].launch()
        market[killed].wait_ready()
        out, said = process.communicate(timeout=cut_transfers.PATIENCE_S)
    assert process.returncode == 0, said
    assert market.wires.carried - before < SIZE + LOST
    return out.split()[0]


def digest_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
