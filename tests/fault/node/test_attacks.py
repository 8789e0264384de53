"""Attackers against a whole node that works: each is muted and forgiven, and honest work goes on meanwhile. `make attack` measures the same.

Those against the node that asks are in test_abusers.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from dms.devnet.topology import NodeSpec
from dms.testing.attackers import AGAINST_PROVIDERS, ONE_BY_ONE
from dms.testing.whole_market import PROVIDER, REQUESTER, WholeMarket, whole_market

pytestmark = [pytest.mark.libp2p, pytest.mark.slow, pytest.mark.timeout(300)]
MAX_GROWTH = 100 * 1024 * 1024
"""Far above what is allowed, far below what an unbounded table would take: `make attack` has the bar."""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    victim = NodeSpec(
        PROVIDER.name, PROVIDER.role, {**PROVIDER.settings, "network.forgive_s": 3, "market.bid_validity_ms": 1_000}
    )
    with whole_market(tmp_path_factory.mktemp("attacks"), REQUESTER, victim) as running:
        yield running


def memory(market: WholeMarket) -> int:
    process = market["provider"].process
    assert process is not None
    family = psutil.Process(process.pid)
    return int(sum(one.memory_info().rss for one in (family, *family.children(recursive=True))))


@pytest.mark.parametrize("kind", AGAINST_PROVIDERS)
def test_an_attacker_is_muted_and_forgiven_and_honest_work_goes_on(market: WholeMarket, kind: str) -> None:
    before = memory(market)
    attacker = subprocess.Popen(
        [sys.executable, "-m", "dms.testing.attackers", kind, market["provider"].address, "devnet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with attacker:
        done = market.dms("run", "--", "/bin/true")
        assert done.returncode == 0, done.stderr
        said, _ = attacker.communicate(timeout=200)
    told = {name for line in said.splitlines() for name in json.loads(line)}
    assert "muted" in told
    assert ("forgiven" in told) == (kind not in ONE_BY_ONE)
    assert memory(market) - before < MAX_GROWTH
