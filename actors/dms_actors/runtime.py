"""The crew: all actors of a node on one thread, through pykka; and how they are reached from the asyncio loop.

::

    tell, ask ──▶ Mailboxes ──▶ Inbox ── a Shift ──▶ each member handles what waits for it
                                                        └─▶ one transaction for all of them ─▶ effects, answers

One thread, because what actors mostly wait for is the event store, which they write together, and because handing a message from thread to thread
costs more than what most of them do with it (docs/decisions/0017).

loop  -> actor   `Address.tell`, which does not wait; `ask` from the loop is `ask_from_loop`, which awaits without blocking the loop
actor -> loop    `loop_calls.LoopCalls`, which does not wait
actor -> log     `journal.CrewJournal`: writing waits for the log's own thread; reading, at the start of an actor, for the loop

Only immutable values cross. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pykka

from dms_actors.answers import settle
from dms_actors.behaviour import Address, Behaviour
from dms_actors.mailbox import CAPACITY, Inbox, Letter, Mailbox, Shift, Stop, Work
from dms_actors.member import Member, Pending, commit, has_ended
from dms_proto.errors import InternalError

log = logging.getLogger(__name__)

STOP_TIMEOUT: Final = 5.0


class ThreadRuntime:
    """Runs behaviours on one thread of its own, through pykka."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._addresses: list[ThreadAddress] = []
        self._crew = _Crew.start(self)
        inbox: Any = self._crew.actor_inbox
        self._inbox: Inbox = inbox

    def spawn(
        self,
        name: str,
        build: Callable[[], Behaviour],
        failed: Callable[[str], object] | None = None,
        *,
        is_new: bool = False,
        capacity: int = CAPACITY,
    ) -> ThreadAddress:
        """Starts an actor. It begins on the crew's thread; messages told meanwhile wait."""
        mailbox = self._inbox.open(None, capacity)
        address = ThreadAddress(name, mailbox)
        mailbox.owner = Member(
            address,
            build,
            self.clock,
            failed,
            is_new=is_new,
            noticed=lambda error: log.error("actor %s failed", name, exc_info=error),
        )
        with self._lock:
            self._addresses.append(address)
        self._inbox.wake(mailbox)
        return address

    def stop_all(self, timeout: float = STOP_TIMEOUT) -> None:
        """Ends what still runs, youngest first, each after what waits in its mailbox, with a deadline; then the thread.

        They share the thread: once one is silent, so are the others, and nobody waits for each of them.
        """
        with self._lock:
            addresses = list(reversed(self._addresses))
        patience = timeout
        for address in addresses:
            address.stop()
            if not address.has_ended.wait(patience):
                patience = 0.0
                log.error("actor %s did not end within %s s", address.name, timeout)
        try:
            self._crew.stop(block=True, timeout=timeout)
        except pykka.Timeout:
            log.error("the actors' thread did not end within %s s", timeout)

    def refused(self) -> int:
        """Messages refused by full mailboxes of actors alive now."""
        with self._lock:
            return sum(address.mailbox.refused for address in self._addresses)

    def names(self) -> tuple[str, ...]:
        """The actors alive now, oldest first."""
        with self._lock:
            return tuple(address.name for address in self._addresses)

    def _left(self, address: Address) -> None:
        with self._lock:
            self._addresses = [other for other in self._addresses if other is not address]


class ThreadAddress:
    """The address of an actor of a crew."""

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self.name = name
        self.mailbox = mailbox
        self.has_ended = threading.Event()

    def tell(self, message: object) -> bool:
        """See `Address.tell`."""
        return self.mailbox.offer(Letter(message))

    def ask(self, message: object, timeout: float) -> Any:
        """See `Address.ask`."""
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

        self.pass_on(message, lambda result: settle(answer, result))
        try:
            return answer.result(timeout)
        except TimeoutError:
            raise _is_silent(self.name, timeout) from None

    def pass_on(self, message: object, answer: Callable[[object], object]) -> None:
        """See `Address.pass_on`. `answer` is called on the crew's thread, or at once when the message is refused."""
        if self.mailbox.offer(Letter(message, answer)):
            return
        full = InternalError("mailbox_full", f"{self.name} has too many messages waiting", retryable=True)
        answer(has_ended(self.name) if self.mailbox.is_closed else full)

    def stop(self) -> None:
        """See `Address.stop`."""
        self.mailbox.offer(Stop())


async def ask_from_loop(address: Address, message: object, timeout: float) -> Any:  # noqa: ASYNC109 - as `Address.ask`
    """Asks an actor from the asyncio loop without blocking it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def answer_from_thread(result: object) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            loop.call_soon_threadsafe(settle, answer, result)

    address.pass_on(message, answer_from_thread)
    try:
        async with asyncio.timeout(timeout):  # `wait_for` of Python 3.11 loses a cancellation that meets the answer
            return await answer
    except TimeoutError:
        raise _is_silent(address.name, timeout) from None


def _is_silent(name: str, timeout: float) -> InternalError:
    return InternalError("internal", f"{name} did not answer within {timeout} s", retryable=True)


class _Crew(pykka.ThreadingActor):
    """The thread on which the members work, a shift at a time."""

    use_daemon_thread = True

    def __init__(self, runtime: ThreadRuntime) -> None:
        super().__init__()
        self._runtime = runtime

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Inbox()

    def on_start(self) -> None:
        threading.current_thread().name = "actors"

    def on_receive(self, message: Any) -> None:
        assert isinstance(message, Shift)
        pending = [self._work(work) for work in message.work]
        commit([one for one in pending if one is not None])
        for work in message.work:
            self._after(work)

    def _work(self, work: Work) -> Pending | None:
        member = _member(work.mailbox)
        has_begun = member.behaviour is not None
        if has_begun and work.is_last and not work.letters:
            return None  # it was only told to stop
        return member.work(work.letters)

    def _after(self, work: Work) -> None:
        """Ends the member if that was its last work; otherwise sets when it is woken."""
        member = _member(work.mailbox)
        deadline = None if work.is_last else member.deadline()
        if member.is_over or work.is_last:
            member.end(work.mailbox.close())
            address = member.me
            self._runtime._left(address)
            assert isinstance(address, ThreadAddress)
            address.has_ended.set()
            return
        work.mailbox.arm(None if deadline is None else max(deadline - self._runtime.clock(), 0))


def _member(mailbox: Mailbox) -> Member:
    member = mailbox.owner
    assert isinstance(member, Member)
    return member
