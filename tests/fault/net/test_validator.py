"""A validator that raises: stock, it ends the process; here it is contained, and the next message is judged again."""

from __future__ import annotations

import os
from functools import partial

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from dms.net.config import NetConfig
from dms.net.counters import Counters
from dms.net.guards.pubsub import FixedPubsub
from dms.net.guards.router import gossip_router
from dms.net.guards.services import guarded_service
from dms.net.guards.yamux import YamuxHooks
from dms.net.host import Host
from dms.testing.hostile_peer import GOSSIP_PROTOCOL, Visit, signed, until, visit

pytestmark = pytest.mark.libp2p
TOPIC = "market"


def moody(_forwarder: ID, message: rpc_pb2.Message) -> bool:
    if message.data == b"raise":
        raise RuntimeError("the validator has a defect")
    return True


async def gossip(guest: Visit, delivered: list[bytes]) -> None:
    stream = await guest.open(GOSSIP_PROTOCOL)
    await stream.write(signed(TOPIC, b"raise"))
    await guest.until_reset(stream)
    stream = await guest.open(GOSSIP_PROTOCOL)
    await stream.write(signed(TOPIC, b"fine"))
    await until(lambda: delivered)


def test_a_raising_validator_costs_the_message_and_its_stream() -> None:
    delivered: list[bytes] = []
    counters = Counters()

    async def main() -> None:
        config = NetConfig(private_key=os.urandom(32), listen=("/ip4/127.0.0.1/tcp/0",), topics=(TOPIC,))
        host = Host(config, counters, YamuxHooks())
        router = gossip_router()
        pubsub = FixedPubsub(host, router, lambda _topic, _forwarder, data: delivered.append(data))
        pubsub.set_topic_validator(TOPIC, moody, is_async_validator=False)
        async with host.run(), guarded_service(pubsub, host.crashes), guarded_service(router, host.crashes):
            assert not await host.listen()
            await pubsub.subscribe(TOPIC)
            await visit(str(host.get_addrs()[0]), partial(gossip, delivered=delivered))

    trio.run(main)
    assert delivered == [b"fine"]
    assert counters["guard.crashes"] == 1
