from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.net.addresses import Target, announced, from_where, parse, scope
from dms_proto.ids import peer_id_of
from dms_proto.scope import Scope

PEER = peer_id_of(bytes(32))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("/ip4/127.0.0.1/tcp/4001", Target("127.0.0.1", 4001, "", "ip4")),
        (f"/ip4/10.0.0.7/tcp/1/p2p/{PEER}", Target("10.0.0.7", 1, PEER, "ip4")),
        (f"/ip6/::1/tcp/65535/p2p/{PEER}", Target("::1", 65535, PEER, "ip6")),
        (f"/dns4/bootstrap/tcp/4001/p2p/{PEER}", Target("bootstrap", 4001, PEER, "dns4")),
    ],
)
def test_addresses_are_read(text: str, target: Target) -> None:
    assert parse(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:4001",
        "/ip4/127.0.0.1/udp/4001/quic-v1",
        "/ip4/300.0.0.1/tcp/1",
        "/ip4/::1/tcp/1",
        "/ip4/127.0.0.1/tcp/70000",
        "/ip4/127.0.0.1/tcp/-1",
        "/dns4//tcp/1",
        "/ip4/127.0.0.1/tcp/1/p2p/notapeer",
        f"/ip4/127.0.0.1/tcp/1/p2p-circuit/{PEER}",
        f"/ip4/127.0.0.1/tcp/1/ws/p2p/{PEER}",
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages of base58 and ipaddress are theirs
        parse(text)


@given(st.text(max_size=100))
def test_reading_an_address_gives_a_target_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(parse(text), Target)


def test_configured_addresses_are_announced_as_they_are() -> None:
    assert announced([f"/dns4/me/tcp/1/p2p/{PEER}"], ["/ip4/0.0.0.0/tcp/9"]) == ["/dns4/me/tcp/1"]


def test_a_bound_address_is_announced_and_a_wildcard_never() -> None:
    assert announced([], ["/ip4/127.0.0.1/tcp/9"]) == ["/ip4/127.0.0.1/tcp/9"]
    (address,) = announced([], ["/ip4/0.0.0.0/tcp/9"])
    assert "0.0.0.0" not in address
    assert address.endswith("/tcp/9")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/ip4/127.0.0.1/tcp/1", Scope.MACHINE),
        ("/ip6/::1/tcp/1", Scope.MACHINE),
        ("/ip4/0.0.0.0/tcp/1", Scope.MACHINE),
        ("/ip6/::ffff:127.0.0.1/tcp/1", Scope.MACHINE),
        ("/ip6/64:ff9b::a01:203/tcp/1", Scope.LOCAL),
        ("/dns4/localhost/tcp/1", Scope.MACHINE),
        ("/ip4/10.1.2.3/tcp/1", Scope.LOCAL),
        ("/ip4/100.64.0.1/tcp/1", Scope.LOCAL),  # behind a carrier's NAT
        ("/ip6/fd00::1/tcp/1", Scope.LOCAL),
        ("/ip4/1.1.1.1/tcp/1", Scope.INTERNET),
        ("/ip6/2606:4700::1/tcp/1", Scope.INTERNET),
        ("/dns/node.example.org/tcp/1", Scope.INTERNET),
        ("/memory/x", None),
    ],
)
def test_an_address_tells_from_where_it_can_be_dialled(address: str, expected: Scope | None) -> None:
    assert scope(address) is expected


@pytest.mark.parametrize(
    ("remote", "expected"),
    [("127.0.0.1", Scope.MACHINE), ("192.168.1.9", Scope.LOCAL), ("1.1.1.1", Scope.INTERNET), ("", Scope.MACHINE)],
)
def test_where_a_peer_is_shows_from_where_it_is_connected(remote: str, expected: Scope) -> None:
    assert from_where(remote) is expected
