"""Peers that mean harm, as programs: ``python -m dms.testing.attackers KIND ADDRESS TOPIC``.

Each attacks one node until it is muted, then knocks until it is forgiven, and says so in lines of JSON: ``{"muted": seconds since the first hostile
byte}``, ``{"forgiven": seconds since it was muted}``. Used by `make attack` and, in a short form, by the tests.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Final, NamedTuple

import msgspec
import trio
import trio.lowlevel

from dms.net import frames
from dms.net.config import MAX_FRAME, MAX_GOSSIP
from dms.net.frames import Kind
from dms.net.guards.dialing import DialError, dial_peer
from dms.testing.hostile_peer import CLOSED, GOSSIP_PROTOCOL, Visit, signed, visit
from dms_proto.capability import Capability, ExecutorOffer, Resources
from dms_proto.ids import MessageId, request_id
from dms_proto.messages import AnyMessage, BidRequest, Probe
from dms_proto.units import CREDIT, MIB, MINUTE
from dms_proto.wire import Signer, seal

KNOCK_S: Final = 0.2
"""Pause between two tries of a muted attacker."""
SYBILS: Final = 100
STAY_S: Final = 20.0
PATIENCE_S: Final = 120.0
BID_PATIENCE_S: Final = 0.5
"""Pause between two handfuls of requests whose bids are not taken."""


class Target(NamedTuple):
    """Who is attacked, and by which key."""

    address: str
    topic: str
    signer: Signer

    @property
    def peer(self) -> str:
        """The victim's id."""
        return self.address.rpartition("/p2p/")[2]

    def sealed(self, message: AnyMessage) -> bytes:
        """A message to the victim, in all respects a good one."""
        now = time.time_ns() // 1_000_000
        return seal(self.signer, message, id=MessageId(os.urandom(16)), sent=now, ttl_ms=60_000, to=self.peer)


Attack = Callable[[Visit, Target], Awaitable[None]]
"""What an attacker does over and over on its connection, until that is closed."""


async def flood(guest: Visit, target: Target) -> None:
    """Good messages, more than anyone may send."""
    stream = await guest.greeted()
    for first in count(step=200):
        await stream.write(b"".join(frames.frame(target.sealed(Probe(first + n))) for n in range(200)))


async def malform(guest: Visit, _target: Target) -> None:
    """Frames of random bytes."""
    stream = await guest.greeted()
    while True:
        await stream.write(frames.frame(os.urandom(100)))


async def oversize(guest: Visit, _target: Target) -> None:
    """Frames announced longer than any may be, and gossip likewise."""
    stream = await guest.greeted()
    await stream.write((MAX_FRAME + 2).to_bytes(4, "big") + bytes([Kind.FRAME]))
    await guest.until_reset(stream)


async def replay(guest: Visit, target: Target) -> None:
    """One good message, again and again."""
    stream = await guest.greeted()
    frame = frames.frame(target.sealed(Probe(1)))
    while True:
        await stream.write(frame * 10)


async def forge(guest: Visit, target: Target) -> None:
    """Messages with a false signature, the most expensive to refuse."""
    stream = await guest.greeted()
    for number in count():
        good = target.sealed(Probe(number))
        await stream.write(frames.frame(good[:-1] + bytes([good[-1] ^ 1])))


async def litter(guest: Visit, target: Target) -> None:
    """Gossip that is no message of the market, for the victim to hand on."""
    await guest.greeted()
    stream = await guest.open(GOSSIP_PROTOCOL)
    for number in count():
        data = b"litter %d" % number if number % 2 else bytes(MAX_GOSSIP + 1)
        await stream.write(signed(target.topic, data))


def asking() -> BidRequest:
    """A new request for hardly anything, that any node serves."""
    resources = Resources(cpu_millicores=10, memory_bytes=MIB)
    needs = Capability(resources=resources, executors=(ExecutorOffer("sandbox"),), max_wall_ms=MINUTE)
    return BidRequest(request_id(os.urandom(16)), 0, needs, 1, 1, 2**32, CREDIT, 250, 0)


async def vanish(guest: Visit, target: Target) -> None:
    """Asks for bids and takes none: each holds capacity until it expires."""
    stream = await guest.greeted()
    while True:
        await stream.write(b"".join(frames.frame(target.sealed(asking())) for _ in range(10)))
        await trio.sleep(BID_PATIENCE_S)


