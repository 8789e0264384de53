"""Strangers: where peers are, which of them the owner has let in, and what the others may still cause to be written into the event store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dms_proto.ids import PeerId
from dms_proto.recent import Recent
from dms_proto.reputation.sources import UNKNOWN, source_of
from dms_proto.wire.log_budget import LogBudget, Used

MAX_REMEMBERED: Final = 4_096
"""Peers whose source is remembered, as many authors of gossip and peers that have shown a grant. The oldest go; more than connections, so that who is
there is remembered."""
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
        self._sources: Recent[PeerId, str] = Recent(MAX_REMEMBERED)
        self._heard_by: Recent[PeerId, str] = Recent(MAX_REMEMBERED)
        self._granted: Recent[PeerId, int] = Recent(MAX_REMEMBERED)

    def came(self, peer: PeerId, remote: str) -> None:
        """A peer is connected from the IP address `remote`. Remembered after it has left: what it caused may be written later."""
        self._heard_by.take(peer)
        self._sources.keep(peer, source_of(remote))

    def heard_of(self, author: PeerId, forwarder: PeerId) -> None:
        """`forwarder` has handed on gossip of an author. Until the author connects, it pays with a share of the source that brought it last."""
        if author not in self._sources:
            self._heard_by.keep(author, self.source(forwarder))

    def showed_grant(self, peer: PeerId, until: int) -> bool:
        """A peer has shown a grant that counts here: it is let in `until` then (Unix ms; 0: without end), or until grants are looked at anew.

        True: that was not known.
        """
        is_new = self._granted.get(peer) != (until or NO_END)
        self._granted.keep(peer, until or NO_END)
        return is_new

    def doubt_grants(self) -> tuple[PeerId, ...]:
        """Which grants count has changed: whoever was let in by one shows it again. Gives who was."""
        let_in = tuple(self._granted)
        self._granted = Recent(MAX_REMEMBERED)
        return let_in

    def let_in_until(self, peer: PeerId) -> int:
        """Until when the grant that a peer has shown lets it in, Unix ms; 0: it has shown none."""
        return self._granted.get(peer) or 0

    def is_let_in(self, peer: PeerId, now: int) -> bool:
        """Whether a grant that the peer has shown lets it in at `now` (Unix ms)."""
        return now < self.let_in_until(peer)

    def inherit(self, old: PeerId, new: PeerId) -> None:
        """A peer has a new name: it was let in as before, and its budget is no fuller. Where it is, its connection says."""
        if (until := self._granted.get(old)) is not None:
            self.showed_grant(new, until)
        self._budget.inherit(old, new)

    def source(self, peer: PeerId) -> str:
        """Where a peer is, or was last; `UNKNOWN` for who was never connected, such as the author of gossip."""
        return self._sources.get(peer) or UNKNOWN

    def may_write(self, peer: PeerId, now: int, *, is_named: bool) -> bool:
        """Whether what `peer` says may lead to something written down; always, if the owner has named it."""
        if is_named or self.is_let_in(peer, now):
            return True
        source, is_gossiped = self._paying(peer)
        is_full = self._store_bytes() >= self._most_store_bytes
        return not is_full and self._budget.has_room(peer, source, now, is_gossiped=is_gossiped)

    def wrote(self, peer: PeerId, size_bytes: int, now: int, *, is_named: bool) -> None:
        """So much was written because of `peer`, or will be when what was promised to it ends."""
        if not is_named and not self.is_let_in(peer, now):
            source, is_gossiped = self._paying(peer)
            self._budget.wrote(peer, source, size_bytes, now, is_gossiped=is_gossiped)

    def used(self, now: int) -> Used:
        """What has been used of the log budget; `LogBudget.restore` begins with it."""
        return self._budget.used(now)

    def _paying(self, peer: PeerId) -> tuple[str, bool]:
        """The source that pays for a peer, and whether it only handed on its gossip."""
        by = self._heard_by.get(peer)
        return (self.source(peer), False) if by is None else (by, True)
