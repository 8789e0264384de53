"""What a behaviour wants to be written down before anything of it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dms_actors.ports import NewEvent, StoredEvent
from dms_proto.promises import WRITTEN_FIRST


class Journal(Protocol):
    """The event store as an actor uses it, without a loop."""

    def append(self, events: Sequence[NewEvent]) -> None:
        """Returns when they are durable, or raises MachineError and nothing was written."""
        ...

    def append_soon(self, events: Sequence[NewEvent]) -> None:
        """Queues events no promise rests on, in order with the others. Raises MachineError when the log takes none now."""
        ...

    def read_stream(self, stream: str, *, since: str = "") -> Sequence[StoredEvent]:
        """The events of one stream; with `since`, from the last event of this kind on."""
        ...


class Draft(Protocol):
    """What a batch leads to, as long as it is not written down: exactly one of `written` and `refused` is called."""

    journal: Journal
    rows: Sequence[NewEvent]

    def written(self) -> Sequence[object]:
        """It is in the log: performs the effects, gives the answers."""
        ...

    def refused(self, error: Exception) -> Sequence[object]:
        """It is not, and nothing of it has happened: the states are again as before; gives the answers."""
        ...


def write(journal: Journal, rows: Sequence[NewEvent]) -> None:
    """Writes events in one transaction, as durably as the most important of them demands.

    Raises:
        MachineError: nothing was written.
        InternalError: nobody knows whether it was.
        UserError: nothing was written: an event breaks a rule of the log.
    """
    if any(row.kind in WRITTEN_FIRST for row in rows):
        journal.append(rows)
    elif rows:
        journal.append_soon(rows)