async def read_nothing(guest: Visit, target: Target) -> None:
    """Asks for what is declined at length, as fast as it may, and takes none of the answers."""
    stream = await guest.greeted()
    labels = {f"label-{number}": "x" * 50 for number in range(20)}
    asked = asking()
    needs = msgspec.structs.replace(asked.needs, labels=labels)
    while True:
        some = [msgspec.structs.replace(asking(), needs=needs) for _ in range(10)]
        await stream.write(b"".join(frames.frame(target.sealed(one)) for one in some))
        await trio.sleep(0.01)


ATTACKS: Final[dict[str, Attack]] = {
    "flooder": flood,
    "malformer": malform,
    "oversizer": oversize,
    "replayer": replay,
    "forger": forge,
    "litterer": litter,
    "vanisher": vanish,
    "slow reader": read_nothing,
}
"""Each by the name of who does it."""


async def attack_until_muted(guest: Visit, target: Target, attack: Attack) -> float:
    """Attacks on one connection. Gives the seconds it took the victim to close it."""
    began = time.monotonic()
    with trio.fail_after(PATIENCE_S):
        while not guest.yamux.is_closed:
            try:
                await attack(guest, target)
            except (*CLOSED, AssertionError, IndexError):  # a stream was reset, or no greeting came any more
                await trio.lowlevel.checkpoint()
    return time.monotonic() - began


async def knock_until_forgiven(guest: Visit, target: Target) -> float:
    """Connects again and again. Gives the seconds until the victim greets."""
    began = time.monotonic()
    with trio.fail_after(PATIENCE_S):
        while True:
            await trio.sleep(KNOCK_S)
            try:
                connection = await dial_peer(guest.host.swarm, target.peer, [target.address], 5)
                await Visit(guest.host, connection).greeted()
            except (*CLOSED, DialError):
                continue
            return time.monotonic() - began


async def play(kind: str, address: str, topic: str) -> None:
    """One attack from its beginning to forgiveness."""
    key = os.urandom(32)
    target = Target(address, topic, Signer(key))

    async def act(guest: Visit) -> None:
        tell(muted=await attack_until_muted(guest, target, ATTACKS[kind]))
        tell(forgiven=await knock_until_forgiven(guest, target))

    await visit(address, act, key)


async def play_sybils(address: str, topic: str) -> None:
    """A hundred identities of one source, one after the other, each until it is muted. The slowest mute is told."""
    slowest = 0.0
    for _ in range(SYBILS):
        key = os.urandom(32)
        target = Target(address, topic, Signer(key))

        async def act(guest: Visit, target: Target = target) -> float:
            return await attack_until_muted(guest, target, malform)

        try:
            slowest = max(slowest, await visit(address, act, key))
        except* (*CLOSED, DialError):
            pass  # kept out
    tell(muted=slowest)


async def play_eclipse(address: str, topic: str) -> None:
    """A hundred identities of one source that behave, connect as often as they may, and stay: to be all that the victim knows.

    There is nothing to mute: told is how long it took, and how many were let in.
    """
    began, inside = time.monotonic(), 0

    async def stay(key: bytes, come: trio.Event) -> None:
        nonlocal inside

        async def act(guest: Visit) -> None:
            nonlocal inside
            with suppress(*CLOSED, AssertionError, IndexError):
                await guest.greeted()
                inside += 1
            come.set()
            await guest.yamux.event_closed.wait()

        with trio.move_on_after(STAY_S):
            try:
                await visit(address, act, key)
            except* (*CLOSED, DialError, trio.TooSlowError):
                pass  # kept out
        come.set()

    async with trio.open_nursery() as nursery:
        for _ in range(SYBILS):
            come = trio.Event()
            nursery.start_soon(stay, os.urandom(32), come)
            with trio.move_on_after(1):
                await come.wait()
    del topic
    tell(muted=0.0, inside=inside, took=time.monotonic() - began)


def tell(**said: float) -> None:
    """One line for whoever started this program."""
    print(json.dumps(said), flush=True)


SYBIL: Final = "sybil"
ECLIPSE: Final = "eclipse"
KINDS: Final = (*ATTACKS, SYBIL, ECLIPSE)
ONE_BY_ONE: Final = (SYBIL, ECLIPSE)
"""Those that are many, and do not come back."""


def main(kind: str, address: str, topic: str) -> None:
    """Attacks."""
    if kind == SYBIL:
        trio.run(play_sybils, address, topic)
    elif kind == ECLIPSE:
        trio.run(play_eclipse, address, topic)
    else:
        trio.run(play, kind, address, topic)


if __name__ == "__main__":
    main(*sys.argv[1:])
