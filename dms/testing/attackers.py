"""Peers that mean harm, as programs: ``python -m dms.testing.attackers KIND ADDRESS TOPIC``.

Each attacks one node until it is muted, then knocks until it is forgiven, and says so in lines of JSON: ``{"ready": 0}`` before its first hostile
byte, ``{"muted": seconds since it could be told from an honest peer}``, ``{"forgiven": seconds since it was muted}``. Used by `make attack` and, in a
short form, by the tests.

Most attack whoever does the work (`AGAINST_PROVIDERS`). Those that win jobs and let them down (`AGAINST_REQUESTERS`) attack whoever asks: they stay
connected, and are muted when no job is given to them any more.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Final

import msgspec
import trio
import trio.lowlevel

from dms.net import frames
from dms.net.config import MAX_FRAME, MAX_GOSSIP
from dms.net.frames import Kind
from dms.net.guards.dialing import DialError, dial_peer
from dms.net.guards.yamux_stream import SafeStream
from dms.testing.hostile_peer import CLOSED, GOSSIP_PROTOCOL, Ear, Visit, signed, visit, welcome
from dms_proto.capability import Capability, ExecutorOffer, Isolation, Price, Resources
from dms_proto.ids import MessageId, PeerId, allocation_id, bid_id, request_id, uuid_of
from dms_proto.market.agreement import agreement_on, terms_digest
from dms_proto.membership.machine import PROTOCOL_VERSION
from dms_proto.messages import AllocationStatus, AnyMessage, Bid, BidRequest, Commit, CommitAck, Hello, Probe
from dms_proto.units import CREDIT, GIB, MIB, MINUTE
from dms_proto.wire import DEFAULT_LIMITS, KindClass, Signer, seal

KNOCK_S: Final = 0.2
"""Pause between two tries of a muted attacker."""
CLOSED_S: Final = 1.0
"""Who is greeted again sooner was closed and not muted, and goes on."""
SYBILS: Final = 100
STAY_S: Final = 20.0
PATIENCE_S: Final = 120.0
BID_PATIENCE_S: Final = 0.5
"""Pause between two handfuls of requests whose bids are not taken."""


GAP_S: Final = 2.0
"""Whoever has won jobs, and then none for so long, is muted."""


class Target:
    """Who is attacked, by which key, and what it says.

    Attributes:
        offended_at: when the attacker could first be told from an honest peer, by a steady clock; its first byte, unless it says otherwise.
    """

    def __init__(self, address: str, topic: str, key: bytes) -> None:
        self.address = address
        self.topic = topic
        self.signer = Signer(key)
        self.ear = Ear()
        self.offended_at = 0.0

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


async def ask(guest: Visit, target: Target) -> None:
    """Asks for what is declined, as fast as it may, and hears the answers. Above what anyone may ask, it can be told from an honest peer."""
    stream, allowance = await guest.greeted(), DEFAULT_LIMITS[KindClass.REQUEST]
    began = trio.current_time()
    for asked in count(10, step=10):
        await say(stream, target, *(impossible() for _ in range(10)))
        if not target.offended_at and asked > allowance.burst + allowance.per_second * (trio.current_time() - began):
            target.offended_at = time.monotonic()
        await trio.sleep(0.01)


def impossible() -> BidRequest:
    """A new request that no node serves."""
    asked = asking()
    labels = {f"label-{number}": "x" * 50 for number in range(20)}
    return msgspec.structs.replace(asked, needs=msgspec.structs.replace(asked.needs, labels=labels))


async def read_nothing(guest: Visit, target: Target) -> None:
    """Asks for what is declined at length, as fast as it may, and takes none of the answers."""
    stream = await guest.greeted()
    while True:
        await say(stream, target, *(impossible() for _ in range(10)))
        await trio.sleep(0.01)


async def abandon(guest: Visit, target: Target) -> None:
    """Takes bids and sends no work: each holds capacity until it is given up, and only then is known for what it was."""
    stream, needs = await guest.greeted(), asking().needs
    await say(stream, target, *(asking() for _ in range(10)))
    while True:
        match await target.ear.message():
            case Bid() as bid:
                meant = agreement_on(bid, needs, target.signer.peer_id, PeerId(target.peer), (0,))
                await say(stream, target, Commit(bid.request_id, bid.bid_id, (0,), terms=terms_digest(meant)))
            case AllocationStatus(ending=ending) if ending is not None and not target.offended_at:
                target.offended_at = time.monotonic()


async def say(stream: SafeStream, target: Target, *messages: AnyMessage) -> None:
    """Sends good messages."""
    await stream.write(b"".join(frames.frame(target.sealed(message)) for message in messages))


ABANDONER: Final = "abandoner"
ASKER: Final = "asker"
ATTACKS: Final[dict[str, Attack]] = {
    "flooder": flood,
    "malformer": malform,
    "oversizer": oversize,
    "replayer": replay,
    "forger": forge,
    "litterer": litter,
    "vanisher": vanish,
    ABANDONER: abandon,
    ASKER: ask,
    "slow reader": read_nothing,
}
"""Each by the name of who does it."""


RICH: Final = Capability(
    Resources(64_000, 256 * GIB, 256 * GIB),
    cpu_score=1_000,
    executors=tuple(ExecutorOffer(name, "1", Isolation.NONE) for name in ("sandbox", "wasm", "scripted")),
    max_wall_ms=MINUTE,
)
"""What the attackers of requesters say they have."""

Answer = Callable[[Commit], tuple[AnyMessage, ...]]
"""What one of them says to a commit."""


def nothing(_commit: Commit) -> tuple[AnyMessage, ...]:
    """Bids and vanishes: every job that it wins waits for its answer."""
    return ()


def acknowledgement(commit: Commit) -> tuple[AnyMessage, ...]:
    """Acknowledges, and says nothing more: every job that it wins waits for its first word."""
    ids = tuple(allocation_id(commit.bid_id, slot) for slot in commit.slots)
    return (CommitAck(commit.request_id, commit.bid_id, ids, terms=commit.terms),)


WINNERS: Final[dict[str, Answer]] = {"silent winner": nothing, "idle winner": acknowledgement}
"""Each by the name of who does it."""


LISTENERS: Final = frozenset({ABANDONER, ASKER, *WINNERS})
"""Those that take in what they are told. The others read nothing, the slow reader above all."""


async def win(guest: Visit, target: Target, answer: Answer) -> None:
    """Bids nothing for whatever is asked, until it has won no job for a while after those that it let down; and then until it wins one again."""
    stream = await guest.greeted()
    await say(stream, target, hello(target))
    first = last = await won(stream, target, answer)
    with trio.move_on_at(trio.current_time() + GAP_S) as gap:
        while True:
            last = await won(stream, target, answer)
            gap.deadline = trio.current_time() + GAP_S
    tell(muted=last - first)
    tell(forgiven=await won(stream, target, answer) - last)


async def won(stream: SafeStream, target: Target, answer: Answer) -> float:
    """Bids until a bid is taken; gives when, by a steady clock."""
    with trio.fail_after(PATIENCE_S):
        while True:
            match await target.ear.message():
                case BidRequest() as asked:
                    await say(stream, target, bid_on(asked, target))
                case Commit() as commit:
                    await say(stream, target, *answer(commit))
                    return time.monotonic()
                case Probe(nonce=nonce, reply=False):
                    await say(stream, target, Probe(nonce, reply=True))


def hello(target: Target) -> Hello:
    """One that takes work."""
    uuid = uuid_of(target.signer.public_key)
    return Hello(PROTOCOL_VERSION, "hostile", time.time_ns() // 1_000_000, uuid, "hostile", (), RICH)


def bid_on(asked: BidRequest, target: Target) -> Bid:
    """The best there could be."""
    until = time.time_ns() // 1_000_000 + 10_000
    id_ = bid_id(asked.request_id, target.signer.peer_id, asked.round)
    return Bid(asked.request_id, asked.round, asked.round, id_, RICH, 1, Price(), 0, until, 10_000)


async def attack_until_muted(guest: Visit, target: Target, attack: Attack) -> float:
    """Attacks on one connection. Gives the seconds it took the victim to close it, from when it could know."""
    began = time.monotonic()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_attack_on, guest, target, attack)
            await guest.yamux.event_closed.wait()
            nursery.cancel_scope.cancel()
    return time.monotonic() - (target.offended_at or began)


async def _attack_on(guest: Visit, target: Target, attack: Attack) -> None:
    while True:
        try:
            await attack(guest, target)
        except (*CLOSED, AssertionError, IndexError):  # a stream was reset, or no greeting came any more
            await trio.lowlevel.checkpoint()


async def knock_until_forgiven(guest: Visit, target: Target) -> tuple[Visit, float]:
    """Connects again and again. Gives the connection on which the victim greets, and the seconds until then."""
    began = time.monotonic()
    with trio.fail_after(PATIENCE_S):
        while True:
            await trio.sleep(KNOCK_S)
            try:
                again = Visit(guest.host, await dial_peer(guest.host.swarm, target.peer, [target.address], 5))
                await again.greeted()
            except (*CLOSED, DialError):
                continue
            return again, time.monotonic() - began


async def play(kind: str, address: str, topic: str) -> None:
    """One attack from its beginning to forgiveness."""
    key = os.urandom(32)
    target = Target(address, topic, key)

    async def act(guest: Visit) -> None:
        tell(ready=0)
        if kind in WINNERS:
            await win(guest, target, WINNERS[kind])
            return
        tell(muted=await attack_until_muted(guest, target, ATTACKS[kind]))
        guest, shut_out_s = await knock_until_forgiven(guest, target)
        if shut_out_s < CLOSED_S:
            await attack_until_muted(guest, target, ATTACKS[kind])
            _, shut_out_s = await knock_until_forgiven(guest, target)
        tell(forgiven=shut_out_s)

    ear = target.ear.serve if kind in LISTENERS else welcome
    await visit(address, act, key, ear, patience_s=3 * PATIENCE_S)


async def play_sybils(address: str, topic: str) -> None:
    """A hundred identities of one source, one after the other, each until it is muted. The slowest mute is told."""
    slowest = 0.0
    tell(ready=0)
    for _ in range(SYBILS):
        key = os.urandom(32)
        target = Target(address, topic, key)

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
    tell(ready=0)

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
AGAINST_PROVIDERS: Final = (*ATTACKS, SYBIL, ECLIPSE)
AGAINST_REQUESTERS: Final = tuple(WINNERS)
KINDS: Final = (*AGAINST_PROVIDERS, *AGAINST_REQUESTERS)
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
