"""What one owner can fill with identities at no cost counts as one source."""

from __future__ import annotations

import pytest

from dms_proto.reputation import source_of
from dms_proto.reputation.sources import UNKNOWN


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("8.8.8.8", "8.8.8.0/24"),
        ("8.8.8.200", "8.8.8.0/24"),
        ("::ffff:8.8.8.8", "8.8.8.0/24"),
        ("2600:1:2:3::9", "2600:1:2::/48"),
        ("2600:1:2:ffff::1", "2600:1:2::/48"),
        ("192.168.1.7", "192.168.1.7"),
        ("127.0.0.1", "127.0.0.1"),
        ("fe80::1", "fe80::1"),
        ("", UNKNOWN),
        ("a.name", UNKNOWN),
        ("8.8.8.8.8", UNKNOWN),
    ],
)
def test_the_source_of_an_address(address: str, source: str) -> None:
    assert source_of(address) == source
