"""A feed: items with growing ids, kept for those who come later or come back. Lives on one asyncio loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Generic, Protocol, TypeVar


class Numbered(Protocol):
    """Anything with an id that grows."""

    @property
    def id(self) -> int:
        """Position in the feed."""
        ...


N = TypeVar("N", bound=Numbered)

KEPT: Final = 4096
"""Items kept. A follower that falls further behind misses the oldest, and sees it by the gap in the ids."""


class Feed(Generic[N]):
    """Hands every item to every follower, in order; never waits for a slow one.

    Args:
        kept: how many items are kept.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._items: deque[N] = deque(maxlen=kept)
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def last(self) -> int:
        """Id of the newest item, 0 before the first."""
        return self._items[-1].id if self._items else 0

    def publish(self, item: N) -> None:
        """Adds an item; its id is greater than the last one's."""
        assert item.id > self.last, f"id {item.id} after {self.last}"
        self._items.append(item)
        self._wake()

    def close(self) -> None:
        """No more items will come; followers end after the last. Idempotent."""
        self._closed = True
        self._wake()

    async def follow(self, since: int = 0) -> AsyncIterator[N]:
        """Items after `since`, those kept first, then as they come, until the feed is closed."""
        while True:
            changed = self._changed
            # A copy per step: while the follower is busy with one item, new ones may push old ones out.
            for item in [item for item in self._items if item.id > since]:
                if item.id > since:
                    since = item.id
                    yield item
            if changed is self._changed:
                if self._closed:
                    return
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
