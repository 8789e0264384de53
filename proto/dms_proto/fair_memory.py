"""A bounded memory that nobody can push others out of: whoever has most in it makes room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Entry(NamedTuple, Generic[V]):
    owner: str
    group: str
    value: V


class FairMemory(Generic[K, V]):
    """What is remembered for owners that belong to groups: peers, and the sources they come from.

    When it is full, the group with most entries makes room; in it the owner with most; of its entries the oldest goes. So an owner keeps what it
    has as long as others have more. Not shared between threads.
    """

    def __init__(self, most: int) -> None:
        """At most `most` entries, at least 1."""
        self._most = most
        self._found: dict[K, _Entry[V]] = {}
        self._of_group: Counter[str] = Counter()
        self._of_owner: Counter[tuple[str, str]] = Counter()

    def keep(self, key: K, owner: str, group: str, value: V) -> None:
        """Remembers `value` for `owner`, in place of what `key` stood for."""
        self.take(key)
        if len(self._found) >= self._most:
            self.take(self._to_make_room())
        self._found[key] = _Entry(owner, group, value)
        self._of_group[group] += 1
        self._of_owner[group, owner] += 1

    def get(self, key: K) -> V | None:
        """What is remembered; None if nothing is, or not any more."""
        entry = self._found.get(key)
        return entry.value if entry is not None else None

    def take(self, key: K) -> V | None:
        """The same, and it is forgotten."""
        entry = self._found.pop(key, None)
        if entry is None:
            return None
        _count_down(self._of_group, entry.group)
        _count_down(self._of_owner, (entry.group, entry.owner))
        return entry.value

    def __len__(self) -> int:
        return len(self._found)

    def _to_make_room(self) -> K:
        group = max(self._of_group, key=self._of_group.__getitem__)
        owners = {owner: count for (of, owner), count in self._of_owner.items() if of == group}
        owner = max(owners, key=owners.__getitem__)
        return next(key for key, entry in self._found.items() if (entry.group, entry.owner) == (group, owner))


T = TypeVar("T", bound=Hashable)


def _count_down(counts: Counter[T], key: T) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
