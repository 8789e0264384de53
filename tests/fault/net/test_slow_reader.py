"""A peer that is connected, lives, and takes nothing of what it is sent: what waits for it is bounded, it is let go, and others are served."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import trio
from libp2p.abc import INetStream

from dms.net import frames
from dms.net.config import NETWORK_VERSION
from dms.net.frames import Greeting, Kind
from dms.net.guards.yamux_stream import stream_under
from dms.net.link import ASKS_ON, SLOW_AFTER_S, UNREAD_S
from dms.testing.hostile_peer import CLOSED, Visit, attack
from dms.testing.live_networks import Crew, still_serves
from dms.testing.network_contract import PATIENCE_S
from dms_actors.ports import PeerDown, PeerUp
from dms_proto.units import KIB

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
FRAME = bytes(200 * KIB)
SMALL = bytes(8 * KIB)
LITTLE = 32 * KIB
ENOUGH = 500 * KIB
"""Past what one window holds, taken for more than twice as long as one may take nothing."""


async def wait(visit: Visit) -> None:
    await visit.greeted()
    await visit.until_closed()


async def test_who_takes_nothing_is_let_go_and_others_are_served(crew: Crew) -> None:
    """Its window was never opened again while its connection answered every ping, so what waited for it waited for ever."""
    victim = await crew(keepalive_s=0.2, keepalive_misses=1_000, write_stall_s=0.5)
    slow = asyncio.create_task(attack(victim.addresses[0], wait))
    up = await victim.seen.first(PeerUp)
    while victim.network.send(up.peer, FRAME):
        pass
    assert (await victim.seen.first(PeerDown)).reason == "silent"
    assert await victim.counted("refused.stalled") == 1
    await slow
    await still_serves(crew, victim)


async def test_who_asks_on_and_takes_nothing_is_read_slowly_and_soon_let_go(crew: Crew) -> None:
    """It was read at full speed for as long as its answers were few, though each frame costs the node more than its sender."""
    victim = await crew(keepalive_s=60.0)
    sent, filled = 0, trio.Event()

    async def fill(net_stream: INetStream) -> None:
        stream = stream_under(net_stream)
        await stream.read()
        await stream.write(frames.greeting(Kind.WELCOME, Greeting(NETWORK_VERSION, "hostile")))
        while stream.receive_left > 0:  # noqa: ASYNC110 - another process sends
            await trio.sleep(SLOW_AFTER_S)
        await trio.sleep(SLOW_AFTER_S)
        filled.set()
        await trio.sleep_forever()

    async def ask(visit: Visit) -> None:
        nonlocal sent
        stream = await visit.greeted()
        await filled.wait()
        with suppress(*CLOSED):
            while True:
                await stream.write(frames.frame(bytes(KIB)))
                sent += 1

    asker = asyncio.create_task(attack(victim.addresses[0], ask, answer=fill))
    up = await victim.seen.first(PeerUp)
    while victim.network.send(up.peer, FRAME):
        pass
    assert (await victim.seen.first(PeerDown)).reason == "silent"
    assert await victim.counted("refused.stalled") == 1
    await asker
    assert await victim.counted("frames.in") < sent / 2
    await still_serves(crew, victim)


async def test_who_asks_on_and_reads_little_by_little_is_kept(crew: Crew) -> None:
    """A node with much to do: it takes a little now and then, and it is more than a second until that is half a window."""
    victim = await crew(keepalive_s=60.0)
    heard = 0

    async def listen(net_stream: INetStream) -> None:
        nonlocal heard
        stream = stream_under(net_stream)
        await stream.read()
        await stream.write(frames.greeting(Kind.WELCOME, Greeting(NETWORK_VERSION, "busy")))
        while True:
            heard += len(await stream.read(LITTLE))
            await trio.sleep(UNREAD_S / 3)

    async def ask(visit: Visit) -> None:
        stream = await visit.greeted()
        while heard < ENOUGH:
            await stream.write(frames.frame(b"?"))
            await trio.sleep(UNREAD_S / ASKS_ON / 4)

    asker = asyncio.create_task(attack(victim.addresses[0], ask, answer=listen))
    up = await victim.seen.first(PeerUp)
    while victim.network.send(up.peer, FRAME):
        pass
    await asker
    assert await victim.counted("refused.stalled", at_least=0) == 0


async def test_where_a_peer_was_muted_the_next_waits_at_the_door_and_gets_in(crew: Crew) -> None:
    """A hundred identities of one source cost a hundred handshakes in as many tenths of a second."""
    victim = await crew()

    async def come(visit: Visit) -> None:
        with suppress(*CLOSED):  # it may be shut out before it has said its greeting
            await wait(visit)

    offender = asyncio.create_task(attack(victim.addresses[0], come))
    victim.network.ban((await victim.seen.first(PeerUp)).peer, PATIENCE_S)
    await offender
    assert await victim.counted("waited.doorstep", at_least=0) == 0
    await still_serves(crew, victim)
    assert await victim.counted("waited.doorstep") == 1


async def test_a_crowd_that_takes_nothing_is_let_go_before_it_fills_the_memory(crew: Crew) -> None:
    """Each within its own 2 MiB, all together above what may wait: those that take nothing go at once, not after a stall."""
    victim = await crew(keepalive_s=60.0)
    crowd = [asyncio.create_task(attack(victim.addresses[0], wait)) for _ in range(5)]
    async with asyncio.timeout(PATIENCE_S):
        while len(victim.network.links()) < len(crowd):  # noqa: ASYNC110 - another process connects
            await asyncio.sleep(0.02)
        while not victim.seen.of(PeerDown):
            for peer in victim.network.links():
                victim.network.send(peer, SMALL)
            await asyncio.sleep(0)
    assert await victim.counted("refused.stalled") >= 1
    await victim.network.stop()
    await asyncio.gather(*crowd)
