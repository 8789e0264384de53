"""A peer that is connected, lives, and takes nothing of what it is sent: what waits for it is bounded, it is let go, and others are served."""

from __future__ import annotations

import asyncio

import pytest

from dms.testing.hostile_peer import Visit, attack
from dms.testing.live_networks import Crew, still_serves
from dms.testing.network_contract import PATIENCE_S
from dms_actors.ports import PeerDown, PeerUp
from dms_proto.units import KIB

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
FRAME = bytes(200 * KIB)
SMALL = bytes(8 * KIB)


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
