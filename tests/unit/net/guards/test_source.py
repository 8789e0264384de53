"""What counts as one source."""

from __future__ import annotations

import pytest

from dms.net.guards.swarm import source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("no address", "no address"),
    ],
)
def test_an_ipv4_address_or_an_ipv6_network_is_one_source(address: str, source: str) -> None:
    assert source_of(address) == source
