"""Proof of work at the door: an honest stranger shows it and is let in; who shows none is not heard, and costs the node nothing."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from libp2p.abc import INetStream

from dms.net import frames
from dms.net.config import FRAMES_PROTOCOL, NETWORK_VERSION
from dms.net.frames import Greeting, Kind
from dms.net.guards.yamux_stream import stream_under
from dms.net.pipe import Splitter
from dms.testing.hostile_peer import GOSSIP_PROTOCOL, Visit, attack, signed
from dms.testing.live_networks import TOPIC, Crew, still_serves
from dms_actors.ports import GossipReceived, NetworkDown, NetworkUp, PeerDown, PeerUp
from dms_proto.errors import PeerError
from dms_proto.wire.stamps import STAMP_BYTES

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
BITS = 10


async def test_an_honest_stranger_shows_its_work_and_is_served(crew: Crew) -> None:
    victim = await crew(work_bits_private=BITS)
    await still_serves(crew, victim)


async def test_whom_a_node_dials_it_does_not_ask(crew: Crew) -> None:
    asking, other = await crew(work_bits_private=22), await crew()
    await asking.connect(other)
    assert other.peer in asking.network.links()


async def say(visit: Visit, *stamps: bytes) -> list[bytes]:
    """Greets with each stamp in turn; gives the answers."""
    stream = await visit.open(FRAMES_PROTOCOL)
    splitter, answers = Splitter(), list[bytes]()
    for stamp in stamps:
        await stream.write(frames.greeting(Kind.HELLO, Greeting(NETWORK_VERSION, "hostile", (), stamp)))
        while not (items := splitter.feed(await stream.read())):
            pass
        answers += items
    return answers


async def test_who_shows_too_little_is_told_how_much_is_missing(crew: Crew) -> None:
    victim = await crew(work_bits_private=22)

    async def play(visit: Visit) -> list[bytes]:
        return await say(visit, b"", bytes(STAMP_BYTES))

    asked, refused = await attack(victim.addresses[0], play)
    assert asked[0] == Kind.WORK
    assert frames.read_work(asked[1:]) == 22
    assert refused[0] == Kind.REFUSED
    assert "shown, 22 wanted" in frames.read_reason(refused[1:])
    assert await victim.counted("refused.work") == 1
    assert not victim.seen.of(PeerUp)


async def test_who_shows_nothing_is_not_heard_by_gossip_either(crew: Crew) -> None:
    victim = await crew(work_bits_private=22)

    async def play(visit: Visit) -> None:
        stream = await visit.open(GOSSIP_PROTOCOL)
        await stream.write(signed(TOPIC, b"news"))
        await say(visit, b"", bytes(STAMP_BYTES))

    await attack(victim.addresses[0], play)
    assert not victim.seen.of(PeerUp)
    assert not victim.seen.of(GossipReceived)


async def test_a_known_peer_shows_none(crew: Crew) -> None:
    known = await crew(private_key=bytes(range(32)))
    victim = await crew(work_bits_private=22, known=(known.peer,))
    await known.connect(victim)
    assert victim.peer in known.network.links()


async def test_whom_the_node_has_let_in_shows_none_until_it_is_let_in_no_longer(crew: Crew) -> None:
    guest, victim = await crew(), await crew(work_bits_private=200)
    victim.network.spare(guest.peer, 600)
    await guest.connect(victim)
    assert victim.peer in guest.network.links()

    victim.network.spare(guest.peer, 0)
    victim.network.ban(guest.peer, 600)
    await guest.seen.first(PeerDown)
    victim.network.ban(guest.peer, 0)
    with pytest.raises(PeerError, match="22 at most"):
        await guest.network.dial(victim.addresses)


async def test_whom_the_node_has_let_in_shows_none_to_the_next_process_either(crew: Crew) -> None:
    guest, late = await crew(), await crew()
    victim = await crew(work_bits_private=200)
    victim.network.spare(guest.peer, 600)
    os.kill(victim.network.pid, signal.SIGKILL)
    await victim.seen.first(NetworkDown)
    victim.network.spare(late.peer, 600)  # while no process is there
    await victim.seen.first(NetworkUp)
    for other in (guest, late):
        await other.network.dial(victim.addresses)
        assert victim.peer in other.network.links()


async def test_a_node_does_not_work_for_who_dialled_it(crew: Crew) -> None:
    victim = await crew()

    async def play(visit: Visit) -> None:
        await visit.greeted()
        await visit.until_closed()

    async def ask_for_work(net_stream: INetStream) -> None:
        stream = stream_under(net_stream)
        await stream.read()
        await stream.write(frames.work_wanted(1))
        answers.append(await stream.read())

    answers = list[bytes]()
    await attack(victim.addresses[0], play, answer=ask_for_work)
    assert not any(answers)
    assert not victim.seen.of(PeerUp)


async def test_a_node_does_not_work_without_end_for_whoever_asks(crew: Crew) -> None:
    greedy = await crew(work_bits_private=200)
    stranger = await crew(private_key=os.urandom(32))
    with pytest.raises(PeerError, match="22 at most"):
        async with asyncio.timeout(15):
            await stranger.network.dial(greedy.addresses)
