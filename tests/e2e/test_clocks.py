"""Real nodes whose clocks differ: within 30 s they work together, beyond it they say so by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from dms.devnet.network import DevNet
from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import PROVIDER, WholeMarket, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

PROGRAM: Final = Path(__file__).parent / "programs" / "skewed_node.py"
CLOCKS: Final = {"hasty": 20_000, "ahead": 45_000, "behind": -45_000}
"""Requesters, and how far their clocks are ahead of their provider's, in milliseconds."""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    requesters = (NodeSpec(name, "requester", {"provider.enabled": False}) for name in CLOCKS)
    net = DevNet(tmp_path_factory.mktemp("market"), (PROVIDER, *requesters))
    for name, ahead in CLOCKS.items():
        net[name].program = (sys.executable, str(PROGRAM), str(ahead))
    market = WholeMarket(net)
    try:
        net.onboard()
        net.start()
        if lack := market.lacks():
            pytest.skip(lack)
        yield market
    finally:
        net.stop()


def sees_a_clock(market: WholeMarket, name: str) -> bool:
    """Whether a node says that its clock and another's differ."""
    return any(trouble["code"] == "clock_skew" for trouble in market.status(name)["troubles"])


def test_a_requester_whose_clock_is_20_s_off_gets_its_job_run(market: WholeMarket) -> None:
    wait_until(lambda: market.status("hasty")["network"]["connected"], "it has met the provider")
    done = market.dms("run", "--", "sh", "-c", "echo there; exit 3", node="hasty")
    assert (done.returncode, done.stdout) == (3, "there\n"), done.stderr
    told = market.dms("doctor", "--only", "clock", node="hasty").stdout
    assert "30 s are tolerated" in told
    assert "timedatectl set-ntp true" in told


@pytest.mark.parametrize("name", ["ahead", "behind"])
def test_a_requester_whose_clock_is_45_s_off_is_told_so(market: WholeMarket, name: str) -> None:
    """Its job does not run, and every place where one looks for the reason names the clock."""
    sign = "-" if CLOCKS[name] > 0 else "+"
    # The way there counts as well, and is long on a busy machine: 45 s are seen as some dozens.
    told = re.compile(rf"its clock is \{sign}\d\d\.\d s off from ours; 30 s are tolerated")
    wait_until(lambda: sees_a_clock(market, name), f"{name} sees that the clocks differ")
    done = market.dms("run", "--", "true", node=name)
    assert done.returncode == 125, (done.stdout, done.stderr)
    assert "dms job explain r-" in done.stderr
    (job,) = market.json("job", "list", node=name)["jobs"]
    for command in (("job", "explain", job["job_id"]), ("peers", "list"), ("doctor", "--only", "peers")):
        shown = market.dms(*command, node=name).stdout
        assert told.search(shown), (command, shown)
    status = market.dms("status", node=name)
    assert status.returncode == 1, status.stdout
    assert re.search(told.pattern + r" \[clock_skew\]; dms doctor --only peers", status.stdout), status.stdout
