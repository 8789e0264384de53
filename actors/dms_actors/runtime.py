"""Actors on threads, and (with `journal`) the one place where they meet the asyncio loop.

actor -> loop   `journal.LoopJournal.append` waits for a coroutine; everything else is `loop.call_soon_threadsafe`, which does not wait
loop -> actor   `Address.tell`, which does not wait; `ask` from the loop is `ask_from_loop`, which awaits without blocking the loop

Only immutable values cross. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import pykka
from pykka.messages import _ActorStop

from dms_actors.behaviour import Address, Behaviour
from dms_actors.mailbox import CAPACITY, Batch, Mailbox, MailboxFull
from dms_actors.supervisor import FailureRecord
from dms_proto.errors import DmsError, InternalError

log = logging.getLogger(__name__)

STOP_TIMEOUT: Final = 5.0


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
        failed: Callable[[str], object] | None = None,
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
        return self._mailbox.offer(_Letter(message))

    def ask(self, message: object, timeout: float) -> Any:
        """See `Address.ask`."""
        try:
            return self._reference.ask(message, timeout=timeout)
        except pykka.Timeout:
            raise InternalError("internal", f"{self.name} did not answer within {timeout} s", retryable=True) from None
        except pykka.ActorDeadError:
            raise _has_ended(self.name) from None
        except MailboxFull as error:
            raise _is_full(self.name) from error

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

    def answer_from_thread(result: object) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result)

    reply = _LoopReply(answer_from_thread)
    if isinstance(address, ThreadAddress):
        if not address._mailbox.offer(_Letter(message, reply)):
            raise _is_full(address.name) if address._reference.is_alive() else _has_ended(address.name)
    else:
        settle(address.ask(message, timeout))
    try:
        return await asyncio.wait_for(answer, timeout)
    except TimeoutError:
        raise InternalError("internal", f"{address.name} did not answer within {timeout} s", retryable=True) from None


def _has_ended(name: str) -> InternalError:
    return InternalError("internal", f"{name} has ended", retryable=True)


def _is_full(name: str) -> InternalError:
    return InternalError("mailbox_full", f"{name} has too many messages waiting", retryable=True)


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
        failed: Callable[[str], object] | None,
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
        self._why_failed: DmsError | None = None
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
        if self._behaviour is None:  # given up: the stop is in the mailbox behind these
            self._answer_all(message.envelopes)
        else:
            self._guarded(lambda: self._handle(message), message)

    def on_stop(self) -> None:
        self._runtime._left(self)
        self._answer_all(self.mailbox.close())
        if self._behaviour is not None:
            self._behaviour.stop()

    def _answer_all(self, letters: Sequence[Any]) -> None:
        """Whoever waits for an actor that has ended is told why; who wanted it to end has got it."""
        for letter in letters:
            if letter.reply_to is None:
                continue
            if isinstance(letter.message, _ActorStop):
                letter.reply_to.set(None)
            else:
                _reply(letter.reply_to, self._why_failed or _has_ended(self.name))

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
        except Exception as error:
            log.exception("actor %s failed", self.name)
            self._record = self._record.failed(self._runtime.clock())
            self._behaviour = None
            self._why_failed = error if isinstance(error, DmsError) else None
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
