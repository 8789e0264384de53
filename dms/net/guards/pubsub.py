"""GossipSub with the faults of 0.8.1 taken out.

Stock faults: one garbage protobuf, a bad ``from_id`` or key, or a validator that raises ends the process; sequence numbers start at the
start second, so after a restart everything is a duplicate until they pass the old ones; more than 10 messages a second per forwarder, 32
queued per peer or 32 unread per subscription are dropped in silence; when one of a peer's connections ends, its subscriptions are
forgotten although another connection carries them; each message is read byte by byte and handled in a task of its own; a signed address
record is made, sent and verified with every message; the times of all messages ever seen are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, cast

import libp2p.pubsub.gossipsub as stock_gossipsub
import libp2p.pubsub.pubsub as stock_pubsub
import trio
from libp2p.abc import IHost, INetStream
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.stream_muxer.exceptions import MuxedStreamError

from dms.net.config import MAX_GOSSIP, NetConfig
from dms.net.counters import Counters
from dms.net.guards.crashes import Crashes
from dms.net.guards.varint import VarintSplitter
from dms.net.guards.yamux_stream import stream_under
from dms.net.host import Host
from dms.net.quotas import Quota
from dms_proto.ids import PeerId
from dms_proto.wire import RULES, Offence, OpeningContext, ReplayWindow, refuse_unopened
from dms_proto.wire.refusals import NOBODY

MAX_RPC: Final = 64 * 1024
"""Longest gossip RPC read: a batch of messages and control."""
RPC_QUEUE: Final = 1024
"""RPCs queued to one peer."""
MAX_TOPICS_PER_PEER: Final = 64

Sink = Callable[[str, str, bytes], None]
"""Called with topic, forwarder (base58) and data of each new valid message. Must not block or raise."""


class _WideQueue(RpcQueue):
    def __init__(self) -> None:
        super().__init__(RPC_QUEUE, MAX_RPC)


def _no_record(_host: IHost) -> tuple[bytes, bool]:
    return b"", False


def _patch_stock_names() -> None:
    """Replaces what the stock classes look up in their modules."""
    setattr(stock_pubsub, "RpcQueue", _WideQueue)  # noqa: B010 - not exported, so not assignable for the type checker
    for module in (stock_pubsub, stock_gossipsub):
        setattr(module, "env_to_send_in_RPC", _no_record)  # noqa: B010 - as above


class FixedPubsub(Pubsub):
    """libp2p's pubsub, giving each valid message to one plain function. Create it before the first connection."""

    def __init__(self, host: Host, router: GossipSub, sink: Sink) -> None:
        _patch_stock_names()
        config: NetConfig = host.config
        super().__init__(
            cast("IHost", host),
            router,
            max_inbound_rpc_size=MAX_RPC,
            max_subscriptions_per_rpc=MAX_TOPICS_PER_PEER,
            max_subscriptions_per_peer=MAX_TOPICS_PER_PEER,
            allowed_topics=frozenset(config.topics),
        )
        self.counter = time.time_ns()
        self._counters: Counters = host.counters
        self._crashes: Crashes = host.crashes
        self._blame: Callable[[str, Offence], None] = host.blame
        self._is_refused: Callable[[str], bool] = host.is_banned
        self._is_admitted: Callable[[str], bool] = host.is_admitted
        self._quota = Quota(config.gossip_limit)
        self._source: Callable[[str], str] = host.source
        self._sink = sink
        self._inbound: dict[ID, INetStream] = {}
        me = PeerId(host.peer_id)
        self._contexts = {
            topic: OpeningContext(me, NOBODY, ReplayWindow(), ReplayWindow(), topic=topic)
            for topic in config.topics
            if config.envelopes_only
        }

    def _next_seqno(self) -> bytes:
        """Above all numbers this identity used before, in this process or an earlier one."""
        self.counter = max(self.counter + 1, time.time_ns())
        return self.counter.to_bytes(8, "big")

    def get_hello_packet(self) -> rpc_pb2.RPC:
        """Our subscriptions, without an address record."""
        packet = rpc_pb2.RPC()
        for topic in self.topic_ids:
            packet.subscriptions.add(subscribe=True, topicid=topic)
        return packet

    async def write_msg(self, stream: INetStream, rpc_msg: rpc_pb2.RPC) -> bool:
        """Sends an RPC without an address record."""
        rpc_msg.ClearField("senderRecord")
        return await super().write_msg(stream, rpc_msg)

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Hands a new message over at once; there is no queue to overflow."""
        if publish_message.from_id == self.my_id.to_bytes():
            return
        forwarder = self._forwarder.to_base58()
        for topic in publish_message.topicIDs:
            if topic in self.topic_ids:
                self._counters["gossip.in"] += 1
                self._sink(topic, forwarder, publish_message.data)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Checks, delivers and forwards one message. Nothing in it waits, so `_forwarder` stays right until delivery."""
        self._forwarder = msg_forwarder
        await super().push_msg(msg_forwarder, msg)
        self.router.recent_message_deliveries.clear()  # type: ignore[attr-defined]

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Reads RPCs from one peer until the stream ends, whatever the bytes are."""
        peer = stream.muxed_conn.peer_id
        self._inbound[peer] = stream
        splitter = VarintSplitter(self.max_inbound_rpc_size)
        muxed = stream_under(stream)
        try:
            while True:
                for body in splitter.feed(await muxed.read()):
                    await self._on_rpc(peer, body)
        except MuxedStreamError:
            pass
        except Exception as error:  # noqa: BLE001 - the process edge: protobuf, keys and ids of a peer fail in every kind of exception
            self._counters.add("refused.gossip_malformed")
            self._blame(peer.to_base58(), Offence.MALFORMED)
            self._crashes.contain(f"gossip of {peer}", error)
            await stream.reset()
        finally:
            if self._inbound.get(peer) is stream:
                del self._inbound[peer]

    async def _on_rpc(self, peer: ID, body: bytes) -> None:
        rpc = rpc_pb2.RPC.FromString(body)
        rpc.ClearField("senderRecord")
        now = trio.current_time()
        for message in rpc.publish:
            if self._is_refused(peer.to_base58()) or not self._is_admitted(peer.to_base58()):
                return  # muted for a message before, or a stranger that has not shown its work
            if self._may_pass(peer, message, now):
                await self.push_msg(peer, message)
        says_more = len(rpc.subscriptions) > 0 or rpc.HasField("control")
        if says_more and self._judge(peer, len(body), now) is None:
            await self._on_control(peer, rpc)

    async def _on_control(self, peer: ID, rpc: rpc_pb2.RPC) -> None:
        if len(rpc.subscriptions) <= self.max_subscriptions_per_rpc:
            for subscription in rpc.subscriptions:
                self.handle_subscription(peer, subscription)
        if rpc.HasField("control"):
            await self.router.handle_rpc(rpc, peer)

    def _may_pass(self, peer: ID, message: rpc_pb2.Message, now: float) -> bool:
        """The cheap checks, before any signature."""
        if not self._is_subscribed_to_msg(message):
            return False
        if len(message.data) > MAX_GOSSIP:
            self._counters.add("refused.gossip_oversized")
            self._blame(peer.to_base58(), Offence.OVERSIZED)
            return False
        if (excess := self._judge(peer, len(message.data), now)) is not None:
            self._counters.add("refused.gossip_rate")
            self._blame(peer.to_base58(), excess)
            return False
        return self._is_msg_seen(message) or self._may_be_envelope(peer, message)

    def _judge(self, peer: ID, size: int, now: float) -> Offence | None:
        name = peer.to_base58()
        return self._quota.judge(name, self._source(name), size, now)

    def _may_be_envelope(self, peer: ID, message: rpc_pb2.Message) -> bool:
        """What is not is not handed on, so who hands it on is its author or does not check: either way to blame, except for old age."""
        for topic in message.topicIDs:
            context = self._contexts.get(topic)
            refused = context and refuse_unopened(message.data, context, time.time_ns() // 1_000_000)
            if refused:
                self._counters.add("refused.gossip_invalid")
                if (offence := RULES[refused.code].offence) not in (None, Offence.REPLAYED):
                    self._blame(peer.to_base58(), offence)
                return False
        return True

    def _handle_dead_peer(self, peer_id: ID) -> None:
        """Keeps the subscriptions of a peer that is still connected: they came on a stream that may live on."""
        if not self._peer_is_connected(peer_id):
            super()._handle_dead_peer(peer_id)
            return
        kept = [topic for topic, peers in self.peer_topics.items() if peer_id in peers]
        super()._handle_dead_peer(peer_id)
        for topic in kept:
            self.peer_topics.setdefault(topic, set()).add(peer_id)
        if kept:
            self._peer_subscription_count[peer_id] = len(kept)
