"""Chance from a seed: nobody who lacks the seed can foresee it, and whoever has it can do it over."""

from __future__ import annotations

import hashlib

_BYTES = 8
_HALF_BITS = 7
_ROUNDS = 4


def drawn(seed: bytes, *names: object) -> bytes:
    """32 bytes that follow from `seed` for one purpose: an id, another seed, a draw. Another purpose, by its `names`, gets others."""
    return hashlib.sha256(b"\0".join((seed, *(str(name).encode() for name in names)))).digest()


def is_drawn(seed: bytes, one_in: int, *names: object) -> bool:
    """Whether something that happens once in `one_in` times (at least 1) happens this time.

    Args:
        seed: secret of the requester, drawn once for a request: a provider that knew it would know when it is not checked.
        one_in: how rarely.
        names: what the draw is for; another purpose is another draw.
    """
    return int.from_bytes(drawn(seed, *names)[:_BYTES], "big") * one_in < 1 << 8 * _BYTES


def shuffled(seed: bytes, number: int, below: int) -> int:
    """Where `number` (from 0, less than `below`) comes to lie when all numbers are shuffled. `below`: at most 2**14.

    A Feistel network over the next power of two, walked until it comes out in range: a permutation that needs no table.
    """
    while True:
        left, right = divmod(number, 1 << _HALF_BITS)
        for turn in range(_ROUNDS):
            digest = hashlib.sha256(b"\0".join((seed, b"shuffle", bytes((turn, right))))).digest()
            left, right = right, left ^ digest[0] >> 8 - _HALF_BITS
        number = left << _HALF_BITS | right
        if number < below:
            return number
