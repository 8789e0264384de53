"""Tunnels when something dies, is cut, or is held by a peer that means harm."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import suppress

import pytest
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol

from dms.net.config import TUNNEL_PROTOCOL, RateLimit
from dms.net.guards.yamux_stream import SafeStream, stream_under
from dms.net.tunnels import _item, _read_item
from dms.testing.hostile_peer import CLOSED, Visit, attack
from dms.testing.live_networks import Crew, LiveMember, Wire, still_serves
from dms.testing.network_contract import PATIENCE_S
from dms.testing.tunnel_contract import Service, client_of, echo, fill, hold
from dms_actors.ports import NetworkUp, PeerUp, Tunnel
from dms_proto.errors import MachineError, PeerError
from dms_proto.ids import PeerId
from dms_proto.tunnels import MAX_OPENING
from dms_proto.wire.scores import MUTE_AT, POINTS, Offence

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]


async def echoing(ann: LiveMember, bob: LiveMember) -> tuple[Tunnel, asyncio.StreamReader, asyncio.StreamWriter]:
    """A tunnel from ann to an echo at bob, proven to carry."""
    bob.network.serve_tunnels(Service(echo).accept)
    tunnel = await ann.network.open_tunnel(bob.peer, b"")
    reader, writer = await client_of(tunnel)
    writer.write(b"hello")
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.readexactly(5) == b"hello"
    return tunnel, reader, writer


async def is_at_end(reader: asyncio.StreamReader) -> bool:
    """Whether nothing more comes, however it ended."""
    with suppress(OSError):
        return not await reader.read()
    return True


@pytest.mark.parametrize("whose", ["ours", "the peer's"])
async def test_a_killed_network_process_ends_all_its_tunnels_with_the_reason(crew: Crew, whose: str) -> None:
    ann, bob = await crew(), await crew()
    await ann.connect(bob)
    tunnel, reader, writer = await echoing(ann, bob)
    victim = ann if whose == "ours" else bob
    os.kill(victim.network.pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        why = await tunnel.wait_over()
        assert await is_at_end(reader)
    assert why.startswith("the network process ended" if whose == "ours" else "the connection with the peer ended")
    writer.close()
    await victim.seen.first(NetworkUp)


async def test_an_opening_under_way_when_the_network_process_dies_is_an_error(crew: Crew) -> None:
    asked = asyncio.Event()

    async def never(_peer: PeerId, _opening: bytes) -> socket.socket:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    ann, bob = await crew(), await crew()
    await ann.connect(bob)
    bob.network.serve_tunnels(never)
    opening = asyncio.create_task(ann.network.open_tunnel(bob.peer, b""))
    await asked.wait()
    os.kill(ann.network.pid, signal.SIGKILL)
    with pytest.raises(MachineError) as caught:
        await opening
    assert caught.value.code == "network_down"
    await ann.seen.first(NetworkUp)
    with pytest.raises((MachineError, PeerError)):
        await ann.network.open_tunnel(PeerId("nobody"), b"")


async def test_a_cut_wire_ends_the_tunnel_on_both_sides(crew: Crew) -> None:
    ended = asyncio.Event()

    async def until_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await is_at_end(reader)
        ended.set()

    ann, bob = await crew(), await crew()
    bob.network.serve_tunnels(Service(until_end).accept)
    async with Wire.to(bob.addresses[0]) as (wire, address):
        await ann.network.dial([address])
        tunnel = await ann.network.open_tunnel(bob.peer, b"")
        reader, writer = await client_of(tunnel)
        writer.write(b"hello")
        async with asyncio.timeout(PATIENCE_S):
            await reader.readexactly(5)
            await wire.cut()
            assert "the connection with the peer ended" in await tunnel.wait_over()
            assert await is_at_end(reader)
            await ended.wait()
    writer.close()


async def test_more_tunnels_that_nobody_reads_than_a_connection_may_have_unread_are_held_one_by_one(crew: Crew) -> None:
    """Their windows together are more than `MAX_UNREAD`: what an honest peer sends a slow job must not cost it the connection."""
    ann, bob = await crew(), await crew()
    await ann.connect(bob)
    bob.network.serve_tunnels(Service(hold).accept)
    tunnels, ends = [], []
    for _ in range(40):
        tunnels.append(await ann.network.open_tunnel(bob.peer, b""))
        given, kept = socket.socketpair()
        kept.setblocking(False)
        tunnels[-1].join(given)
        ends.append(kept)
    await asyncio.gather(*(fill(end, 3.0) for end in ends))
    _, _reader, writer = await echoing(ann, bob)
    writer.close()
    assert not (await bob.network.stats()).get("refused.window")
    for tunnel, end in zip(tunnels, ends, strict=True):
        end.close()
        tunnel.abort()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(tunnel.wait_over() for tunnel in tunnels))


async def answer_to(stream: SafeStream) -> bytes:
    """What the victim says to an opening."""
    with trio.fail_after(PATIENCE_S):
        return await _read_item(stream, 4096)


async def test_a_peer_gets_a_quarter_of_all_tunnels_and_half_openings_count(crew: Crew) -> None:
    victim = await crew(max_tunnels_served=8)

    async def play(visit: Visit) -> bytes:
        await visit.greeted()
        for _ in range(2):
            await visit.open(TUNNEL_PROTOCOL)  # and says nothing
        return await answer_to(await visit.open(TUNNEL_PROTOCOL))

    assert b"busy" in await attack(victim.addresses[0], play)
    await still_serves(crew, victim)


async def test_half_openings_of_many_identities_keep_out_nobody_from_elsewhere(crew: Crew) -> None:
    """Four identities of one source have as many openings half done as there are tunnels."""
    victim = await crew(max_tunnels_served=8)
    has_knocked = threading.Semaphore(0)

    async def knock(visit: Visit) -> None:
        await visit.greeted()
        for _ in range(2):
            await visit.open(TUNNEL_PROTOCOL)
        has_knocked.release()
        await visit.until_closed()

    visitors = [asyncio.create_task(attack(victim.addresses[0], knock)) for _ in range(4)]
    for _ in visitors:
        assert await asyncio.to_thread(has_knocked.acquire, timeout=PATIENCE_S)
    ann = await crew()
    async with Wire.to(victim.addresses[0], source="127.0.0.2") as (_, address):
        await ann.network.dial([address])
        _, _, writer = await echoing(ann, victim)
        writer.close()
    for up in victim.seen.of(PeerUp):
        victim.network.ban(up.peer, 60)
    await asyncio.gather(*visitors)


async def test_openings_above_the_rate_are_refused_and_an_offence(crew: Crew) -> None:
    victim = await crew(tunnel_limit=RateLimit(frames_per_s=1, frames_burst=2))

    async def play(visit: Visit) -> list[bytes]:
        await visit.greeted()
        answers = []
        for _ in range(3):
            stream = await visit.open(TUNNEL_PROTOCOL)
            await stream.write(_item(b"knock"))
            answers.append(await answer_to(stream))
        return answers

    *first, last = await attack(victim.addresses[0], play)
    assert all(b"not_found" in answer for answer in first)
    assert b"too many tunnels are asked for" in last
    await still_serves(crew, victim)


@pytest.mark.parametrize(
    ("refused", "says"),
    [({"work_bits_private": 22}, b"a proof of work"), ({"max_tunnels_served": 0}, b"busy")],
    ids=["not admitted", "busy"],
)
async def test_a_flood_of_openings_that_are_refused_anyway_is_an_offence_too(
    crew: Crew, refused: dict[str, int], says: bytes
) -> None:
    victim = await crew(tunnel_limit=RateLimit(frames_per_s=1, frames_burst=2), **refused)

    async def play(visit: Visit) -> bytes:
        answers = []
        with suppress(*CLOSED):
            for _ in range(2 + 2 * MUTE_AT // POINTS[Offence.FLOODED]):
                stream = await visit.open(TUNNEL_PROTOCOL)
                answers.append(await answer_to(stream))
                await stream.close()
        await visit.until_closed()
        return answers[0]

    assert says in await attack(victim.addresses[0], play)
    assert await victim.counted("bans") == 1


async def test_what_a_vanished_peer_had_half_open_is_free_again(crew: Crew) -> None:
    victim = await crew(max_tunnels_served=8)

    async def play(visit: Visit) -> None:
        await visit.greeted()
        for _ in range(2):
            await visit.open(TUNNEL_PROTOCOL)

    for _ in range(5):
        await attack(victim.addresses[0], play)
    ann = await crew()
    await ann.connect(victim)
    _, _, writer = await echoing(ann, victim)
    writer.close()


async def test_too_long_an_opening_is_refused_unread(crew: Crew) -> None:
    victim = await crew()

    async def play(visit: Visit) -> bytes:
        await visit.greeted()
        stream = await visit.open(TUNNEL_PROTOCOL)
        await stream.write(_item(bytes(MAX_OPENING + 1)))
        return await answer_to(stream)

    assert b"bad_argument" in await attack(victim.addresses[0], play)
    assert await victim.counted("tunnels.refused") == 1
    await still_serves(crew, victim)


@pytest.mark.parametrize(
    "said", [b"\xff\xff\xff\xff", _item(b"\xc1"), _item(b"\x81\xa4code\xa9malicious"), _item(b"")], ids=repr
)
async def test_a_peer_that_answers_with_garbage_is_an_error_and_no_more(crew: Crew, said: bytes) -> None:
    victim = await crew()

    async def answer(net_stream: INetStream) -> None:
        stream = stream_under(net_stream)
        await _read_item(stream, MAX_OPENING)
        await stream.write(said)

    async def play(visit: Visit) -> None:
        visit.host.set_stream_handler(TProtocol(TUNNEL_PROTOCOL), answer)
        await visit.greeted()
        await visit.until_closed()

    visitor = asyncio.create_task(attack(victim.addresses[0], play))
    peer = (await victim.seen.first(PeerUp)).peer
    with pytest.raises(PeerError) as caught:
        await victim.network.open_tunnel(peer, b"")
    assert caught.value.code in ("peer_unreachable", "bad_argument")
    victim.network.ban(peer, 60)
    await visitor
