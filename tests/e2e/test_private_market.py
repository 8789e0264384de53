"""A private market of whole nodes: the uninvited are told what is missing, an invitation is all it takes, and a revocation ends it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dms.config import Home
from dms.config.loading import load_config
from dms.devnet.network import DevNet
from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import DMS, PROVIDER, REQUESTER, WholeMarket

pytestmark = pytest.mark.slow
GUARDED = NodeSpec(PROVIDER.name, PROVIDER.role, {**PROVIDER.settings, "access.market": "authorised"})


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    with DevNet(tmp_path_factory.mktemp("private"), (GUARDED, REQUESTER)) as net:
        yield WholeMarket(net)


def why_not(market: WholeMarket) -> dict[str, Any]:
    """The one reason why the provider would not run a job."""
    asked = json.loads(market.dms("ask", "--dry-run", "--json", "--", "true").stdout)
    (verdict,) = (v for v in asked["verdicts"] if v["peer"] == market["provider"].peer_id)
    (clause,) = verdict["clauses"]
    assert clause["dimension"] == "grant"
    return dict(clause)


def test_a_private_market_is_entered_by_one_invitation_and_left_by_one_revocation(market: WholeMarket) -> None:
    provider = market["provider"].peer_id

    uninvited = market.dms("run", "--", "echo", "hello")
    assert uninvited.returncode != 0
    assert why_not(market)["observed"] == "no grant was shown"
    assert why_not(market)["nearest"] == f"a grant from {provider}"

    invited = market.dms("invite", "--until", "1d", node="provider")
    assert "dms grant revoke g-" in invited.stderr
    joined = market.dms(*invited.stdout.split()[1:])
    assert joined.returncode == 0, joined.stderr
    ran = market.dms("run", "--", "echo", "hello")
    assert (ran.returncode, ran.stdout) == (0, "hello\n"), ran.stderr

    (issued,) = market.json("grant", "list", node="provider")["issued"]
    (held,) = market.json("grant", "list")["held"]
    assert held["grant_id"] == issued["grant_id"]
    assert "counts here" not in market.dms("grant", "inspect", held["grant_id"][:8]).stdout
    assert "kept here" in market.dms("grant", "inspect", held["grant_id"][:8]).stdout

    assert market.dms("grant", "revoke", issued["grant_id"][:8], node="provider").returncode == 0
    assert market.dms("run", "--", "echo", "hello").returncode != 0
    assert "is revoked" in why_not(market)["observed"]
    assert market["provider"].home.grants.exists() is False
    assert market["requester"].home.grants.stat().st_mode & 0o777 == 0o600


def test_a_machine_that_is_in_no_market_of_a_name_joins_by_one_command(market: WholeMarket, tmp_path: Path) -> None:
    """It is started anew in the market it was invited to, as it was started: in the background."""
    home = Home(tmp_path / "new")
    environment = {**os.environ, "DMS_HOME": str(home.root)}

    def dms(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*DMS, *words], env=environment, capture_output=True, text=True, check=False)

    settings = ("provider.enabled=false", "network.mdns=false", 'network.listen=["/ip4/127.0.0.1/tcp/0"]')
    made = dms("onboard", "--", "--no-benchmark", *(f"--set={setting}" for setting in settings))
    assert made.returncode == 0, made.stderr
    assert dms("up", "-d").returncode == 0
    try:
        invited = market.dms("invite", "--until", "1d", node="provider")
        joined = dms(*invited.stdout.split()[1:])
        assert joined.returncode == 0, joined.stderr
        assert "came with the invitation and is kept" in joined.stdout
        assert load_config(home, {}).network.topic == "devnet"
        ran = dms("run", "--", "echo", "hello")
        assert (ran.returncode, ran.stdout) == (0, "hello\n"), ran.stderr
    finally:
        dms("down")
