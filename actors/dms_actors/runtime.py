"""Actors on threads, and the one place where they meet the asyncio loop.

actor -> loop   `LoopJournal.append` waits for a coroutine; everything else is `loop.call_soon_threadsafe`, which does not wait
loop -> actor   `Address.tell`, which does not wait; `ask` from the loop is `ask_from_loop`, which awaits without blocking the loop

Only immutable values cross. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import pykka

from dms_actors.behaviour import Address, Behaviour
from dms_actors.mailbox import CAPACITY, Batch, Mailbox
from dms_actors.ports import EventLog, NewEvent, StoredEvent
from dms_actors.supervisor import FailureRecord
from dms_proto.errors import InternalError, MachineError

log = logging.getLogger(__name__)

APPEND_TIMEOUT: Final = 30.0
"""Seconds the event log may take. Longer means that the disk has failed without an error."""
STOP_TIMEOUT: Final = 5.0
SOON_S: Final = 0.01
"""Seconds for which events are gathered on which no promise rests."""


class ThreadRuntime:
    """Runs each behaviour on a thread of its own, through pykka."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._actors: list[_Host] = []

    def spawn(
        self,
        name: str,
        build: Callable[[], Behaviour],
        failed: Callable[[str], None] | None = None,
        capacity: int = CAPACITY,
    ) -> Address:
        """Starts an actor. It starts itself on its own thread; messages told meanwhile wait."""
        reference = _Host.start(self, name, build, failed, capacity)
        return ThreadAddress(name, reference)

    def stop_all(self, timeout: float = STOP_TIMEOUT) -> None:
        """Ends what still runs, youngest first, each with a deadline."""
        with self._lock:
            actors = list(reversed(self._actors))
        for actor in actors:
            try:
                actor.actor_ref.stop(block=True, timeout=timeout)
            except pykka.Timeout:
                log.error("actor %s did not end within %s s", actor.name, timeout)

    def refused(self) -> int:
        """Messages refused by full mailboxes of actors alive now."""
        with self._lock:
            return sum(actor.mailbox.refused for actor in self._actors)

    def names(self) -> tuple[str, ...]:
        """The actors alive now, oldest first."""
        with self._lock:
            return tuple(actor.name for actor in self._actors)

    def _entered(self, actor: _Host) -> None:
        with self._lock:
            self._actors.append(actor)

    def _left(self, actor: _Host) -> None:
        with self._lock:
            if actor in self._actors:
                self._actors.remove(actor)


class ThreadAddress:
    """The address of an actor on a thread."""

    def __init__(self, name: str, reference: pykka.ActorRef[_Host]) -> None:
        self.name = name
        self._reference = reference
        inbox: Any = reference.actor_inbox
        self._mailbox: Mailbox = inbox

    def tell(self, message: object) -> bool:
        """See `Address.tell`."""
        return self._reference.is_alive() and self._mailbox.offer(_Letter(message))

    def ask(self, message: object, timeout: float) -> Any:
        """See `Address.ask`."""
        try:
            return self._reference.ask(message, timeout=timeout)
        except pykka.Timeout:
            raise InternalError("internal", f"{self.name} did not answer within {timeout} s", retryable=True) from None
        except pykka.ActorDeadError:
            raise _has_ended(self.name) from None

    def stop(self) -> None:
        """See `Address.stop`."""
        self._reference.stop(block=False)


