"""What a message costs on the wire: sealing and opening each kind, against bare Ed25519 signatures in the same run.

    python bench/wire.py [--json] [--rounds N]

CPU time of this process, best of five repetitions: on a machine that does other things too, the least disturbed one. Each opened frame is a new
envelope with the default replay window and token buckets, as a node opens it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dms.testing.samples import FULL, LEAST, NOW, PROVIDER, REQUESTER, TOPIC
from dms_proto.ids import MessageId
from dms_proto.messages import GOSSIPED, AllocationMessage, AnyMessage
from dms_proto.wire import (
    Envelope,
    KindClass,
    Limit,
    OpeningContext,
    PeerBuckets,
    ReplayWindow,
    open_frame,
    seal,
    verify,
)

REPETITIONS = 5
UNLIMITED = {kind_class: Limit(10**6, 10**6) for kind_class in KindClass}


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


def open_all_us(frames: list[bytes], topic: str) -> float:
    """Microseconds of CPU per frame to open all, each once."""
    best = float("inf")
    for _ in range(REPETITIONS):
        windows, take = (ReplayWindow(), ReplayWindow()), PeerBuckets(UNLIMITED).take
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
