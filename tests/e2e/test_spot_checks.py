"""A spot check by whole nodes: a real sandbox does the work, the requester knows the answer, and the owner sees what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from dms.testing.whole_market import PROVIDER, REQUESTER, WholeMarket, wait_until, whole_market

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]
CLAIMED = 24
"""Thousandths of the reference core: any machine is that fast, and a check of so little is short."""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    checking = {**REQUESTER.settings, "market.spot_check_price": 0.001}
    requester = msgspec.structs.replace(REQUESTER, settings=checking)
    with whole_market(tmp_path_factory.mktemp("checked"), requester, PROVIDER) as open_market:
        with open_market["provider"].client() as client:
            offer = client.call("node.get_registered_capability")
            client.call("node.set_registered_capability", {"capability": {**offer, "cpu_score": CLAIMED}})
        yield open_market


def checks(market: WholeMarket) -> list[Mapping[str, Any]]:
    """The spot checks that are over."""
    jobs = market.json("job", "list")["jobs"]
    return [job for job in jobs if job["name"].startswith("spot check of ") and job["phase"] == "ended"]


def test_beside_a_job_its_provider_is_checked_and_what_was_found_is_shown(market: WholeMarket) -> None:
    assert market.dms("run", "--", "echo", "done").stdout == "done\n"
    wait_until(lambda: checks(market), "the spot check is over")

    (check,) = checks(market)
    assert (check["reason"], check["done"]) == ("completed", 1)
    found = market.json("job", "show", check["job_id"])["benchmark"]
    assert found["measured"] > found["claimed"] == CLAIMED / 1000
    assert (found["kind"], found["good"], found["short"]) == ("honest", 1, 0)
    peer = market.json("peers", "show", "provider")
    assert peer["benchmark"] == found
    assert ("honest", 1) in [(part["kind"], part["count"]) for part in peer["evidence"]]
    for screen in (market.dms("peers", "show", "provider"), market.dms("job", "show", check["job_id"])):
        assert "claims 0.02 reference cores" in screen.stdout
    assert "the spot check is over" in market.dms("trace", check["job_id"]).stdout
