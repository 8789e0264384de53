"""Who pays the log budget for what the node writes down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dms_actors.events import from_row, is_stored
from dms_actors.ports import NewEvent, StoredEvent
from dms_actors.strangers import Strangers
from dms_proto.errors import MachineError
from dms_proto.ids import PeerId
from dms_proto.log_costs import CONNECTION_BYTES, payer, to_follow
from dms_proto.machine import Event
from dms_proto.wire.log_budget import ROW_BYTES


class Meter:
    """Asks before somebody is heard, and charges afterwards; nobody else does. One per node actor; lives on its thread.

    Args:
        strangers: what each has left.
        is_named: whether the owner has named a peer: an own machine, an anchor, one with a credit limit of its own. It is not metered.
    """

    def __init__(self, strangers: Strangers, is_named: Callable[[PeerId], bool]) -> None:
        self._strangers = strangers
        self._is_named = is_named

    def may_write(self, peer: PeerId, now: int) -> bool:
        """Whether what `peer` says may lead to something written down."""
        return self._strangers.may_write(peer, now, is_named=self._is_named(peer))

    def decided(self, events: Sequence[Event], rows: Sequence[NewEvent], now: int) -> None:
        """Charges each event of a decision, written down as `rows`, to whom it is owed to, with what will follow from it."""
        for event, row in zip(filter(is_stored, events), rows, strict=True):
            if (peer := payer(event)) is not None:
                self._wrote(peer, len(row.body) + ROW_BYTES + to_follow(event), now)

    def kept(self, peer: PeerId, rows: Iterable[NewEvent], now: int) -> None:
        """Charges `peer` for all of `rows`."""
        self._wrote(peer, sum(len(row.body) + ROW_BYTES for row in rows), now)

    def heard(self, peer: PeerId, frame: bytes, now: int) -> None:
        """Charges `peer` for its message in `frame`: it, or as much, is written down."""
        self._wrote(peer, len(frame) + ROW_BYTES, now)

    def came(self, peer: PeerId, allocations: int, now: int) -> None:
        """Charges `peer` for having come, which each of its `allocations` here writes down as well."""
        self._wrote(peer, CONNECTION_BYTES * (1 + allocations), now)

    def _wrote(self, peer: PeerId, size_bytes: int, now: int) -> None:
        self._strangers.wrote(peer, size_bytes, now, is_named=self._is_named(peer))


def owed(row: StoredEvent) -> tuple[PeerId | None, int]:
    """Who paid for an event of the log, and how many bytes. None: what somebody paid before, the owner's doing, or an event that cannot be read."""
    size_bytes = len(row.body) + ROW_BYTES
    try:
        event = from_row(row)
    except MachineError:
        return None, size_bytes
    return payer(event), size_bytes + to_follow(event)
