"""A bounded memory in which the newest stay."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """What was kept last: past `most` entries the oldest goes. Where others must not be pushed out: `FairMemory`. Not shared between threads."""

    def __init__(self, most: int) -> None:
        """At most `most` entries, at least 1."""
        self._most = most
        self._kept: dict[K, V] = {}

    def keep(self, key: K, value: V) -> None:
        """Remembers `value` as the newest, in place of what `key` stood for."""
        self._kept.pop(key, None)
        if len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = value

    def get(self, key: K) -> V | None:
        """What is remembered; None if nothing is, or not any more."""
        return self._kept.get(key)

    def take(self, key: K) -> V | None:
        """The same, and it is forgotten."""
        return self._kept.pop(key, None)

    def __iter__(self) -> Iterator[K]:
        return iter(self._kept)

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)
