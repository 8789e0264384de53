"""Can others reach this node, by what it announces and who came."""

from __future__ import annotations

import pytest

from dms.node.reach import judge
from dms.rpc.api.events import Finding
from dms_proto.ids import peer_id_of

PEER = peer_id_of(bytes(32))
LOOPBACK, PRIVATE, PUBLIC = "/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.7/tcp/1", "/ip4/1.1.1.1/tcp/1"


@pytest.mark.parametrize(
    ("announced", "reached_by", "connected", "finding", "evidence", "fix"),
    [
        ((LOOPBACK,), "", 0, Finding.WARN, "only a loopback address", "network.listen"),
        ((LOOPBACK,), PEER, 1, Finding.WARN, "connected to it", "network.listen"),
        ((LOOPBACK, PRIVATE), "", 1, Finding.WARN, "only private addresses", "network.announce"),
        ((PRIVATE,), PEER, 1, Finding.PASS, "only private addresses", ""),
        ((PRIVATE, PUBLIC), PEER, 1, Finding.PASS, "connected to it", ""),
        ((PUBLIC,), PEER, 0, Finding.PASS, "connected to it", ""),
        (("/dns4/node.example.org/tcp/1",), "", 2, Finding.WARN, "with 2 peers that it dialled", "firewall"),
        ((PUBLIC,), "", 0, Finding.SKIP, "nobody tried", "dms join"),
        ((), "", 0, Finding.SKIP, "no internet address", "ports"),
        (("/memory/x",), "", 3, Finding.SKIP, "no internet address", "ports"),
    ],
)
def test_the_widest_address_and_who_came_decide(
    announced: tuple[str, ...], reached_by: str, connected: int, finding: Finding, evidence: str, fix: str
) -> None:
    check = judge(announced, reached_by, connected)
    assert check.finding is finding
    assert evidence in check.evidence
    assert fix in check.fix
    assert bool(fix) == bool(check.fix)
