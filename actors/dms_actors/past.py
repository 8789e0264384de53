"""What was said and heard of allocations that are over, so that it can be said again as it was, and nothing else.

Of a request of ours: the endings it heard, for which a receipt that was lost is given again. Of an allocation here: the ending it told, which is told
once more with a lower price when its debtor is forgiven; only a receipt that answers this says that it was heard.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from dms_actors.draft import Journal
from dms_actors.events import from_row
from dms_actors.world import Post
from dms_proto.accounts.machine import TellForgiven
from dms_proto.allocation.fold import evolve
from dms_proto.allocation.state import Allocation, status_of
from dms_proto.errors import MachineError
from dms_proto.ids import AllocationId, Digest, RequestId
from dms_proto.market.agreement import figures_digest
from dms_proto.market.auction_events import AllocationFinished
from dms_proto.messages import AllocationStatus
from dms_proto.recent import Recent
from dms_proto.wire import Envelope, read_frame
from dms_proto.wire.buckets import Limit, TokenBucket

MAX_KEPT: Final = 16
"""Requests of which it is remembered; the oldest go."""
READING: Final = Limit(per_second=10, burst=50)
"""Requests that are read again for whoever repeats an ending: each takes as long as the request has events."""
TELLING: Final = Limit(per_second=10, burst=50)
"""Allocations that are read again to tell debtors again what they were forgiven: whoever is a debtor can have that done by an IOU."""
MAX_TOLD: Final = 1_024
"""Of what was told so, as much can be answered; the oldest goes, and is told again."""

log = logging.getLogger(__name__)


class Past:
    """One per node actor, on its thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._kept: Recent[RequestId, Mapping[AllocationId, Digest]] = Recent(MAX_KEPT)
        self._reading: TokenBucket | None = None
        self._telling: TokenBucket | None = None
        self._told: Recent[str, AllocationId] = Recent(MAX_TOLD)

    def is_as_heard(self, status: AllocationStatus, now: int) -> bool | None:
        """Whether a request of ours heard this ending; None: it cannot be looked up now (Unix ms), and will be told again."""
        heard = self._kept.get(status.request_id)
        if heard is None:
            heard = self._read(status.request_id, now)
        return None if heard is None else heard.get(status.allocation_id) == figures_digest(status)

    def tell_forgiven(self, told: TellForgiven, post: Post, cause_id: str) -> None:
        """Tells a debtor what it is forgiven. What is told again, and cannot be looked up now, is told once more with what comes next."""
        if told.again_at and not self._may_tell(told.again_at):
            return
        ended = self._ending_of(told.allocation_id)
        frame = post.send(told.peer, replace(ended, price=told.price), cause_id) if ended is not None else b""
        if isinstance(sent := read_frame(frame), Envelope):
            self._told.keep(sent.id.hex(), told.allocation_id)

    def was_told(self, allocation_id: AllocationId, by: str) -> bool:
        """Whether the message with the id `by` has told a debtor what it is forgiven for an allocation."""
        return self._told.get(by) == allocation_id

    def _ending_of(self, allocation_id: AllocationId) -> AllocationStatus | None:
        """What was told of the end of an allocation that ran here; None: it has not ended, or cannot be read."""
        try:
            events = [from_row(row) for row in self._journal.read_stream(allocation_id)]
        except MachineError as error:
            log.warning("an ending is not told again: %s cannot be read: %s", allocation_id, error)
            return None
        ended = status_of(functools.reduce(evolve, events, Allocation())) if events else None
        return ended if ended is not None and ended.ending is not None else None

    def _may_tell(self, now: int) -> bool:
        if self._telling is None:
            self._telling = TokenBucket(TELLING, now)
        return self._telling.take(now)

    def _read(self, request_id: RequestId, now: int) -> Mapping[AllocationId, Digest] | None:
        if self._reading is None:
            self._reading = TokenBucket(READING, now)
        if not self._reading.take(now):
            return None
        try:
            rows = [r for r in self._journal.read_stream(request_id) if r.kind == AllocationFinished.__name__]
            events = [from_row(row) for row in rows]
        except MachineError as error:
            log.warning("an ending is not confirmed again: %s cannot be read: %s", request_id, error)
            return None
        statuses = [event.status for event in events if isinstance(event, AllocationFinished)]
        heard = {status.allocation_id: figures_digest(status) for status in statuses}
        if heard:  # what strangers invent takes no place
            self._kept.keep(request_id, heard)
        return heard
