"""Ways to spoil bytes and trees of values, for fuzzers. The same `random` gives the same."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Weird = Callable[[Random], Any]
"""Gives a value that should not be where it is put."""


def mutated(random: Random, tree: Any, weird: Weird) -> Any:
    """`tree` with one value somewhere in it changed, dropped, doubled or added."""
    if isinstance(tree, dict) and tree and random.random() < 0.85:
        return _mutated_map(random, tree, weird)
    if isinstance(tree, list) and tree and random.random() < 0.85:
        place = random.randrange(len(tree))
        if random.random() < 0.15:
            return tree * random.choice((2, 40))
        return [*tree[:place], mutated(random, tree[place], weird), *tree[place + 1 :]]
    if isinstance(tree, int) and random.random() < 0.5:
        return tree + random.choice((-1, 1, 2**31, -tree - 1))
    return weird(random)


def _mutated_map(random: Random, tree: dict[str, Any], weird: Weird) -> dict[str, Any]:
    key = random.choice(list(tree))
    choice = random.random()
    if choice < 0.1:
        return {each: value for each, value in tree.items() if each != key}
    if choice < 0.2:
        return {**tree, random.choice(("", "kind", "x" * 50, "новое")): weird(random)}
    return {**tree, key: mutated(random, tree[key], weird)}


def nested(random: Random, value: Any, depths: tuple[int, ...]) -> Any:
    """`value` inside as many lists as one of `depths` says."""
    for _ in range(random.choice(depths)):
        value = [value]
    return value


def flip(random: Random, data: bytes) -> bytes:
    """Some bits turned."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def replace_span(random: Random, data: bytes) -> bytes:
    """A few bytes replaced by others, more or fewer."""
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.choice((1, 2, 5, 40)))
    return data[:start] + random.randbytes(random.choice((end - start, random.randrange(8)))) + data[end:]


def insert(random: Random, data: bytes) -> bytes:
    """Bytes put in somewhere."""
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.choice((1, 4, 60))) + data[place:]


def truncate(random: Random, data: bytes) -> bytes:
    """The beginning."""
    return data[: random.randrange(len(data) + 1)]


def extend(random: Random, data: bytes) -> bytes:
    """More after the end."""
    return data + random.choice((b"\0", data, random.randbytes(random.randrange(1, 3_000))))
