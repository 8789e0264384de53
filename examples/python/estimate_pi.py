"""Estimates pi on machines of the market: `python examples/python/estimate_pi.py`, beside a running node."""

from __future__ import annotations

import random
import sys

from dms.client import Market


def hits(seed: int, throws: int = 200_000) -> int:
    """How many of so many throws at a square hit the circle in it."""
    throw = random.Random(seed).random
    return sum(throw() ** 2 + throw() ** 2 < 1 for _ in range(throws))


def main(pieces: int = 20) -> None:
    with Market().executor(workers=2, memory="64MiB", disk="16MiB", cpu=0.5) as executor:
        done = list(executor.map(hits, range(pieces)))
    print(f"pi is about {4 * sum(done) / (200_000 * pieces):.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
