"""The router of gossip: who is told of which message, without remembering what peers make up.

Stock faults: each topic that a peer names in a GRAFT or PRUNE is remembered, whether it is one of this node or not; a PRUNE says for how long, and
may bring peers to dial; what is remembered of a peer stays when it is gone, unless it let a stream of ours be opened; who wants one message many
times in one request gets it as many times.

Remedy: of what a peer says only what is about topics of this node reaches the router, and whoever is gone is forgotten with the next heartbeat.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.score import ScoreParams, TopicScoreParams

PROTOCOL: Final = TProtocol("/meshsub/1.1.0")
"""1.2.0 announces every message once more (IDONTWANT), which costs 12.5 instead of 5 ms per node and message here."""

T = TypeVar("T", rpc_pb2.ControlGraft, rpc_pb2.ControlPrune, rpc_pb2.ControlIHave)


class BoundedRouter(GossipSub):
    """GossipSub in bounded memory. Lives on the trio thread."""

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Takes what a peer says about topics of this node, of each topic once."""
        rpc.control.CopyFrom(self._ours(rpc.control))
        await super().handle_rpc(rpc, sender_peer_id)

    def _ours(self, said: rpc_pb2.ControlMessage) -> rpc_pb2.ControlMessage:
        pruned = [
            rpc_pb2.ControlPrune(topicID=one.topicID, backoff=min(one.backoff, self.prune_back_off))
            for one in self._of_our_topics(said.prune)
        ]
        had = [
            rpc_pb2.ControlIHave(topicID=topic, messageIDs=_each(one for one in said.ihave if one.topicID == topic))
            for topic in {one.topicID: None for one in said.ihave if one.topicID in self.mesh}
        ]
        wanted = _each(said.iwant)
        iwant = [rpc_pb2.ControlIWant(messageIDs=wanted)] if wanted else []
        return rpc_pb2.ControlMessage(graft=self._of_our_topics(said.graft), prune=pruned, ihave=had, iwant=iwant)

    def _of_our_topics(self, said: Iterable[T]) -> list[T]:
        return list({one.topicID: one for one in said if one.topicID in self.mesh}.values())

    def _periodic_security_cleanup(self) -> None:
        """Called with each heartbeat."""
        super()._periodic_security_cleanup()
        here = set(self.pubsub.host.get_live_peers()) if self.pubsub is not None else set()
        for peer in self._remembered() - here:
            self.remove_peer(peer)
        for topic, until in self.back_off.items():
            self.back_off[topic] = {peer: at for peer, at in until.items() if peer in here}

    def _remembered(self) -> set[ID]:
        """Peers of which anything is."""
        scorer = self.scorer
        assert scorer is not None
        return {
            *self.dont_send_message_ids,
            *self.graft_flood_tracking,
            *scorer.time_in_mesh,
            *scorer.first_message_deliveries,
            *scorer.mesh_message_deliveries,
            *scorer.invalid_messages,
            *scorer.behavior_penalty,
            *scorer.graft_flood_penalties,
            *scorer.iwant_spam_penalties,
            *scorer.ihave_spam_penalties,
            *scorer.equivocation_penalties,
        }


def _each(said: Iterable[rpc_pb2.ControlIHave | rpc_pb2.ControlIWant]) -> list[bytes]:
    """The ids of messages in them, each once."""
    return list(dict.fromkeys(id_ for one in said for id_ in one.messageIDs))


def gossip_router() -> BoundedRouter:
    """The router, with parameters measured to deliver everything at our rates."""
    score = ScoreParams(
        p4_invalid_messages=TopicScoreParams(
            weight=10, cap=100, decay=0.99
        ),  # positive: a negative weight rewards in 0.8.1
        gossip_threshold=-10,
        publish_threshold=-20,
        graylist_threshold=-25,
    )
    return BoundedRouter(
        [PROTOCOL],
        degree=6,
        degree_low=4,
        degree_high=12,
        heartbeat_interval=1,  # the default, 120 s, repairs the mesh after two minutes
        spam_protection_enabled=False,  # our own limits apply, and are counted
        adaptive_gossip_enabled=False,
        eclipse_protection_enabled=False,
        score_params=score,
    )
