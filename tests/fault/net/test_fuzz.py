"""Random and half-right bytes on every protocol and below: 3 s in the normal run, `DMS_FUZZ_SECONDS=20` for the long one.

A stock host is dead within 8-20 s of this (facts, section 0). A failing run prints its seed; `DMS_FUZZ_SEED` repeats it.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2

from dms.net import frames
from dms.net.config import BLOB_PROTOCOL, FRAMES_PROTOCOL
from dms.net.frames import Greeting, Kind
from dms.net.guards.dialing import DialError, dial_peer
from dms.testing.hostile_peer import CLOSED, GOSSIP_PROTOCOL, Visit, attack, rpc, signed
from dms.testing.live_networks import TOPIC, Crew, still_serves

pytestmark = [pytest.mark.libp2p, pytest.mark.slow]
SECONDS = float(os.environ.get("DMS_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("DMS_FUZZ_SEED", random.SystemRandom().randrange(2**32)))
FEWEST_CASES = 60
"""Goes on past its time until so many were tried: a busy machine makes a twentieth of the cases of a quiet one."""
PROTOCOLS = [GOSSIP_PROTOCOL, FRAMES_PROTOCOL, BLOB_PROTOCOL, "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/unknown/1"]


def control(rng: random.Random) -> bytes:
    message = rpc_pb2.RPC()
    for _ in range(rng.randrange(6)):
        topic = rng.choice([TOPIC, "", "x" * 300])
        match rng.randrange(5):
            case 0:
                message.control.graft.add(topicID=topic)
            case 1:
                message.control.prune.add(topicID=topic, backoff=rng.randrange(2**63))
            case 2:
                message.control.ihave.add(
                    topicID=topic, messageIDs=[rng.randbytes(rng.randrange(40)) for _ in range(20)]
                )
            case 3:
                message.control.iwant.add(messageIDs=[rng.randbytes(rng.randrange(40)) for _ in range(20)])
            case _:
                message.subscriptions.add(subscribe=rng.random() < 0.5, topicid=topic)
    return rpc(message)


def payloads(rng: random.Random) -> bytes:
    """Bytes that one of the protocols would accept, or nearly."""
    makers: list[Callable[[], bytes]] = [
        lambda: rng.randbytes(rng.randrange(400)),
        lambda: frames.greeting(Kind.HELLO, Greeting("dms/1", "fuzz", ("/ip4/1.2.3.4/tcp/1",))),
        lambda: frames.frame(rng.randbytes(rng.randrange(2000))),
        lambda: frames.item(rng.choice(list(Kind)), rng.randbytes(rng.randrange(20))),
        lambda: struct.pack(">IB", rng.randrange(2**32), rng.randrange(256)),
        lambda: control(rng),
        lambda: signed(TOPIC, rng.randbytes(rng.randrange(6000))),
        lambda: rpc(rng.randbytes(rng.randrange(200))),
        lambda: b"\x00\x00\x00\x1b\x82\xa6digest\xa3abc\xa6offset" + rng.randbytes(9),
    ]
    return b"".join(rng.choice(makers)() for _ in range(rng.randrange(1, 5)))


def mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.2 else changed)


async def below_the_streams(visit: Visit, rng: random.Random) -> None:
    """A frame with any header. What follows it may be taken for its body, so the connection is of no use afterwards."""
    kind, flags, stream_id = rng.randrange(5), rng.randrange(16), rng.choice([0, 1, 2, 3, 9, 2**31])
    length = rng.choice([0, 1, 300, 2**20, 2**32 - 1])
    visit.raw(
        struct.pack(">BBHII", rng.random() < 0.05, kind, flags, stream_id, length) + rng.randbytes(min(length, 1000))
    )
    with trio.move_on_after(0.02):
        await visit.yamux.event_closed.wait()
    visit.yamux.shut("spoilt")


async def one_case(visit: Visit, rng: random.Random) -> None:
    if rng.random() < 0.1:
        await below_the_streams(visit, rng)
        return
    with trio.move_on_after(0.5):
        stream = await (visit.open(rng.choice(PROTOCOLS)) if rng.random() < 0.9 else visit.yamux.open_stream())
        await stream.write(mutated(rng, payloads(rng)))
        match rng.randrange(3):
            case 0:
                await stream.close()
            case 1:
                await stream.reset()


async def test_nothing_a_peer_sends_ends_the_process(crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
    print(f"DMS_FUZZ_SEED={SEED}")
    victim = await crew(half_life_s=0.001)  # all is forgiven at once: the fuzzing is to go on
    pid, address = victim.network.pid, victim.addresses[0]

    async def play(first: Visit) -> int:
        rng, cases, visit = random.Random(SEED), 0, first
        end = trio.current_time() + SECONDS
        while trio.current_time() < end or cases < FEWEST_CASES:
            try:
                if visit.yamux.is_closed:
                    visit = Visit(first.host, await dial_peer(first.host.swarm, victim.peer, [address], 5))
                await one_case(visit, rng)
            except (*CLOSED, DialError):
                pass
            cases += 1
        return cases

    cases = await attack(address, play)
    assert victim.network.pid == pid
    ours = [record.getMessage() for record in caplog.records if "contained in yamux" in record.getMessage()]
    assert ours == []  # peers' bytes may make libp2p's code raise, never the multiplexer
    await still_serves(crew, victim)
    print(cases, await victim.network.stats())
