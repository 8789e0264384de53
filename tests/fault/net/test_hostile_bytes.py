"""What any peer may send: each case kills or wedges a stock libp2p host (facts, section 6), and costs ours one stream or one connection."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_uvarint

from dms.net import frames
from dms.net.config import BLOB_PROTOCOL, FRAMES_PROTOCOL, MAX_FRAME, RateLimit
from dms.net.frames import Kind
from dms.testing.hostile_peer import GOSSIP_PROTOCOL, Visit, attack, published, rpc, signed, until
from dms.testing.live_networks import TOPIC, Crew, still_serves
from dms_actors.ports import GossipReceived
from dms_proto.wire.scores import MUTE_AT, POINTS, Offence

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
STOCK_HOST = Path(__file__).with_name("stock_host.py")


async def gossip(visit: Visit, data: bytes) -> None:
    stream = await visit.open(GOSSIP_PROTOCOL)
    await stream.write(data)
    await visit.until_reset(stream)


async def garbage_protobuf(visit: Visit) -> None:
    await gossip(visit, rpc(b"\xff\xff\xff\xff\xff"))


async def bad_author(visit: Visit) -> None:
    await gossip(visit, published(TOPIC, data=b"x", from_id=b"\x01", seqno=b"12345678", signature=b"s", key=b"k"))


async def bad_key(visit: Visit) -> None:
    author = ID(b"\x12\x20" + bytes(32)).to_bytes()
    await gossip(
        visit, published(TOPIC, data=b"x", from_id=author, seqno=b"12345678", signature=b"s", key=b"\x08\x07\x12")
    )


async def bad_rsa_key(visit: Visit) -> None:
    author = ID(b"\x12\x20" + bytes(32)).to_bytes()
    await gossip(
        visit, published(TOPIC, data=b"x", from_id=author, seqno=b"12345678", signature=b"s", key=b"\x08\x00\x12\x01x")
    )


async def bad_negotiation(visit: Visit) -> None:
    stream = await visit.yamux.open_stream()
    await stream.write(b"\x13/multistream/1.0.0\n\x05\xff\xfe\xfd\xfc\n")
    await visit.until_reset(stream)


async def huge_rpc(visit: Visit) -> None:
    await gossip(visit, encode_uvarint(2**31))


async def endless_varint(visit: Visit) -> None:
    await gossip(visit, b"\xff" * 64)


HOSTILE = [garbage_protobuf, bad_author, bad_key, bad_rsa_key, bad_negotiation, huge_rpc, endless_varint]


@pytest.mark.parametrize("play", HOSTILE)
async def test_hostile_bytes_cost_only_their_own_stream(crew: Crew, play: Callable[[Visit], Awaitable[None]]) -> None:
    victim = await crew()
    pid = victim.network.pid

    async def then_behave(visit: Visit) -> bytes:
        await play(visit)
        stream = await visit.greeted()  # the same connection still works
        await stream.write(frames.item(Kind.PING, b"12345678"))
        return await stream.read(100)

    assert await attack(victim.addresses[0], then_behave) == frames.item(Kind.PONG, b"12345678")
    assert victim.network.pid == pid


async def test_after_all_of_them_a_newcomer_is_served(crew: Crew) -> None:
    victim = await crew()
    for play in HOSTILE:
        await attack(victim.addresses[0], play)
    await still_serves(crew, victim)


@pytest.mark.parametrize("play", [garbage_protobuf, bad_author, bad_negotiation])
async def test_the_stock_host_dies_of_them(play: Callable[[Visit], Awaitable[None]]) -> None:
    with stock_host() as (process, address):
        await attack(address, _attempt(play))
        assert await asyncio.to_thread(process.wait, 20) != 0


def _attempt(play: Callable[[Visit], Awaitable[None]]) -> Callable[[Visit], Awaitable[None]]:
    async def attempt(visit: Visit) -> None:
        with trio.move_on_after(3):
            await play(visit)

    return attempt


class stock_host:  # noqa: N801 - reads as a function
    """libp2p as it comes, in a process of its own: its handle and its address."""

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(STOCK_HOST)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        return self._process, self._process.stdout.readline().strip()

    def __exit__(self, *_exc: object) -> None:
        self._process.kill()
        self._process.communicate()


# ------------------------------------------------------------------------------------------------------ our own protocols


async def unreadable_hello(visit: Visit) -> None:
    stream = await visit.open(FRAMES_PROTOCOL)
    await stream.write(frames.item(Kind.HELLO, b"\xc1\xff"))
    await visit.until_reset(stream)


async def frame_before_hello(visit: Visit) -> None:
    stream = await visit.open(FRAMES_PROTOCOL)
    await stream.write(frames.frame(b"no greeting"))
    await visit.until_reset(stream)


async def endless_hello(visit: Visit) -> None:
    stream = await visit.open(FRAMES_PROTOCOL)
    await stream.write((2**31).to_bytes(4, "big"))
    await visit.until_reset(stream)


async def hello_cut_short(visit: Visit) -> None:
    stream = await visit.open(FRAMES_PROTOCOL)
    await stream.write(b"\0\0")
    await stream.close()
    await visit.until_reset(stream)


async def blob_garbage(visit: Visit) -> None:
    stream = await visit.open(BLOB_PROTOCOL)
    await stream.write(b"\0\0\0\x05\xc1\xff\xff\xff\xff")
    await visit.until_reset(stream)


async def blob_closed_at_once(visit: Visit) -> None:
    """`StreamEOF` escapes the handler: stock, the connection is wedged from then on."""
    stream = await visit.open(BLOB_PROTOCOL)
    await stream.close()
    await visit.until_reset(stream)


async def ping_cut_short(visit: Visit) -> None:
    stream = await visit.open("/ipfs/ping/1.0.0")
    await stream.write(b"short")
    await stream.close()
    await visit.until_reset(stream)


@pytest.mark.parametrize(
    "play",
    [
        unreadable_hello,
        frame_before_hello,
        endless_hello,
        hello_cut_short,
        blob_garbage,
        blob_closed_at_once,
        ping_cut_short,
    ],
)
async def test_nonsense_on_our_protocols_costs_only_its_own_stream(
    crew: Crew, play: Callable[[Visit], Awaitable[None]]
) -> None:
    victim = await crew()

    async def then_behave(visit: Visit) -> bytes:
        await play(visit)
        stream = await visit.greeted()
        await stream.write(frames.item(Kind.PING, b"12345678"))
        return await stream.read(100)

    assert await attack(victim.addresses[0], then_behave) == frames.item(Kind.PONG, b"12345678")


async def test_an_oversized_frame_is_refused_by_its_length_and_counted(crew: Crew) -> None:
    victim = await crew()

    async def play(visit: Visit) -> None:
        stream = await visit.greeted()
        await stream.write((MAX_FRAME + 2).to_bytes(4, "big") + bytes([Kind.FRAME]))
        await visit.until_reset(stream)

    await attack(victim.addresses[0], play)
    assert await victim.counted("refused.oversized") == 1


async def test_an_oversized_gossip_message_is_counted_and_not_delivered(crew: Crew) -> None:
    victim = await crew()

    async def play(visit: Visit) -> None:
        stream = await visit.open(GOSSIP_PROTOCOL)
        await stream.write(signed(TOPIC, bytes(4 * 1024 + 1)) + signed(TOPIC, b"of a good size"))
        await stream.close()
        await until(lambda: victim.seen.of(GossipReceived))

    await attack(victim.addresses[0], play)
    event = await victim.seen.first(GossipReceived)
    assert event.frame == b"of a good size"
    assert await victim.counted("refused.gossip_oversized") == 1
    assert len(victim.seen.of(GossipReceived)) == 1


async def test_a_gossip_message_with_a_false_signature_is_not_delivered(crew: Crew) -> None:
    victim = await crew()

    async def play(visit: Visit) -> None:
        stream = await visit.open(GOSSIP_PROTOCOL)
        await stream.write(signed(TOPIC, b"true").replace(b"true", b"fake") + signed(TOPIC, b"honest"))
        await stream.close()
        await until(lambda: victim.seen.of(GossipReceived))

    await attack(victim.addresses[0], play)
    await victim.seen.first(GossipReceived, lambda event: event.frame == b"honest")
    assert [event.frame for event in victim.seen.of(GossipReceived)] == [b"honest"]


async def test_a_flood_of_gossip_in_one_message_is_banned_once(crew: Crew) -> None:
    victim = await crew(gossip_limit=RateLimit(frames_per_s=1, frames_burst=1))

    async def play(visit: Visit) -> None:
        stream = await visit.open(GOSSIP_PROTOCOL)
        many = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=b"flood", topicIDs=[TOPIC]) for _ in range(1_000)])
        await stream.write(signed(TOPIC, b"one") + rpc(many))
        await visit.until_closed()

    await attack(victim.addresses[0], play)
    stats = await victim.network.stats()
    needed = MUTE_AT // POINTS[Offence.FLOODED]
    assert needed <= stats["refused.gossip_rate"] <= needed + 5  # points halve with time, so it may take a few more
    assert stats["bans"] == 1


@pytest.mark.parametrize("protocol", ["/plaintext/2.0.0", "/secio/1.0.0", "/tls/1.0.0"])
async def test_only_noise_is_offered(crew: Crew, protocol: str) -> None:
    victim = await crew()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(victim.addresses[0].split("/")[4]))
    writer.write(b"\x13/multistream/1.0.0\n" + bytes([len(protocol) + 1]) + protocol.encode() + b"\n")
    assert await reader.readexactly(20) == b"\x13/multistream/1.0.0\n"
    assert await reader.readexactly(4) == b"\x03na\n"
    writer.close()
    await writer.wait_closed()


async def test_a_handshake_of_garbage_is_counted_and_closed(crew: Crew) -> None:
    victim = await crew()
    for garbage in (
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(500),
        b"\x13/multistream/1.0.0\n\x07/noise\n" + os.urandom(300),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(victim.addresses[0].split("/")[4]))
        writer.write(garbage)
        with suppress(OSError):  # it may be reset while we still write
            writer.write_eof()
            await reader.read()
        writer.close()
    assert await victim.counted("refused.handshake", 3) == 3
    await still_serves(crew, victim)
