"""Strangers: where peers are, which of them the owner has let in, and what the others may still cause to be written into the event store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms_proto.ids import PeerId
from dms_proto.recent import Recent
from dms_proto.reputation.sources import UNKNOWN, source_of
from dms_proto.units import SECOND
from dms_proto.wire.log_budget import LogBudget

MAX_REMEMBERED: Final = 4_096
"""Peers whose source is remembered, and as many that have shown a grant; the oldest go. More than connections, so that who is there is remembered."""
NO_END: Final = 2**63


class Strangers:
    """One per node; lives on the actors' thread."""

    def __init__(
        self,
        budget: LogBudget | None = None,
        *,
        store_bytes: Callable[[], int] = lambda: 0,
        most_store_bytes: int = NO_END,
    ) -> None:
        """`store_bytes` tells how long the event store is; from `most_store_bytes` on strangers make it no longer."""
        self._budget = LogBudget() if budget is None else budget  # one that has metered nothing yet is empty
        self._store_bytes = store_bytes
        self._most_store_bytes = most_store_bytes
        self._looked_at, self._was_full = -SECOND, False
        self._sources: Recent[PeerId, str] = Recent(MAX_REMEMBERED)
        self._granted: Recent[PeerId, None] = Recent(MAX_REMEMBERED)

    def came(self, peer: PeerId, remote: str) -> None:
        """A peer is connected from the IP address `remote`. Remembered after it has left: what it caused may be written later."""
        self._sources.keep(peer, source_of(remote))

    def showed_grant(self, peer: PeerId) -> None:
        """A peer has shown a grant that counts here: it was let in."""
        self._granted.keep(peer, None)

    def inherit(self, old: PeerId, new: PeerId) -> None:
        """A peer has a new name: it was let in as before, and its budget is no fuller. Where it is, its connection says."""
        if old in self._granted:
            self.showed_grant(new)
        self._budget.inherit(old, new)

    def source(self, peer: PeerId) -> str:
        """Where a peer is, or was last; `UNKNOWN` for who was never connected, such as the author of gossip."""
        return self._sources.get(peer) or UNKNOWN

    def may_write(self, peer: PeerId, now: int, *, is_named: bool) -> bool:
        """Whether what `peer` says may lead to something written down; always, if the owner has named it."""
        if is_named or peer in self._granted:
            return True
        return not self._is_log_full(now) and self._budget.has_room(peer, self.source(peer), now)

    def wrote(self, peer: PeerId, size_bytes: int, now: int, *, is_named: bool) -> None:
        """So much was written because of `peer`, or will be when what was promised to it ends."""
        if not is_named and peer not in self._granted:
            self._budget.wrote(peer, self.source(peer), size_bytes, now)

    def _is_log_full(self, now: int) -> bool:
        """Looked at once a second: it takes longer than all other questions."""
        if not self._looked_at <= now < self._looked_at + SECOND:
            self._looked_at, self._was_full = now, self._store_bytes() >= self._most_store_bytes
        return self._was_full
