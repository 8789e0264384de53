"""What the network says, for the node: kept until there is somebody to hear it.

The network is told when a frame has been dealt with, whatever came of it: until then it waits, and of one peer no more than a share may wait.
"""

from __future__ import annotations

from dms.node.post import NodePost
from dms.node.reaching import Reaching
from dms.node.services import NETWORK_DOWN, NETWORK_RESTARTS, REACHED_BY
from dms_actors.behaviour import Address
from dms_actors.ports import FrameReceived, GossipReceived, Network, NetworkDown, NetworkEvent, NetworkUp, PeerUp


class Hearing:
    """Hears the network for the node. Keeps what it says until there is somebody to hear it: it is started early, because it takes the longest."""

    def __init__(self, network: Network, reaching: Reaching, notes: dict[str, str]) -> None:
        self._network = network
        self._reaching = reaching
        self._notes = notes
        self._early: list[NetworkEvent] = []
        self._announced: NetworkUp | None = None
        self._listeners: tuple[Address, NodePost] | None = None

    def hear(self, event: NetworkEvent) -> None:
        """Tells the node actor, and notes how the network is."""
        if self._listeners is None:
            self._early.append(event)
            return
        node, post = self._listeners
        if isinstance(event, FrameReceived | GossipReceived):
            node.pass_on(
                event, lambda _answer: self._network.took(event)
            )  # there, without the loop: nearly always it only counts
            return
        node.tell(event)
        match event:
            case PeerUp(peer=peer):
                post.peer_up(peer)
                if (link := self._network.links().get(peer)) is not None and link.inbound:
                    self._notes[REACHED_BY] = peer
            case NetworkDown(reason=reason):
                self._notes[NETWORK_DOWN] = reason
                self._notes[NETWORK_RESTARTS] = str(int(self._notes.get(NETWORK_RESTARTS, "0")) + 1)
            case NetworkUp(addresses=addresses):
                self._reaching.lives_at(addresses)
                self._notes.pop(NETWORK_DOWN, None)
                self._announced = event

    def listen(self, node: Address, post: NodePost) -> None:
        """From now on there is somebody."""
        self._listeners = (node, post)
        for event in self._early:
            self.hear(event)

    def introduce(self) -> None:
        """Says again what a node actor that was built anew has forgotten. Nothing at its first start."""
        if self._announced is not None:
            self.hear(self._announced)
            for link in self._network.links().values():
                self.hear(PeerUp(link.peer, link.addresses, link.relayed, link.remote))
