"""Gossip is checked before it is handed on: what cannot be an envelope ends at the first honest node, and its sender pays."""

from __future__ import annotations

import os
import time

import pytest
import trio

from dms.testing.hostile_peer import GOSSIP_PROTOCOL, Visit, attack, signed
from dms.testing.live_networks import TOPIC, Crew
from dms.testing.samples import REQUEST, REQUESTER
from dms_actors.ports import GossipReceived, PeerDown
from dms_proto.capability import Capability
from dms_proto.ids import MessageId
from dms_proto.messages import BidRequest
from dms_proto.wire import seal

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
PATIENCE_S = 20.0
ASKING = BidRequest(REQUEST, 0, Capability(), 1, 1, 0, 0, 0)


def envelope(*, topic: str = TOPIC, sent: int | None = None) -> bytes:
    now = time.time_ns() // 1_000_000
    return seal(REQUESTER, ASKING, id=MessageId(os.urandom(16)), sent=sent or now, ttl_ms=10_000, topic=topic)


async def test_what_is_no_envelope_is_neither_delivered_nor_handed_on(crew: Crew) -> None:
    victim, behind = await crew(envelopes_only=True), await crew()
    await behind.connect(victim)
    bad = (b"garbage", envelope(topic="another"), envelope(sent=1_000_000_000_000))

    async def play(visit: Visit) -> None:
        stream = await visit.open(GOSSIP_PROTOCOL)
        with trio.fail_after(PATIENCE_S):
            for data in bad:
                await stream.write(signed(TOPIC, data))
            while not behind.seen.of(GossipReceived):  # until the mesh stands
                await stream.write(signed(TOPIC, envelope()))
                await trio.sleep(0.1)
            for data in bad:
                await stream.write(signed(TOPIC, data))
            last = envelope()
            await stream.write(signed(TOPIC, last))
            while behind.seen.of(GossipReceived)[-1].frame != last:  # noqa: ASYNC110 - another process tells
                await trio.sleep(0.02)

    await attack(victim.addresses[0], play)
    for member in (victim, behind):
        assert not {event.frame for event in member.seen.of(GossipReceived)} & set(bad)
    assert await victim.counted("refused.gossip_invalid") == 2 * len(bad)


async def test_who_goes_on_with_it_is_muted(crew: Crew) -> None:
    victim = await crew(envelopes_only=True)

    async def play(visit: Visit) -> None:
        await visit.greeted()
        stream = await visit.open(GOSSIP_PROTOCOL)
        await stream.write(b"".join(signed(TOPIC, b"garbage %d" % number) for number in range(50)))
        await visit.until_closed()

    await attack(victim.addresses[0], play)
    assert (await victim.seen.first(PeerDown)).reason == "banned"
    assert 10 <= await victim.counted("refused.gossip_invalid") < 15  # what lay behind is not looked at
