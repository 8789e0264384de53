"""What libp2p's gossip remembers of peers is bounded: they come and go, name topics and messages that are none, and nothing of it stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from multiaddr import Multiaddr

from dms.net.config import NetConfig
from dms.net.counters import Counters
from dms.net.guards.pubsub import FixedPubsub
from dms.net.guards.router import BoundedRouter, gossip_router
from dms.net.guards.services import guarded_service
from dms.net.guards.yamux import YamuxHooks
from dms.net.guards.yamux_stream import SafeStream
from dms.net.host import Host
from dms.testing.hostile_peer import GOSSIP_PROTOCOL, Visit, rpc, signed, visit

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
TOPIC = "market"
FORGETTING_S = 20.0
"""Some heartbeats; far more than it takes."""
FOR_MESSAGES = {"LastSeenCache.cache", "ValidationCache.cache", "ValidationCache.access_order"}
"""Ids of messages, for two minutes of what the quota lets through, or a thousand at the most."""
PEERSTORE = 1_000


class Victim(NamedTuple):
    host: Host
    pubsub: FixedPubsub
    router: BoundedRouter

    @property
    def address(self) -> str:
        return str(self.host.get_addrs()[0])

    def sizes(self) -> dict[str, int]:
        """Everything that is kept in any table of libp2p's gossip, by table."""
        pubsub, router = self.pubsub, self.router
        parts = (
            pubsub,
            pubsub.seen_messages,
            pubsub.validation_cache,
            router,
            router.scorer,
            router.mcache,
            self.host.get_peerstore(),
            self.host.swarm,
        )
        return {f"{type(part).__name__}.{name}": _size(value) for part in parts for name, value in vars(part).items()}

    async def until_forgotten(self, before: dict[str, int]) -> None:
        """Waits until nothing is kept that was not kept before."""
        await until(lambda: not self._beyond(before))
        assert self._beyond(before) == {}

    def _beyond(self, before: dict[str, int]) -> dict[str, int]:
        return {name: size for name, size in self.sizes().items() if size > before.get(name, 0)}


async def until(condition: Callable[[], object]) -> None:
    """Waits for what libp2p's tables tell nobody, for so long at the most."""
    with trio.move_on_after(FORGETTING_S):
        while not condition():  # noqa: ASYNC110 - as said
            await trio.sleep(0.02)


def _size(value: object) -> int:
    match value:
        case dict():
            return len(value) + sum(map(_size, value.values()))
        case list() | set() | tuple() | frozenset():
            return len(value) + sum(map(_size, value))
        case _:
            return 0


@asynccontextmanager
async def victim() -> AsyncIterator[Victim]:
    config = NetConfig(private_key=os.urandom(32), listen=("/ip4/127.0.0.1/tcp/0",), topics=(TOPIC,))
    host = Host(config, Counters(), YamuxHooks())
    router = gossip_router()
    pubsub = FixedPubsub(host, router, lambda _topic, _forwarder, _data: None)
    async with host.run(), guarded_service(pubsub, host.crashes), guarded_service(router, host.crashes):
        assert not await host.listen()
        await pubsub.subscribe(TOPIC)
        yield Victim(host, pubsub, router)


def made_up(number: int) -> rpc_pb2.RPC:
    """Topics and messages that nobody knows, and what is said of them; every number others."""
    control = rpc_pb2.ControlMessage()
    for n in range(20):
        topic = f"{number}-{n}"
        ids = [b"%d-%d-%d" % (number, n, one) for one in range(20)]
        control.graft.add(topicID=topic)
        control.prune.add(topicID=topic, backoff=2**40)
        control.ihave.add(topicID=topic, messageIDs=ids)
        control.iwant.add(messageIDs=ids)
        control.idontwant.add(messageIDs=ids)
    control.graft.add(topicID=TOPIC)
    control.prune.add(topicID=TOPIC, backoff=2**40)
    topics = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"{number}-{n}") for n in range(60)]
    return rpc_pb2.RPC(control=control, subscriptions=topics)


async def heard(stream: SafeStream, victim: Victim) -> None:
    """Says a message, and waits until it is known: what was said before it has been taken in."""
    known = _size(victim.pubsub.seen_messages.__dict__)
    await stream.write(signed(TOPIC, os.urandom(20)))
    await until(lambda: _size(victim.pubsub.seen_messages.__dict__) > known)


def without_ids(sizes: dict[str, int]) -> dict[str, int]:
    return {name: 10**6 if name in FOR_MESSAGES or "equivocation" in name else size for name, size in sizes.items()}


def run(play: Callable[[Victim], Awaitable[None]]) -> None:
    async def main() -> None:
        async with victim() as there:
            await play(there)

    trio.run(main)


def test_nothing_stays_of_peers_that_are_gone() -> None:
    async def play(there: Victim) -> None:
        async def talk(guest: Visit) -> None:
            stream = await guest.open(GOSSIP_PROTOCOL)
            await stream.write(rpc(made_up(0)))
            await heard(stream, there)

        await visit(there.address, talk)
        before = without_ids(there.sizes())
        for _ in range(5):
            await visit(there.address, talk)
        await there.until_forgotten(before)

    run(play)


def test_nothing_is_kept_of_what_a_peer_that_stays_makes_up() -> None:
    async def play(there: Victim) -> None:
        async def talk(guest: Visit) -> None:
            stream = await guest.open(GOSSIP_PROTOCOL)
            await stream.write(rpc(made_up(0)))
            await heard(stream, there)
            before = without_ids(there.sizes())
            for number in range(1, 20):
                await stream.write(rpc(made_up(number)))
            await heard(stream, there)
            await there.until_forgotten(before)

        await visit(there.address, talk)

    run(play)


def test_of_a_topic_a_peer_is_kept_away_from_it_is_so_for_no_longer_than_usual() -> None:
    """However long it wishes; and the peers that it brings are not dialled."""

    async def play(there: Victim) -> None:
        async def talk(guest: Visit) -> None:
            stream = await guest.open(GOSSIP_PROTOCOL)
            control = rpc_pb2.ControlMessage()
            prune = control.prune.add(topicID=TOPIC, backoff=2**40)
            prune.peers.add(peerID=os.urandom(32))
            await stream.write(rpc(rpc_pb2.RPC(control=control)))
            await heard(stream, there)
            (until,) = there.router.back_off[TOPIC].values()
            assert until < 2**32
            assert there.host.counters["guard.crashes"] == 0

        await visit(there.address, talk)

    run(play)


def test_the_bodies_of_messages_are_kept_for_some_heartbeats_and_their_ids_for_two_minutes() -> None:
    async def play(there: Victim) -> None:
        async def talk(guest: Visit) -> None:
            stream = await guest.open(GOSSIP_PROTOCOL)
            for _ in range(10):
                await heard(stream, there)

        await visit(there.address, talk)
        assert len(there.router.mcache.msgs) == 10
        await until(lambda: not there.router.mcache.msgs)
        assert not there.router.mcache.msgs
        assert there.pubsub.seen_messages.ttl == 120

    run(play)


def test_the_store_of_peers_is_bounded() -> None:
    store = Host(NetConfig(private_key=os.urandom(32)), Counters(), YamuxHooks()).get_peerstore()
    for number in range(PEERSTORE + 100):
        store.add_addr(ID(b"\x12\x20" + number.to_bytes(32, "big")), Multiaddr("/ip4/127.0.0.1/tcp/1"), 600)
    assert len(store.peer_ids()) <= PEERSTORE
