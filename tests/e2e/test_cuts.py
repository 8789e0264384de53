"""Large contents between whole nodes whose link is cut five times on the way. `python -m bench data` does the same with a gigabyte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.testing import cut_transfers
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
