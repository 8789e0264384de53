"""Asking: when a round of a request goes out. Pure: the time comes in.

A round goes out when it is its request's turn to seek (`market.seekers`), and no faster than others take it.

Every node judges, answers and writes down each bid request it gets, and takes only so many of one peer (`wire.buckets`); one that asks faster is
muted. A round goes to a node at most once, so keeping all rounds below what one node takes keeps each of them there. Those beyond wait their turn:
the time for bids begins when a round has gone out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from dms_actors.letters import AnnounceWanted
from dms_proto.ids import RequestId
from dms_proto.market.seekers import Seekers
from dms_proto.wire.buckets import DEFAULT_LIMITS, KindClass, Limit, TokenBucket

TAKEN: Final = DEFAULT_LIMITS[KindClass.REQUEST]
PACE: Final = Limit(TAKEN.per_second * 4 // 5, TAKEN.burst * 4 // 5)
"""What this node asks at most: less than is taken, since the way there bunches what was sent apart."""
PAUSE_MS: Final = 20
"""After so long it is seen whether more may go out."""


class Asking:
    """The rounds that wait to go out; of each request the newest. One per node actor."""

    def __init__(self, now: int, seekers: Seekers, pace: Limit = PACE) -> None:
        """`now` in Unix ms."""
        self._bucket = TokenBucket(pace, now)
        self._seekers = seekers
        self._early: dict[RequestId, AnnounceWanted] = {}
        """Whose turn has not come."""
        self._waiting: dict[RequestId, AnnounceWanted] = {}
        self._next_at: int | None = None

    def want(self, wanted: AnnounceWanted) -> int | None:
        """A round is to go out; one of the same request that still waits gives it its place.

        Returns how many of this node's requests are before it, if its turn has not come.
        """
        ahead = self._seekers.ahead(wanted.request.request_id)
        (self._waiting if ahead is None else self._early)[wanted.request.request_id] = wanted
        return ahead

    def begin(self, request_ids: Iterable[RequestId]) -> None:
        """It is the turn of these requests. A round of theirs that is not wanted yet will not wait."""
        self._waiting |= {id_: self._early.pop(id_) for id_ in request_ids if id_ in self._early}

    def forget(self, request_id: RequestId) -> None:
        """A request is over."""
        self._early.pop(request_id, None)
        self._waiting.pop(request_id, None)

    def due(self, now: int) -> Iterator[AnnounceWanted]:
        """Those that may go out now, oldest first. They wait no longer."""
        while self._waiting and self._bucket.take(now):
            yield self._waiting.pop(next(iter(self._waiting)))
        self._next_at = now + PAUSE_MS if self._waiting else None

    def deadline(self) -> int | None:
        """When more may go out (Unix ms); None while nothing waits."""
        return self._next_at
