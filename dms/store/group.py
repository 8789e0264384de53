"""Group commit: whatever waits when the writer becomes free goes into one transaction.

::

    any thread ── append ──▶ waiting ──┐
    any thread ── append ──▶ waiting ──┴─ writer's thread: one transaction ──▶ each is answered, there

Appends come straight from the actors' thread and are answered straight to it: by way of the event loop each would cost two more switches of
threads. `EventStore.append` passes the answers of its callers on to the loop.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from dms.store.migrations import Checkpoint
from dms.store.writer import Append
from dms_actors.ports import NewEvent, StoredEvent
from dms_proto.errors import DmsError, InternalError, MachineError

log = logging.getLogger(__name__)

MAX_WAITING: Final = 16_384
"""Appends that wait at once; the next is refused. Each has a caller waiting, so this is reached only when the disk has stopped answering."""
GROUP_EVENTS: Final = 512
"""A transaction takes no further append once it has this many events. Syncing costs as much as about 10 events, so larger groups gain little;
they make the first caller wait for the last, and leave nothing to write while they are answered."""

Stored = Sequence[StoredEvent]
Answer = Callable[[Stored | DmsError], object]
"""Called once, on the writer's thread, with the events as stored or with why nothing was written."""


class _Waiting(NamedTuple):
    append: Append
    answer: Answer


class GroupCommit:
    """The queue before the writer. Usable from any thread. Transactions are in the order of the calls.

    Args:
        submit: queues a call for the writer's thread.
        write: writes one transaction, on the writer's thread, and gives each append's events as stored; raises `DmsError` when nothing was.
        clock: Unix time in ms, asked when an append is accepted.
        refusal: the error, retryable or not, for an append that is not accepted for this reason.
        checkpoint: told before and after the callers of a transaction are answered.
    """

    def __init__(
        self,
        submit: Callable[[Callable[[], None]], None],
        write: Callable[[Sequence[Append]], Sequence[Stored]],
        clock: Callable[[], int],
        refusal: Callable[[str, bool], MachineError],
        checkpoint: Checkpoint,
    ) -> None:
        self._submit = submit
        self._write = write
        self._clock = clock
        self._refusal = refusal
        self._checkpoint = checkpoint
        self._lock = threading.Lock()
        self._pending: deque[_Waiting] = deque()
        self._is_asked_for = False  # a transaction is queued that has not taken what waits yet
        self._is_closed = False

    def append(self, events: Sequence[NewEvent], answer: Answer) -> None:
        """Queues events, all or none.

        Raises:
            MachineError: they were not accepted; `answer` is not called.
        """
        with self._lock:
            if self._is_closed:
                raise self._refusal("it is closed", False)
            if len(self._pending) >= MAX_WAITING:
                raise self._refusal(f"{MAX_WAITING} appends wait to be written already", True)
            self._pending.append(_Waiting(Append(events, self._clock()), answer))
            if self._is_asked_for:
                return
            # Under the lock: whatever is accepted before `close` has its transaction queued by then, and one that cannot be queued accepts nothing.
            try:
                self._submit(self._transact)
            except MachineError:
                self._pending.pop()
                raise
            self._is_asked_for = True

    def close(self) -> None:
        """Accepts no more. What was accepted is written, a group in each turn of the writer's thread, until nothing `is_waiting`."""
        with self._lock:
            self._is_closed = True

    def is_waiting(self) -> bool:
        """Whether something accepted has not been taken by a transaction yet."""
        with self._lock:
            return bool(self._pending)

    # Below: on the writer's thread.

    def _transact(self) -> None:
        """Writes one group; if more waits, asks for another turn, behind whatever else waits for the thread."""
        group = self._take()
        try:
            stored = self._write([waiting.append for waiting in group])
        except Exception as raised:  # noqa: BLE001 - nobody else would answer those who wait
            error = raised if isinstance(raised, DmsError) else _defect(raised)
            for waiting in group:
                waiting.answer(error.again())
            return
        self._checkpoint("append_before_ack")
        for waiting, events in zip(group, stored, strict=True):
            waiting.answer(events)
        self._checkpoint("append_after_ack")

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        events = 0
        with self._lock:
            while self._pending and events < GROUP_EVENTS:
                group.append(self._pending.popleft())
                events += len(group[-1].append.events)
            self._is_asked_for = bool(self._pending)
        if self._is_asked_for:
            self._submit(self._transact)
        return group


def _defect(error: Exception) -> InternalError:
    log.error("a transaction failed", exc_info=error)
    return InternalError(
        "internal", "the event store failed and cannot say what became of the events; the log says why"
    )
