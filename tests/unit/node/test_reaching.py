"""Whose word is enough to connect somewhere, and how often."""

from __future__ import annotations

import pytest

from dms.node.reaching import CAUSED, Reaching
from dms_actors.ports import LinkFacts
from dms_actors.testing.network import MemoryFabric, MemoryNetwork
from dms_proto.errors import PeerError
from dms_proto.ids import PeerId
from dms_proto.scope import Scope

ME, GIVER, OTHER, NAMED = PeerId("me"), PeerId("giver"), PeerId("other"), PeerId("named")
LOOPBACK, LAN, INTERNET = "/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.7/tcp/4001", "/ip4/1.1.1.1/tcp/4001"


def reaching_of(network: MemoryNetwork, announced: str = LAN) -> Reaching:
    reaching = Reaching(ME, network)
    reaching.lives_at((announced,))
    return reaching


def connected(network: MemoryNetwork, peer: PeerId, remote: str) -> None:
    network._links[peer] = LinkFacts(peer, remote=remote)


async def dialled_once_more_than_any_time_gives(reaching: Reaching, giver: PeerId) -> None:
    """However slowly the test went, in which tokens are gained."""
    for _ in range(CAUSED.burst * 1_000):
        await reaching.dial(NAMED, (LAN,), giver)


@pytest.mark.parametrize(
    ("remote", "least"),
    [
        ("127.0.0.1", Scope.MACHINE),
        ("192.168.1.20", Scope.LOCAL),
        ("fe80::1", Scope.LOCAL),
        ("1.1.1.1", Scope.INTERNET),
        ("2606:4700::1111", Scope.INTERNET),
    ],
)
def test_a_giver_names_what_is_in_the_network_that_it_comes_from_itself(remote: str, least: Scope) -> None:
    network = MemoryFabric().network(ME)
    connected(network, GIVER, remote)
    assert reaching_of(network).least_of(GIVER) is least


def test_a_giver_that_left_counts_from_where_it_was() -> None:
    network = MemoryFabric().network(ME)
    reaching = reaching_of(network)
    connected(network, GIVER, "1.1.1.1")
    reaching.least_of(GIVER)
    del network._links[GIVER]
    assert reaching.least_of(GIVER) is Scope.INTERNET


@pytest.mark.parametrize(
    ("announced", "least"), [(LOOPBACK, Scope.MACHINE), (LAN, Scope.LOCAL), (INTERNET, Scope.INTERNET)]
)
def test_a_giver_that_was_never_connected_counts_as_where_the_node_is(announced: str, least: Scope) -> None:
    network = MemoryFabric().network(ME)
    reaching = reaching_of(network, announced)
    assert reaching.least_of(GIVER) is least
    connected(network, OTHER, "1.1.1.1")  # so the node can be heard of on the internet
    assert reaching.least_of(GIVER) is Scope.INTERNET


def test_by_its_own_word_a_node_reaches_itself_and_everybody() -> None:
    assert reaching_of(MemoryFabric().network(ME), INTERNET).least_of(ME) is Scope.MACHINE


async def test_one_giver_has_so_many_dialled_and_no_more_and_others_have_theirs() -> None:
    fabric = MemoryFabric()
    network, named = fabric.network(ME), fabric.network(NAMED)
    for one in (network, named):
        await one.start(lambda _event: None)
    reaching = reaching_of(network)
    for _ in range(CAUSED.burst):
        await reaching.dial(NAMED, (LAN,), GIVER)
    with pytest.raises(PeerError, match="names more nodes than are dialled for one"):
        await dialled_once_more_than_any_time_gives(reaching, GIVER)
    await reaching.dial(NAMED, (LAN,), OTHER)


async def test_who_names_one_peer_at_the_address_of_another_has_neither_dialled() -> None:
    fabric = MemoryFabric()
    network, other = fabric.network(ME), fabric.network(OTHER)
    for one in (network, other):
        await one.start(lambda _event: None)
    with pytest.raises(PeerError, match="no address given"):
        await reaching_of(network).dial(NAMED, (f"/memory/{OTHER}/p2p/{OTHER}",), GIVER)
    assert not network.links()
