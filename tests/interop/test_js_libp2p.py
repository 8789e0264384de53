"""Our node and a js-libp2p peer: identify, ping, frames and gossip, both ways."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dms.net.config import BLOB_PROTOCOL, FRAMES_PROTOCOL
from dms.testing.live_networks import TOPIC, Crew
from dms_actors.ports import FrameReceived, GossipReceived, PeerDown, PeerUp

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
JsPeer = Any


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_identify_and_ping(crew: Crew, js: JsPeer) -> None:
    ann = await crew()
    assert (await js("dial", address=ann.addresses[0]))["peer"] == ann.peer
    told = await js("identify")
    assert {FRAMES_PROTOCOL, BLOB_PROTOCOL, "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/meshsub/1.1.0"} <= set(
        told["protocols"]
    )
    assert told["addresses"] == [ann.addresses[0].split("/p2p/")[0]]
    assert (await js("ping"))["ms"] < 5_000


async def test_frames_both_ways_when_the_js_peer_dials(crew: Crew, js: JsPeer) -> None:
    ann = await crew()
    await js("dial", address=ann.addresses[0])
    welcome = await js("open")
    assert (welcome["kind"], welcome["network"]) == (2, "dms/1")
    up = await ann.seen.first(PeerUp)
    ready = await js.event("ready")
    assert up.peer == ready["peer"]
    assert set(up.addresses) <= set(ready["addresses"])
    large = bytes(range(256)) * 1000
    for frame in (b"from js", b"", large):
        await js("send", frame=text(frame))
    await ann.seen.until(lambda: len(ann.seen.of(FrameReceived)) == 3)
    assert [event.frame for event in ann.seen.of(FrameReceived)] == [b"from js", b"", large]
    for frame in (b"from python", large):
        assert ann.network.send(up.peer, frame)
        await js.event("frame", peer=ann.peer, frame=text(frame))


async def test_frames_when_we_dial(crew: Crew, js: JsPeer) -> None:
    ann = await crew()
    ready = await js.event("ready")
    assert await ann.network.dial(ready["addresses"]) == ready["peer"]
    await js.event("hello", peer=ann.peer, network="dms/1", agent="dms")
    assert ann.network.send(ready["peer"], b"hello js")
    await js.event("frame", peer=ann.peer, frame=text(b"hello js"))
    async with asyncio.timeout(10):
        while not ann.network.links()[ready["peer"]].rtt_us:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await ann.network.stop()
    await js.event("bye", peer=ann.peer, reason="stopping")


async def test_gossip_both_ways_also_after_the_js_peer_dialled_again(crew: Crew, js: JsPeer) -> None:
    """Stock: after our side closed and js dialled again, its subscriptions are forgotten and gossip to it is dead."""
    ann = await crew()
    await js("subscribe", topic=TOPIC)
    await js("dial", address=ann.addresses[0])
    await js.event("subscriptions", peer=ann.peer, topics=[TOPIC])
    await gossip_both_ways(ann, js, b"first")
    await js("hangup")
    await ann.seen.first(PeerDown)
    await js("dial", address=ann.addresses[0])
    await gossip_both_ways(ann, js, b"again")


async def gossip_both_ways(ann: Any, js: JsPeer, mark: bytes) -> None:
    async def repeat(send: Callable[[], Awaitable[object]], arrived: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):  # until the meshes have met
            while not arrived():
                await send()
                await asyncio.sleep(0.2)

    async def ours() -> None:
        assert ann.network.publish(TOPIC, mark + b" of ours")

    await repeat(
        lambda: js("publish", topic=TOPIC, frame=text(mark + b" of theirs")),
        lambda: any(event.frame == mark + b" of theirs" for event in ann.seen.of(GossipReceived)),
    )
    await repeat(ours, lambda: any(event.get("frame") == text(mark + b" of ours") for event in js.events))
    from_us = next(event for event in js.events if event.get("frame") == text(mark + b" of ours"))
    assert from_us["from"] == ann.peer
