"""Hosts with a slow and lossy network between them: a whole job, and siblings at two that do not reach each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from dms.devnet.network import DevNet
from dms.testing import wan
from dms.testing.whole_market import MARK, PROVIDER, REQUESTER, WholeMarket, marked_job, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.libp2p, pytest.mark.root]

DELAY_MS = 30
LOSS = 0.015
SIZE = 300_000
"""Bytes of the input, and of the output: some hundred packets each way, so that some are lost."""


@pytest.fixture
def link() -> Iterator[wan.Wan]:
    if lack := wan.lack():
        pytest.skip(lack)
    with wan.Wan(2, delay_ms=DELAY_MS, loss=LOSS, seed=7) as link:
        yield link


@pytest.fixture
def market(link: wan.Wan, tmp_path: Path) -> Iterator[WholeMarket]:
    with joined(link, DevNet(tmp_path / "market", (REQUESTER, PROVIDER))) as market:
        yield market


@contextmanager
def joined(link: wan.Wan, net: DevNet) -> Iterator[WholeMarket]:
    """A market with a node at each host. Skips where no job can run."""
    for node, host in zip(net.nodes.values(), link.hosts, strict=True):
        node.host = host.address
        node.program = (*host.prefix, *node.program)
    with net:
        market = WholeMarket(net)
        if lack := market.lacks():
            pytest.skip(lack)
        yield market


def test_a_job_with_files_crosses_a_slow_and_lossy_network(link: wan.Wan, market: WholeMarket, tmp_path: Path) -> None:
    data = sha256(b"seed").digest() * (SIZE // 32)
    (tmp_path / "data.bin").write_bytes(data)
    into = tmp_path / "into"
    program = "data = open('data.bin', 'rb').read(); open('out.bin', 'wb').write(data[::-1]); print(len(data)); exit(5)"
    with marked_job(market) as mark:
        done = market.dms(
            "run", "-e", f"{MARK}={mark}", "-i", f"{tmp_path / 'data.bin'}=data.bin", "-o", "out.bin", "--into", str(into),
            "--", "python3", "-c", program,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (5, f"{len(data)}\n"), done.stderr
    assert (into / "out.bin").read_bytes() == data[::-1]
    assert link.lost > 0
    wait_until(lambda: round_trip(market), "the provider was probed")
    assert round_trip(market) >= 2 * DELAY_MS * 1000, "it went over this network, not around it"


def test_siblings_whose_providers_do_not_reach_each_other_talk_through_their_requester(tmp_path: Path) -> None:
    if lack := wan.lack():
        pytest.skip(lack)
    soon = {"network.keepalive_s": 1}  # who is silent is given up soon
    asks, *provide = (
        msgspec.structs.replace(spec, name=name, settings={**spec.settings, **soon})
        for name, spec in (("requester", REQUESTER), ("provider", PROVIDER), ("other", PROVIDER))
    )
    room = {"provider.cpu": "500m"}  # for two of the three
    provide = [msgspec.structs.replace(spec, settings={**spec.settings, **room}) for spec in provide]
    with wan.Wan(3, delay_ms=5) as link, joined(link, DevNet(tmp_path / "market", (asks, *provide))) as market:
        link.part(*link.hosts[1:])
        for name in ("provider", "other"):
            wait_until(lambda name=name: market.status(name)["network"]["connected"] == 1, f"{name} has lost one")
        done = market.dms("job", "submit", "examples/jobs/names.yaml", "--follow")
        ran_at = {each["provider"] for each in market.json("alloc", "list")["allocations"]}
    assert done.returncode == 0, done.stderr
    assert len(ran_at) == 2
    heard = sorted(line.partition("number")[2] for line in done.stdout.splitlines())
    assert heard == [" 0 hears number 1", " 1 hears number 2", " 2 hears number 0"]


def round_trip(market: WholeMarket) -> int:
    """Microseconds to the provider and back, as measured by the requester; 0 before."""
    (peer,) = market.json("peers", "list")["peers"]
    return int(peer["rtt_us"])
