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
from itertools import count
from typing import Final, NamedTuple

import trio
import trio.lowlevel

from dms.net import frames
from dms.net.config import MAX_FRAME, MAX_GOSSIP
from dms.net.frames import Kind
from dms.net.guards.dialing import DialError, dial_peer
from dms.testing.hostile_peer import CLOSED, GOSSIP_PROTOCOL, Visit, signed, visit
from dms_proto.ids import MessageId
from dms_proto.messages import AnyMessage, Probe
from dms_proto.wire import Signer, seal

KNOCK_S: Final = 0.2
"""Pause between two tries of a muted attacker."""
SYBILS: Final = 100
PATIENCE_S: Final = 120.0


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


ATTACKS: Final[dict[str, Attack]] = {
    "flooder": flood,
    "malformer": malform,
    "oversizer": oversize,
    "replayer": replay,
    "forger": forge,
    "litterer": litter,
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

        slowest = max(slowest, await visit(address, act, key))
    tell(muted=slowest)


def tell(**said: float) -> None:
    """One line for whoever started this program."""
    print(json.dumps(said), flush=True)


SYBIL: Final = "sybil"
KINDS: Final = (*ATTACKS, SYBIL)


def main(kind: str, address: str, topic: str) -> None:
    """Attacks."""
    if kind == SYBIL:
        trio.run(play_sybils, address, topic)
    else:
        trio.run(play, kind, address, topic)


if __name__ == "__main__":
    main(*sys.argv[1:])
