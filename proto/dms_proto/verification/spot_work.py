"""The work of a spot check: a chain of hashes and modular powers from a secret seed, so that nobody can begin it earlier or share it out.

Each round hashes and multiplies on what the one before gave. The parts give the same bytes on every machine, and are as much of each as the reference
core does in the same time. Whoever has a shortcut for one of them gains a third at most. A score is how many such rounds a core does: the benchmark
times the round itself, so what a check finds is what was claimed, whatever the machine is good at.

The requester does the same work to know the answer: `PROGRAM` is what both run.
"""

from __future__ import annotations

import hashlib
from typing import Final

from dms_proto.capability import Resources
from dms_proto.ids import Digest, digest_of
from dms_proto.units import CORE, MIB, SECOND
from dms_proto.work import Limits, Task

EXECUTOR: Final = "sandbox"
"""Where a spot check runs: the one executor that runs what the machine has, as the benchmark does."""
ROUND: Final = """\
import hashlib

def a_round(state):
    for _ in range(7):
        state = hashlib.sha256(state * 32768).digest()
    for _ in range(4):
        state = hashlib.sha512(state * 32768).digest()[:32]
    number = (1 << 2000) + int.from_bytes(state, "big")
    for _ in range(24):
        number = pow(number, 196611, (1 << 2047) + 1234567)
    return hashlib.sha256(number.to_bytes(256, "big")).digest()
"""
"""One step of the chain: 32 bytes give the next 32. The benchmark runs this text too."""
PROGRAM: Final = f"""\
{ROUND}
import sys
state = bytes.fromhex(sys.argv[1])
for _ in range(int(sys.argv[2])):
    state = a_round(state)
print(state.hex())
"""
"""Python of any 3.x, with nothing but its standard library: arguments are the seed in hex and the number of rounds."""
ROUND_US: Final = 12_100
"""What a round takes on the reference core, in microseconds: 7 and 4 MiB of hashing, 24 powers, and 3 % for making the blocks."""
TARGET_MS: Final = 4 * SECOND
"""What a check takes on a machine that is as fast as it claims: long beside the way there and back and the start of a sandbox."""
MOST_ROUNDS: Final = 1_000
"""For a claim of three times the reference core and more, whose check is shorter; bounds what the requester has to work out."""
WALL_MS: Final = 5 * TARGET_MS
"""A machine five times slower than it claims is stopped."""
RESOURCES: Final = Resources(cpu_millicores=CORE, memory_bytes=128 * MIB)


def rounds_for(claimed: int) -> int:
    """How many rounds take `TARGET_MS` at a score, thousandths of the reference core."""
    return max(1, min(MOST_ROUNDS, TARGET_MS * claimed // ROUND_US))


def score_in(rounds: int, elapsed_ms: int) -> int:
    """The score of a core that did so many rounds in a time."""
    return rounds * ROUND_US // max(1, elapsed_ms)


def arguments(seed: bytes, rounds: int) -> tuple[str, ...]:
    """What follows the name of the Python that works it out."""
    return ("-I", "-S", "-c", PROGRAM, hashlib.sha256(seed).hexdigest(), str(rounds))


def task(seed: bytes, rounds: int) -> Task:
    """What the provider is asked to run."""
    command = ("python3", *arguments(seed, rounds))
    return Task(EXECUTOR, command, resources=RESOURCES, limits=Limits(wall_ms=WALL_MS, log_bytes=MIB, processes=16))


def answer_in(printed: bytes) -> Digest:
    """What a provider that did the work says of its standard output."""
    return digest_of(printed)
