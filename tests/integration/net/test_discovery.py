"""Finding each other by multicast DNS, on the loopback interface."""

from __future__ import annotations

import socket
import struct

import pytest

from dms.testing.live_networks import Crew
from dms_actors.ports import PeerFound, PeerUp

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]


def has_multicast() -> bool:
    """Whether a datagram to a group comes back on loopback."""
    group = "239.255.77.77"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        try:
            receiver.bind(("", 0))
            membership = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton("127.0.0.1"))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            receiver.settimeout(1)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            sender.sendto(b"x", (group, receiver.getsockname()[1]))
            return receiver.recv(1) == b"x"
        except OSError:
            return False


@pytest.mark.skipif(not has_multicast(), reason="this machine has no multicast on its loopback interface")
async def test_two_nodes_find_each_other_at_the_address_they_announce(crew: Crew) -> None:
    """Stock: 0.0.0.0 is announced as it stands by whoever listens on it."""
    settings = {"mdns": True, "mdns_interfaces": ("127.0.0.1",), "announce": ()}
    ann, bob = await crew(**settings), await crew(**settings)
    await ann.seen.first(PeerUp, lambda event: event.peer == bob.peer)
    await bob.seen.first(PeerUp, lambda event: event.peer == ann.peer)
    found = [event for member in (ann, bob) for event in member.seen.of(PeerFound)]
    assert found
    for event in found:
        assert set(event.addresses) <= {*ann.addresses, *bob.addresses}


async def test_a_wildcard_is_never_announced(crew: Crew) -> None:
    ann = await crew(listen=("/ip4/0.0.0.0/tcp/0",))
    assert all("/0.0.0.0/" not in address for address in ann.addresses)
    told = await crew(listen=("/ip4/0.0.0.0/tcp/0",), announce=("/dns4/example.invalid/tcp/4001",))
    assert told.addresses == (f"/dns4/example.invalid/tcp/4001/p2p/{told.peer}",)


async def test_every_listen_address_is_announced_and_answers(crew: Crew) -> None:
    ann = await crew(listen=("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.2/tcp/0"))
    assert [address.split("/")[2] for address in ann.addresses] == ["127.0.0.1", "127.0.0.2"]
    for address in ann.addresses:
        other = await crew()
        assert await other.network.dial([address]) == ann.peer


async def test_a_name_is_resolved_before_dialling(crew: Crew) -> None:
    ann, bob = await crew(), await crew()
    by_name = bob.addresses[0].replace("/ip4/127.0.0.1/", "/dns4/localhost/")
    assert await ann.network.dial([by_name]) == bob.peer


async def test_a_peer_is_told_with_the_address_its_connection_comes_from_not_one_it_claims(crew: Crew) -> None:
    ann, bob = await crew(announce=("/ip4/8.8.8.8/tcp/4001",)), await crew()
    await ann.network.dial([bob.addresses[0]])
    told = await bob.seen.first(PeerUp)
    assert told.remote == bob.network.links()[ann.peer].remote == "127.0.0.1"
    assert (await ann.seen.first(PeerUp)).remote == "127.0.0.1"
