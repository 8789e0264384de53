"""Gossip: the topics of this node, in and out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from dms.net.bridge import Bridge
from dms.net.config import MAX_GOSSIP
from dms.net.guards.pubsub import FixedPubsub
from dms.net.guards.router import gossip_router
from dms.net.guards.services import guarded_service
from dms.net.host import Host
from dms.net.pipe import GOSSIP_QUEUE, Credit, GossipIn, Sent, cost

READY_S: Final = 5.0

logger = logging.getLogger("dms.net.gossip")


class Gossip:
    """Publishes for the node and gives it what arrives. Lives on the trio thread."""

    def __init__(self, host: Host, bridge: Bridge) -> None:
        self._host = host
        self._bridge = bridge
        self._credit = Credit(host.config.queue_bytes)
        self._queue: deque[tuple[str, bytes]] = deque()
        self._more = trio.Event()
        self._router = gossip_router()
        self._pubsub = FixedPubsub(host, self._router, self._on_message)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Runs the services and subscribes; connections may be made while the block is entered."""
        crashes = self._host.crashes
        async with guarded_service(self._pubsub, crashes), guarded_service(self._router, crashes):
            with trio.fail_after(READY_S):
                await self._pubsub.wait_until_ready()
            for topic in self._host.config.topics:
                await self._pubsub.subscribe(topic)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publish_queued)
                yield
                nursery.cancel_scope.cancel()

    def publish(self, topic: str, frame: bytes) -> None:
        """Queues a message for the mesh."""
        self._queue.append((topic, frame))
        self._more.set()

    def _on_message(self, topic: str, forwarder: str, data: bytes) -> None:
        if not self._bridge.may_send:
            self._host.counters["dropped.gossip_busy"] += 1
            return
        self._bridge.send(GossipIn(topic, forwarder, data))

    async def _publish_queued(self) -> None:
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._queue:
                topic, frame = self._queue.popleft()
                await self._publish(topic, frame)
                if owed := self._credit.owe(cost(frame)):
                    self._bridge.send(Sent(GOSSIP_QUEUE, owed))

    async def _publish(self, topic: str, frame: bytes) -> None:
        if topic not in self._host.config.topics or len(frame) > MAX_GOSSIP:
            self._host.counters.add("refused.gossip_oversized")
            return
        try:
            await self._pubsub.publish(topic, frame)
            self._host.counters["gossip.out"] += 1
        except Exception as error:  # noqa: BLE001 - the process edge: one message may fail in libp2p, gossip goes on
            self._host.crashes.contain("publish", error)
