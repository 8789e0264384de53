"""What a message costs on the wire: sealing and opening each kind, against bare Ed25519 signatures in the same run.

    python bench/wire.py [--json] [--rounds N]

CPU time of this process, best of five repetitions: on a machine that does other things too, the least disturbed one. Each opened frame is a new
envelope with the default replay window and token buckets, as a node opens it.

`checking` is the figure that is promised: what a node does with a frame until it knows that it is served, less the Ed25519 checks in it, which are
made again by themselves beside each frame; the median over many frames, the least of five repetitions.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from statistics import median
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dms.testing.samples import FULL, LEAST, NOW, PROVIDER, REQUESTER, TOPIC
from dms.trust.grant import issue, narrow, read_grant
from dms.trust.statements import read_statements
from dms_proto.grants.access import NOTHING_SHOWN, Access, refusals
from dms_proto.grants.rights import CEILINGS, KINDS, TIME, Rights, uses_of
from dms_proto.grants.trust import Trust
from dms_proto.ids import MessageId
from dms_proto.messages import GOSSIPED, AllocationMessage, AnyMessage
from dms_proto.units import HOUR
from dms_proto.wire import (
    ClassBuckets,
    Envelope,
    KindClass,
    Limit,
    OpeningContext,
    ReplayWindow,
    open_frame,
    seal,
    verify,
)

REPETITIONS = 5
UNLIMITED = {kind_class: Limit(10**6, 10**6) for kind_class in KindClass}
CHAIN = 3
"""Blocks of the grants in `checking`: issued by an anchor, narrowed for a team, bound to who shows it."""
ANCHOR_SEED = b"\x02" * 32
"""The key of the provider in `dms.testing.samples`: who issues the grants."""


class Figure(NamedTuple):
    """One measured kind: bytes of a frame, microseconds of CPU to seal and open it, and both as a multiple of the bare signature."""

    name: str
    frame_bytes: int
    seal_us: float
    open_us: float
    seal_ratio: float
    open_ratio: float


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures the wire.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=500, help="operations per repetition")
    options = parser.parse_args()
    floor, figures = bare_signatures(options.rounds), [measure(*each, options.rounds) for each in samples()]
    if options.json:
        print(json.dumps({"floor": floor, "figures": [figure._asdict() for figure in figures]}, indent=2))
        return 0
    print(
        "bare Ed25519 over 400 bytes, µs of CPU: " + ", ".join(f"{name} {value:.1f}" for name, value in floor.items())
    )
    print(
        f"{'message':28}{'bytes':>8}{'seal µs':>10}{'open µs':>10}{'x sign':>9}{'x verify':>10}   (ratios to the bare signature over as many bytes)"
    )
    for figure in figures:
        print(
            f"{figure.name:28}{figure.frame_bytes:>8,}{figure.seal_us:>10.1f}{figure.open_us:>10.1f}"
            f"{figure.seal_ratio:>9.2f}{figure.open_ratio:>10.2f}"
        )
    print(f"\n{'checked until served':34}{'in all µs':>10}{'Ed25519 checks':>16}{'beyond them µs':>16}")
    for cost in checking(options.rounds):
        print(f"{cost.name:34}{cost.all_us:>10.1f}{cost.checks:>16}{cost.beyond_us:>16.1f}")
    return 0


def bare_signatures(rounds: int) -> dict[str, float]:
    """Microseconds of CPU for signing and verifying 400 bytes, with both libraries."""
    message, openssl = bytes(400), Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    signature, public = REQUESTER.sign(message), openssl.public_key()
    return {
        "libsodium sign": cpu_us(lambda: REQUESTER.sign(message), rounds),
        "libsodium verify": cpu_us(lambda: verify(REQUESTER.public_key, message, signature), rounds),
        "openssl sign": cpu_us(lambda: openssl.sign(message), rounds),
        "openssl verify": cpu_us(lambda: public.verify(signature, message), rounds),
    }


def samples() -> list[tuple[str, AnyMessage]]:
    named: list[tuple[str, AnyMessage]] = []
    for name, messages in (("least", LEAST), ("full", FULL)):
        named += [(f"{type(message).__name__} ({name})", message) for message in messages]
    log = next(each for each in FULL if isinstance(each, AllocationMessage))
    for size in (4, 128):
        piece = AllocationMessage(log.request_id, log.allocation_id, "stdout", 0, bytes(size * 1024))
        named.append((f"AllocationMessage {size} KiB", piece))
    return named


def measure(name: str, message: AnyMessage, rounds: int) -> Figure:
    topic = TOPIC if type(message).__name__ in GOSSIPED else ""
    to = "" if topic else PROVIDER.peer_id

    def sealed(number: int) -> bytes:
        id_ = MessageId(number.to_bytes(16, "big"))
        return seal(REQUESTER, message, id=id_, to=to, topic=topic, sent=NOW, ttl_ms=30_000)

    frames = [sealed(number) for number in range(rounds)]
    bare = frames[0][: -64 - 2]  # about as many bytes as were signed
    signature = REQUESTER.sign(bare)
    seal_us, open_us = cpu_us(lambda: sealed(7), rounds), open_all_us(frames, topic)
    sign_us = cpu_us(lambda: REQUESTER.sign(bare), rounds)
    verify_us = cpu_us(lambda: verify(REQUESTER.public_key, bare, signature), rounds)
    return Figure(name, len(frames[0]), seal_us, open_us, seal_us / sign_us, open_us / verify_us)


class Checking(NamedTuple):
    """What checking a kind of message costs: microseconds in the median, in all and beyond the Ed25519 checks it consists of."""

    name: str
    all_us: float
    beyond_us: float
    checks: int


class Case(NamedTuple):
    """A kind of message, and the grant that each of its frames has. `checks`: Ed25519 checks in it, a grant's over fewer bytes than the frame's."""

    name: str
    message: AnyMessage
    grant: Callable[[int], bytes]
    checks: int


def checking(rounds: int) -> list[Checking]:
    """Each kind without a grant; those that need a right also with a grant of `CHAIN` blocks, seen before and not."""
    cases = list(_cases())
    repeated = [[_timed(case, rounds) for case in cases] for _ in range(REPETITIONS)]
    best = [min(times, key=itemgetter(1)) for times in zip(*repeated, strict=True)]
    return [
        Checking(case.name, all_us, beyond, case.checks) for case, (all_us, beyond) in zip(cases, best, strict=True)
    ]


def _cases() -> Iterator[Case]:
    known = _grant(0)
    for message in FULL:
        kind = type(message)
        yield Case(kind.__name__, message, lambda _number: b"", 1)
        if kind in KINDS:
            yield Case(f"{kind.__name__}, known grant", message, lambda _number: known, 1)
            yield Case(f"{kind.__name__}, new grant", message, _grant, 1 + CHAIN)


def _grant(number: int) -> bytes:
    """A grant in its sent form, another one for each number."""
    wide = Rights(at_most=dict.fromkeys(CEILINGS, 2**48) | {TIME: NOW + HOUR})
    narrower = narrow(issue(ANCHOR_SEED, wide), Rights(at_most={"price": 2**40 + number}))
    return narrow(narrower, Rights(one_of={"peer": (REQUESTER.peer_id,)}))


def _timed(case: Case, rounds: int) -> tuple[float, float]:
    """Median microseconds of checking a frame, and of that without its Ed25519 checks."""
    read_grant.cache_clear()
    read_statements.cache_clear()
    trust = Trust(PROVIDER.peer_id)
    take = ClassBuckets(UNLIMITED).take
    context = OpeningContext(PROVIDER.peer_id, REQUESTER.peer_id, ReplayWindow(), ReplayWindow(), take=take)
    taken: list[int] = []
    beyond: list[int] = []
    for number in range(rounds):
        id_, auth = MessageId(number.to_bytes(16, "big")), case.grant(number)
        frame = seal(REQUESTER, case.message, id=id_, to=PROVIDER.peer_id, sent=NOW, ttl_ms=30_000, auth=auth)
        bare = frame[: -64 - 2]
        steps = [
            partial(_serve, frame, context, trust),
            partial(_verify_alone, bare, REQUESTER.sign(bare), case.checks),
        ]
        turn = number % 2  # who comes second finds warmer caches
        times = {turn: _ns(steps[turn]), 1 - turn: _ns(steps[1 - turn])}
        taken.append(times[0])
        beyond.append(times[0] - times[1])
    return median(taken) / 1_000, median(beyond) / 1_000


def _serve(frame: bytes, context: OpeningContext, trust: Trust) -> None:
    """What a node that serves the authorised alone does with a frame before it acts on it."""
    opened = open_frame(frame, context, NOW)
    assert isinstance(opened, Envelope), opened
    if type(opened.message) in KINDS:
        shown = trust.credential(opened.auth, opened.sender, NOW, read_grant) if opened.auth else NOTHING_SHOWN
        missing = next(refusals(Access.AUTHORISED, uses_of(opened.message), shown), None)
        assert (missing is None) == bool(opened.auth), missing


def _verify_alone(bare: bytes, signature: bytes, times: int) -> None:
    for _ in range(times):
        assert verify(REQUESTER.public_key, bare, signature)


def _ns(action: Callable[[], object]) -> int:
    started = time.perf_counter_ns()
    action()
    return time.perf_counter_ns() - started


def open_all_us(frames: list[bytes], topic: str) -> float:
    """Microseconds of CPU per frame to open all, each once."""
    best = float("inf")
    for _ in range(REPETITIONS):
        windows, take = (ReplayWindow(), ReplayWindow()), ClassBuckets(UNLIMITED).take
        context = OpeningContext(PROVIDER.peer_id, REQUESTER.peer_id, *windows, topic=topic, take=take)
        started = time.process_time_ns()
        opened = [open_frame(frame, context, NOW) for frame in frames]
        best = min(best, (time.process_time_ns() - started) / len(frames) / 1_000)
        assert all(isinstance(each, Envelope) for each in opened)
    return best


def cpu_us(action: Callable[[], object], rounds: int) -> float:
    """Microseconds of CPU for one `action`."""
    best = float("inf")
    for _ in range(REPETITIONS):
        started = time.process_time_ns()
        for _ in range(rounds):
            action()
        best = min(best, (time.process_time_ns() - started) / rounds / 1_000)
    return best


if __name__ == "__main__":
    sys.exit(main())
