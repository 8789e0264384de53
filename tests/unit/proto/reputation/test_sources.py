"""What one owner can fill with identities at no cost counts as one source."""

from __future__ import annotations

import pytest

from dms_proto.reputation import source_of
from dms_proto.reputation.sources import PRIVATE, UNKNOWN, is_public, place_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("8.8.8.8", "8.8.8.0/24"),
        ("8.8.8.200", "8.8.8.0/24"),
        ("::ffff:8.8.8.8", "8.8.8.0/24"),
        ("2600:1:2:3::9", "2600:1:2::/48"),
        ("2600:1:2:ffff::1", "2600:1:2::/48"),
        ("2002:808:808::1", "8.8.8.0/24"),
        ("2002:808:809:ffff::1", "8.8.8.0/24"),
        ("64:ff9b::808:808", "8.8.8.0/24"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"),
        ("2002:c0a8:107::1", "192.168.1.7"),
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


def test_an_address_made_of_one_that_is_not_public_is_not_public() -> None:
    assert not is_public("2002:c0a8:107::1")
    assert is_public("2002:808:808::1")


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("8.8.8.0/24", "8.8.8.0/24"),
        ("2600:1:2::/48", "2600:1:2::/48"),
        ("192.168.1.7", PRIVATE),
        ("10.9.8.7", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("fd00::1", PRIVATE),
        (UNKNOWN, UNKNOWN),
    ],
)
def test_all_that_is_not_public_is_one_place_to_vote_from(source: str, place: str) -> None:
    assert place_of(source) == place