async def ask_from_loop(address: Address, message: object, timeout: float) -> Any:  # noqa: ASYNC109 - as `Address.ask`
    """Asks an actor from the asyncio loop without blocking it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(result: object) -> None:
        if not answer.done():
            if isinstance(result, BaseException):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    reply = _LoopReply(lambda result: loop.call_soon_threadsafe(settle, result))
    if isinstance(address, ThreadAddress):
        if not address._reference.is_alive():
            raise _has_ended(address.name)
        if not address._mailbox.offer(_Letter(message, reply)):
            raise InternalError("mailbox_full", f"{address.name} has too many messages waiting", retryable=True)
    else:
        settle(address.ask(message, timeout))
    try:
        return await asyncio.wait_for(answer, timeout)
    except TimeoutError:
        raise InternalError("internal", f"{address.name} did not answer within {timeout} s", retryable=True) from None


def _has_ended(name: str) -> InternalError:
    return InternalError("internal", f"{name} has ended", retryable=True)


class _Letter:
    """A message on its way: what pykka calls an envelope."""

    __slots__ = ("message", "reply_to")

    def __init__(self, message: object, reply_to: Any = None) -> None:
        self.message = message
        self.reply_to = reply_to


class _LoopReply:
    """Answers a question that came from the loop."""

    def __init__(self, settle: Callable[[object], object]) -> None:
        self._settle = settle

    def set(self, value: object) -> None:
        self._settle(value)

    def set_exception(self, exc_info: Any = None) -> None:
        import sys  # noqa: PLC0415 - as pykka does: the exception being handled

        error = exc_info[1] if exc_info else sys.exc_info()[1]
        self._settle(error or InternalError("internal", "the actor has ended"))


class _Host(pykka.ThreadingActor):
    """One behaviour on one thread, restarted by policy when it raises."""

    use_daemon_thread = True

    def __init__(
        self,
        runtime: ThreadRuntime,
        name: str,
        build: Callable[[], Behaviour],
        failed: Callable[[str], None] | None,
        capacity: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.mailbox.capacity = capacity
        self._runtime = runtime
        self._build = build
        self._failed = failed
        self._behaviour: Behaviour | None = None
        self._record = FailureRecord()
        runtime._entered(self)

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Mailbox()

    @property
    def mailbox(self) -> Mailbox:
        """The inbox, by its own type."""
        inbox: Any = self.actor_inbox
        assert isinstance(inbox, Mailbox)
        return inbox

    def on_start(self) -> None:
        threading.current_thread().name = self.name
        self._guarded(self._begin)

    def on_receive(self, message: Any) -> None:
        assert isinstance(message, Batch)
        if self._behaviour is not None:
            self._guarded(lambda: self._handle(message), message)

    def on_stop(self) -> None:
        self._runtime._left(self)
        for letter in self.mailbox.drain():
            if letter.reply_to is not None:
                _reply(letter.reply_to, _has_ended(self.name))
        if self._behaviour is not None:
            self._behaviour.stop()

    def _begin(self) -> None:
        behaviour = self._build()
        behaviour.start(ThreadAddress(self.name, self.actor_ref), self._runtime.clock())
        self._behaviour = behaviour
        self._arm(behaviour)

    def _handle(self, batch: Batch) -> None:
        assert self._behaviour is not None
        answers = self._behaviour.receive([letter.message for letter in batch.envelopes], self._runtime.clock())
        for letter, answer in zip(batch.envelopes, answers, strict=True):
            if letter.reply_to is not None:
                _reply(letter.reply_to, answer)
        self._arm(self._behaviour)

    def _arm(self, behaviour: Behaviour) -> None:
        deadline = behaviour.deadline()
        self.mailbox.arm(None if deadline is None else max(deadline - self._runtime.clock(), 0))

    def _guarded(self, step: Callable[[], None], batch: Batch = Batch(())) -> None:  # noqa: B008 - immutable
        try:
            step()
        except Exception:
            log.exception("actor %s failed", self.name)
            self._record = self._record.failed(self._runtime.clock())
            self._behaviour = None
            for letter in batch.envelopes:
                if letter.reply_to is not None:
                    _reply(letter.reply_to, InternalError("internal", f"{self.name} failed; the log says why"))
            if self._record.should_restart:
                self._guarded(self._begin)
            else:
                log.error("actor %s is given up after %d failures", self.name, len(self._record.failures))
                self.stop()
                if self._failed is not None:
                    self._failed(self.name)


def _reply(reply_to: Any, answer: object) -> None:
    if isinstance(answer, Exception):
        reply_to.set_exception((type(answer), answer, answer.__traceback__))
    else:
        reply_to.set(answer)


class LoopJournal:
    """The event log as actors use it: an append is waited for, with a deadline; the loop does the work.

    What no promise rests on is gathered for SOON_S, or until the next promise, and written with it: a transaction costs far more than a row.
    """

    def __init__(self, event_log: EventLog, loop: asyncio.AbstractEventLoop) -> None:
        self._log = event_log
        self._loop = loop
        self._lock = threading.Lock()
        self._soon: list[NewEvent] = []

    def append(self, events: Sequence[NewEvent]) -> None:
        """Waits until the events are as durable as their kinds demand, and all that were queued before them are written.

        Raises:
            MachineError: `disk_full`, `store_failed`: nothing was written.
        """
        with self._lock:  # held until the log has taken them, so that the order in the log is the order here
            written = asyncio.run_coroutine_threadsafe(self._log.append([*self._taken(), *events]), self._loop)
        self._result(written)

    def append_soon(self, events: Sequence[NewEvent]) -> None:
        """Queues events that no promise rests on; they are written in order with the others."""
        with self._lock:
            is_first = not self._soon
            self._soon.extend(events)
        if is_first:
            try:
                self._loop.call_soon_threadsafe(self._loop.call_later, SOON_S, self._write_soon)
            except RuntimeError:
                log.warning("the loop has ended; %d events no promise rests on are not written", len(events))

    def read_stream(self, stream: str) -> Sequence[StoredEvent]:
        """The events of one stream."""
        self.flush()
        future = asyncio.run_coroutine_threadsafe(self._log.read_stream(stream), self._loop)
        events: Sequence[StoredEvent] = self._result(future)
        return events

    def flush(self) -> None:
        """Returns when everything queued is written."""
        with self._lock:
            rows = self._taken()
            written = asyncio.run_coroutine_threadsafe(self._log.append(rows), self._loop) if rows else None
        if written is not None:
            self._result(written)

    def _write_soon(self) -> None:
        """On the loop."""
        with self._lock:
            rows = self._taken()
            if rows:
                self._loop.create_task(self._log.append(rows), name="events soon").add_done_callback(_log_failure)

    def _taken(self) -> list[NewEvent]:
        rows, self._soon = self._soon, []
        return rows

    def _result(self, future: concurrent.futures.Future[Any]) -> Any:
        try:
            return future.result(APPEND_TIMEOUT)
        except TimeoutError:
            future.cancel()
            raise MachineError("store_failed", f"the event store did not answer within {APPEND_TIMEOUT} s") from None


def _log_failure(future: Any) -> None:
    if not future.cancelled() and future.exception() is not None:
        log.error("events that no promise rests on could not be written: %s", future.exception())
