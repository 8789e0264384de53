"""Throws mutated frames at `open_frame`, which must turn each into an `Envelope` or a `RefusedFrame` and never raise.

    python scripts/fuzz_wire.py --frames 1000000 --seed 1

The frames begin as valid ones, two of each kind. Half the mutations change bytes of the frame: those must be refused, since the signature covers
everything. The other half changes an envelope field, a value somewhere in the body, or bytes of either, and signs again, so that what stands behind
the signature is reached too; what is accepted of those must encode to a frame that says the same. The same seed gives the same frames.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from dms.testing.mutations import extend, flip, insert, mutated, nested, replace_span, truncate
from dms.testing.samples import FULL, LEAST, NOW, PROVIDER, REQUESTER, TOPIC
from dms_proto.ids import MessageId
from dms_proto.messages import GOSSIPED, KINDS
from dms_proto.wire import Envelope, OpeningContext, RefusedFrame, ReplayWindow, Signer, encoding, open_frame, seal
from dms_proto.wire.envelope import DOMAIN

WEIRD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 127, 128, 2**31, 2**53, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 0.5, float("nan"), float("inf"),
    "", "x", "\0", "é" * 40, "../..", "r-" + "a" * 26, "x" * 40_000, b"", b"\0" * 16, b"\xff" * 32, b"\x91" * 3_000,
    [], {}, [[]], [{}] * 50, {"": ""}, {"kind": "Probe"}, list(range(300)), {str(n): n for n in range(300)},
)  # fmt: skip
HEADERS: tuple[bytes, ...] = (
    b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01", b"\xc7\x00\x01", b"\xd4\x01\x00", b"\xd6\xff\x00\x00\x00\x00", b"\xc1",
    b"\xcf" + b"\xff" * 8, b"\xd3\x80" + b"\0" * 7,
    b"\xcb\x7f\xf8" + b"\0" * 6, b"\xa1\xff", b"\x91" * 1_500, b"\x81" * 600, b"\x82\xa1a\x01\xa1a\x01", b"\xcd\x00\x01", b"\xd9\x01a",
)  # fmt: skip

GENERATION = 20_000
"""Frames between fresh replay windows; the sending time grows by a second in one, which all stays in time."""


class Report(NamedTuple):
    """What a run saw: outcomes by name, frames a second, the slowest frame in ms of CPU, growth of the process in MiB."""

    outcomes: Counter[str]
    per_second: float
    slowest_ms: float
    grown_mib: float


class Base(NamedTuple):
    """A valid frame and its parts."""

    frame: bytes
    data: bytes
    elements: list[Any]
    body: dict[str, Any]
    is_gossip: bool


class UnsoundError(Exception):
    """A frame was accepted that should not have been, or means something else when said again."""


def fuzz(frames: int, seed: int) -> Report:
    """Opens `frames` mutated frames.

    Raises:
        UnsoundError: an accepted frame is not what was signed.
    """
    random, bases, outcomes, slowest = Random(seed), base_frames(), Counter[str](), 0.0
    memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    originals = {base.frame for base in bases}
    for number in range(frames):
        if number % GENERATION == 0:
            for_damaged, for_resigned = new_contexts(), new_contexts()
        base = random.choice(bases)
        is_resigned = random.random() < 0.5
        frame = resigned(random, base, NOW + number % GENERATION // 20) if is_resigned else damaged(random, base, bases)
        contexts = for_resigned if is_resigned else for_damaged
        context = contexts[base.is_gossip if random.random() < 0.95 else random.randrange(2)]
        before = time.thread_time()  # CPU, not wall: another process's turn is not a slow frame
        opened = open_frame(frame, context, NOW + 1_000)
        slowest = max(slowest, time.thread_time() - before)
        outcomes[judge(opened, is_resigned=is_resigned, is_original=frame in originals)] += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    return Report(outcomes, frames / (time.perf_counter() - started), slowest * 1_000, grown)


def base_frames() -> list[Base]:
    found = []
    for number, message in enumerate((*LEAST, *FULL)):
        where = {"topic": TOPIC} if type(message).__name__ in GOSSIPED else {"to": PROVIDER.peer_id}
        frame = seal(REQUESTER, message, id=MessageId(bytes([number]) * 16), sent=NOW, ttl_ms=30_000, **where)
        data = encoding.unpack(frame)[0]
        elements = encoding.unpack(data)
        found.append(Base(frame, data, elements, encoding.unpack(elements[9]), bool(elements[5])))
    return found


def new_contexts() -> list[OpeningContext]:
    """A stream and a topic, with windows small enough to overflow."""
    windows = ReplayWindow(per_sender=256), ReplayWindow(per_sender=256)
    me, via = PROVIDER.peer_id, REQUESTER.peer_id
    stream = OpeningContext(me, via, *windows, topics=frozenset({TOPIC}))
    return [stream, OpeningContext(me, via, *windows, topic=TOPIC)]


def judge(opened: Envelope | RefusedFrame, *, is_resigned: bool, is_original: bool) -> str:
    if isinstance(opened, RefusedFrame):
        if not opened.detail.isprintable() or len(opened.detail) > 200:
            raise UnsoundError(f"an explanation that is not fit to log: {opened!r}")
        return opened.code.value
    if not is_resigned and not is_original:
        raise UnsoundError(f"a frame was changed and still accepted: {opened!r}")
    again = encoding.decode_body(opened.kind, encoding.encode_body(opened.message))
    if again != opened.message:
        raise UnsoundError(f"said again it means something else: {opened!r}")
    return "accepted"


# ---------------------------------------------------------------------------------------------------------------- mutations


def damaged(random: Random, base: Base, bases: list[Base]) -> bytes:
    """The frame with some bytes changed, as a bad line or a clumsy attacker would."""
    frame = random.choice(MUTATIONS)(random, base.frame)
    if random.random() < 0.05:
        other = random.choice(bases).frame
        cut = random.randrange(len(frame) + 1)
        frame = frame[:cut] + other[random.randrange(len(other)) :]
    return frame


def resigned(random: Random, base: Base, sent: int) -> bytes:
    """Something else, well signed, as a peer that means harm would."""
    choice = random.random()
    if choice < 0.25:
        data = random.choice(MUTATIONS)(random, base.data)
    else:
        # Fresh, and sent later than the one before: else nearly all would end at the replay window.
        elements = list(base.elements)
        elements[1], elements[7] = random.randbytes(16), sent
        if choice < 0.45:
            elements[random.randrange(len(elements))] = weird(random)
        elif choice < 0.6:
            elements[9] = random.choice(MUTATIONS)(random, elements[9])
        elif choice < 0.95:
            elements[9] = pack(mutated(random, base.body, weird))
        elif choice < 0.98:
            elements[2] = random.choice(list(KINDS))
        else:
            elements[7], elements[8] = (moment + random.choice((-(10**6), 10**6)) for moment in elements[7:9])
        signer = PROVIDER if random.random() < 0.03 else REQUESTER
        elements[3] = signer.public_key if elements[3] == REQUESTER.public_key else elements[3]
        return signed(pack(elements), signer)
    return signed(data, REQUESTER)


def signed(data: bytes, signer: Signer) -> bytes:
    return encoding.pack((data, signer.sign(DOMAIN + data)))


def weird(random: Random) -> Any:
    value = random.choice(WEIRD)
    return nested(random, value, (10, 300, 505)) if random.random() < 0.02 else value


def pack(tree: Any) -> bytes:
    packed: bytes = msgpack.packb(tree, use_bin_type=True)
    return packed


def header(random: Random, data: bytes) -> bytes:
    """An announced length, level or type that is not there, somewhere."""
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(HEADERS) + data[place + random.choice((0, 1, 5)) :]


MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (
    flip,
    flip,
    flip,
    replace_span,
    insert,
    truncate,
    extend,
    header,
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Throws mutated frames at the wire.")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    report = fuzz(options.frames, options.seed)
    for name, count in report.outcomes.most_common():
        print(f"{name:16}{count:>10,}")
    print(
        f"{options.frames:,} frames with seed {options.seed}: {report.per_second:,.0f} a second, "
        f"the slowest {report.slowest_ms:.1f} ms of CPU, memory grew by {report.grown_mib:.1f} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
