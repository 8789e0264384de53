"""Destinations: which mean others, how people write them, and which addresses are of the public internet."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.egress import Destination, covers, is_of, is_public, is_within, read_destination


@pytest.mark.parametrize(
    ("allowed", "wanted", "meant"),
    [
        ("pypi.org:443", "pypi.org:443", True),
        ("pypi.org:443", "pypi.org:80", False),
        ("pypi.org:443", "files.pypi.org:443", False),
        ("*.pypi.org:443", "files.pypi.org:443", True),
        ("*.pypi.org:443", "a.b.pypi.org:443", True),
        ("*.pypi.org:443", "*.b.pypi.org:443", True),
        ("*.pypi.org:443", "*.pypi.org:443", True),
        ("*.pypi.org:443", "pypi.org:443", False),
        ("*.pypi.org:443", "evilpypi.org:443", False),
        ("*.pypi.org:443", "*:443", False),
        ("files.pypi.org:443", "*.pypi.org:443", False),
        ("*:443", "93.184.216.34:443", True),
        ("*:443", "*.org:443", True),
        ("*:443", "*:443", True),
        ("*:443", "pypi.org:444", False),
    ],
)
def test_a_destination_means_what_it_says_and_no_more(allowed: str, wanted: str, meant: bool) -> None:
    assert covers(allowed, wanted) is meant
    assert is_within(wanted, ("other:1", allowed)) is meant


def test_people_may_write_in_upper_case() -> None:
    assert read_destination(" PyPI.org:443 ") == "pypi.org:443"


WRONG = """
pypi.org|pypi.org:|:443|pypi.org:0|pypi.org:65536|pypi.org:x|https://pypi.org:443|a.*.b:1|*.:1|a..b:1|[::1]:443|a b:1|user@pypi.org:443|-a.b:1
bücher.example:443|pypi.org:443;.x:1|a\tb:1
"""
NOT_PUBLIC = """
127.0.0.1 127.8.8.8 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 240.0.0.1 255.255.255.255
:: ::1 fe80::1 fe80::1%lo fc00::1 fec0::1 ff02::1 ::ffff:10.0.0.1 ::10.0.0.1 64:ff9b::a00:1 2002:a00:1:: 2001:0:a00:1::
"""


@pytest.mark.parametrize("text", [text for line in WRONG.split("\n") for text in line.split("|") if text])
def test_what_is_no_destination_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|a port is at most"):
        read_destination(text)


def test_one_of_the_wire_ends_where_it_seems_to() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("pypi.org:443\n", Destination)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_public_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_addresses_that_are_not_of_it_however_they_are_written(address: str) -> None:
    assert not is_public(address)


def test_an_address_of_a_network_is_known_in_either_form() -> None:
    assert is_of("10.1.2.3", ("10.1.0.0/16",))
    assert is_of("::ffff:10.1.2.3", ("10.1.0.0/16",))
    assert not is_of("10.2.2.3", ("10.1.0.0/16",))
    assert not is_of("8.8.8.8", ())
