"""What the network says reaches the node actor, also one that was built anew and has forgotten it."""

from __future__ import annotations

from dms.node.hearing import Hearing
from dms_actors.ports import LinkFacts, NetworkUp, PeerUp
from dms_actors.testing.network import MemoryFabric
from dms_proto.ids import PeerId


class Ear:
    """Stands for the node actor, and for the post."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def tell(self, event: object) -> None:
        self.heard.append(event)

    def peer_up(self, peer: PeerId) -> None:
        """What waited for it would be sent."""


def test_a_node_actor_that_was_built_anew_hears_where_each_peer_comes_from() -> None:
    """It forgot their sources, and for it all of them came from one place."""
    network = MemoryFabric().network(PeerId("me"))
    network._links[PeerId("a")] = LinkFacts(PeerId("a"), ("/memory/a/p2p/a",), remote="20.0.0.1")
    hearing, ear = Hearing(network, {}), Ear()
    hearing.listen(ear, ear)  # type: ignore[arg-type]
    hearing.hear(NetworkUp(()))
    ear.heard.clear()

    hearing.introduce()

    assert ear.heard == [NetworkUp(()), PeerUp(PeerId("a"), ("/memory/a/p2p/a",), remote="20.0.0.1")]
