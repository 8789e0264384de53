"""Group commit: whatever waits when the writer becomes free goes into one transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from dms.store.migrations import Checkpoint
from dms.store.writer import Draft
from dms_actors.ports import NewEvent, StoredEvent
from dms_proto.errors import DmsError, MachineError

MAX_WAITING: Final = 16_384
"""Appends that wait at once; the next is refused. Each has a caller waiting, so this is reached only when the disk has stopped answering."""
GROUP_EVENTS: Final = 512
"""A transaction takes no further append once it has this many events. Syncing costs as much as about 10 events, so larger groups gain little;
they make the first caller wait for the last, and leave nothing to write while they are answered."""
HANDS: Final = 2
"""Transactions asked for at once: while the callers of one are answered, the thread is already at the next. More would not be faster."""

Stored = Sequence[Sequence[StoredEvent]]
Answer = asyncio.Future[Sequence[StoredEvent]]
Take = Callable[[], Sequence[Draft]]


class Write(Protocol):
    """Writes, on the writer's thread, one transaction of what `take` gives at the moment the thread is free for it."""

    def __call__(self, take: Take) -> Awaitable[Stored]:
        """The events as stored, per draft; raises `DmsError` when nothing was written."""
        ...


class GroupCommit:
    """The queue before the writer. On the event loop, but for `take`. Transactions are in the order of the calls.

    There is a task only while there is something to write, so an idle store costs nothing and a loop that ends finds nothing pending.

    Args:
        write: writes one transaction.
        clock: Unix time in ms, asked when an append is accepted.
        refusal: the error, retryable or not, for an append that is not accepted for this reason.
        checkpoint: told before and after the callers of a transaction are answered.
    """

    def __init__(
        self,
        write: Write,
        clock: Callable[[], int],
        refusal: Callable[[str, bool], MachineError],
        checkpoint: Checkpoint,
    ) -> None:
        self._write = write
        self._checkpoint = checkpoint
        self._clock = clock
        self._refusal = refusal
        self._is_closed = False
        self._pending: deque[tuple[Draft, Answer]] = deque()
        self._hands: set[asyncio.Task[None]] = set()
        self._is_take_due = False  # a transaction was asked for and has not taken what waits yet

    def append(self, events: Sequence[NewEvent]) -> Answer:
        """Queues events, all or none; the answer is them as stored, or the `DmsError` that says why nothing was written.

        Cancelling the answer does not take them back.

        Raises:
            MachineError: they were not accepted.
        """
        if self._is_closed:
            raise self._refusal("it is closed", False)
        if len(self._pending) >= MAX_WAITING:
            raise self._refusal(f"{MAX_WAITING} appends wait to be written already", True)
        answer: Answer = asyncio.get_running_loop().create_future()
        self._pending.append((Draft(events, self._clock()), answer))
        if not self._is_take_due and len(self._hands) < HANDS:
            self._lend_hand()
        return answer

    async def close(self) -> None:
        """Accepts no more, and waits until everything accepted is written and answered. Idempotent."""
        self._is_closed = True
        while self._pending or self._hands:
            if not self._hands:
                self._lend_hand()
            done, _ = await asyncio.wait(self._hands)
            self._hands -= done  # a hand that was cancelled before its first step has not let go by itself

    def _lend_hand(self) -> None:
        self._is_take_due = True
        hand = asyncio.create_task(self._drain(), name="event-store-writer")
        self._hands.add(hand)

    async def _drain(self) -> None:
        hand = asyncio.current_task()
        try:
            while self._pending:
                self._is_take_due = True
                await self._write_waiting()
        finally:
            # Here and not in a done callback, which runs a turn later: an append in between would wait for a hand that is gone.
            self._hands.discard(hand)

    async def _write_waiting(self) -> None:
        batch: list[tuple[Draft, Answer]] = []
        try:
            stored = await self._write(lambda: self._take(batch))
            if not stored:
                return
            self._checkpoint("append_before_ack")
            for (_, answer), events in zip(batch, stored, strict=True):
                if not answer.done():
                    answer.set_result(events)
            self._checkpoint("append_after_ack")
        except DmsError as error:
            _refuse(batch, error)
        finally:
            for _, answer in batch:
                answer.cancel()  # only those a defect or the end of the loop left unanswered

    def _take(self, batch: list[tuple[Draft, Answer]]) -> list[Draft]:
        """Moves what waits into `batch`, until it has `GROUP_EVENTS`. On the writer's thread."""
        # First, so that an append from here on either is taken below or asks anew; the hand looks again in any case when it is done.
        self._is_take_due = False
        events = 0
        while self._pending and events < GROUP_EVENTS:
            taken = self._pending.popleft()
            batch.append(taken)
            events += len(taken[0].events)
        return [draft for draft, _ in batch]


def _refuse(batch: Sequence[tuple[Draft, Answer]], error: DmsError) -> None:
    for _, answer in batch:
        if not answer.done():
            # One of its own for each: an exception raised in several tasks mixes up their tracebacks.
            answer.set_exception(type(error)(error.code, error.message, hint=error.hint, retryable=error.retryable))
