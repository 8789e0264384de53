"""Actors on threads: asking and telling, supervision, waking by deadline, the order of the end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dms_actors.behaviour import Address, Behaviour
from dms_actors.runtime import ThreadRuntime, ask_from_loop
from dms_proto.errors import InternalError, MachineError

WAIT = 10.0
"""Seconds within which everything here must have happened."""


class Story:
    """What happened to all the behaviours built for one actor, across its restarts."""

    def __init__(self) -> None:
        self.starts = 0
        self.stops = 0
        self.batches: list[tuple[object, ...]] = []
        self.deadline: int | None = None
        self.woken = threading.Event()
        self.fails_to_start: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.is_held = threading.Event()

    def hold(self, address: Address) -> None:
        """Holds the actor within a batch of its own until the gate is opened."""
        address.ask("started", WAIT)
        self.gate.clear()
        self.is_held.clear()
        assert address.tell("held")
        assert self.is_held.wait(WAIT)


class Teller:
    """Answers each message with itself in a tuple; raises for the message "fail"; answers exceptions with themselves."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._has_begun = False

    def start(self, me: Address, *, is_new: bool) -> None:
        self._story.starts += 1
        if self._story.fails_to_start is not None:
            raise self._story.fails_to_start

    def receive(self, batch: Sequence[object], now: int) -> Sequence[object]:
        self._story.is_held.set()
        self._story.gate.wait(WAIT)
        if batch or self._has_begun:
            self._story.batches.append(tuple(batch))
        if not batch and self._has_begun:
            self._story.deadline = None
            self._story.woken.set()
        self._has_begun = True
        if "fail" in batch:
            raise ValueError("as told")
        return [message if isinstance(message, Exception) else (message,) for message in batch]

    def deadline(self) -> int | None:
        return self._story.deadline

    def stop(self) -> None:
        self._story.stops += 1


def unix_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def runtime() -> Iterator[ThreadRuntime]:
    runtime = ThreadRuntime(unix_ms)
    yield runtime
    runtime.stop_all()
    assert runtime.names() == ()


def spawn(runtime: ThreadRuntime, story: Story, **options: object) -> Address:
    build: Callable[[], Behaviour] = lambda: Teller(story)  # noqa: E731 - typed
    return runtime.spawn("teller", build, **options)  # type: ignore[arg-type]


def end(runtime: ThreadRuntime, address: Address) -> None:
    """Ends an actor and waits until it has ended."""
    address.stop()
    deadline = time.monotonic() + WAIT
    while address.name in runtime.names():
        assert time.monotonic() < deadline


def test_a_question_is_answered(runtime: ThreadRuntime) -> None:
    assert spawn(runtime, Story()).ask("hello", WAIT) == ("hello",)


def test_an_exception_as_answer_is_raised_at_the_asker(runtime: ThreadRuntime) -> None:
    story = Story()
    address = spawn(runtime, story)
    with pytest.raises(MachineError, match="no room"):
        address.ask(MachineError("disk_full", "no room"), WAIT)
    assert story.starts == 1


def test_what_is_told_before_the_start_has_ended_is_not_lost(runtime: ThreadRuntime) -> None:
    story = Story()
    address = spawn(runtime, story)
    for number in range(100):
        assert address.tell(number)
    address.ask("done", WAIT)
    assert [message for batch in story.batches for message in batch] == [*range(100), "done"]


def test_a_deadline_wakes_an_actor_without_a_message(runtime: ThreadRuntime) -> None:
    story = Story()
    story.deadline = unix_ms() + 20
    spawn(runtime, story)
    assert story.woken.wait(WAIT)
    assert story.batches == [()]


def test_a_full_mailbox_refuses_what_is_told_and_counts_it(runtime: ThreadRuntime) -> None:
    story = Story()
    address = spawn(runtime, story, capacity=2)
    story.hold(address)
    assert [address.tell(number) for number in range(10)] == [True] * 2 + [False] * 8
    assert runtime.refused() == 8
    with pytest.raises(InternalError) as caught:
        address.ask("me too", WAIT)
    assert caught.value.code == "mailbox_full"
    story.gate.set()


def test_an_actor_can_be_ended_although_its_mailbox_is_full(runtime: ThreadRuntime) -> None:
    story = Story()
    address = spawn(runtime, story, capacity=1)
    story.hold(address)
    assert [address.tell("fill") for _ in range(2)] == [True, False]
    address.stop()
    story.gate.set()
    runtime.stop_all(WAIT)
    assert story.stops == 1


def test_a_behaviour_that_raises_is_built_anew_and_goes_on(runtime: ThreadRuntime) -> None:
    story = Story()
    address = spawn(runtime, story)
    with pytest.raises(InternalError, match="failed"):
        address.ask("fail", WAIT)
    assert address.ask("and now?", WAIT) == ("and now?",)
    assert story.starts == 2


def test_everybody_who_asked_in_a_failed_batch_is_told(runtime: ThreadRuntime) -> None:
    story = Story()
    address = spawn(runtime, story)
    story.hold(address)
    outcomes: list[str] = []

    def ask(message: str) -> None:
        try:
            address.ask(message, WAIT)
            outcomes.append("answered")
        except InternalError as error:
            outcomes.append(error.code)

    askers = [threading.Thread(target=ask, args=(message,)) for message in ("a", "fail", "b")]
    for asker in askers:
        asker.start()
    deadline = time.monotonic() + WAIT
    while len(address.mailbox) < 3:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
    story.gate.set()
    for asker in askers:
        asker.join(WAIT)
    assert outcomes == ["internal"] * 3


def test_an_actor_that_fails_too_often_is_given_up_with_notice(
    runtime: ThreadRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    story, given_up = Story(), list[str]()
    noticed = threading.Event()

    def failed(name: str) -> None:
        given_up.append(name)
        noticed.set()

    with caplog.at_level(logging.CRITICAL):
        address = spawn(runtime, story, failed=failed)
        for _ in range(3):
            with pytest.raises(InternalError, match="failed"):
                address.ask("fail", WAIT)
        address.tell("fail")
        assert noticed.wait(WAIT)
    assert given_up == ["teller"]
    assert story.starts == 4
    end(runtime, address)
    with pytest.raises(InternalError, match="has ended"):
        address.ask("anybody?", WAIT)
    assert runtime.names() == ()


def test_whoever_waits_at_an_actor_that_is_given_up_is_told_why(
    runtime: ThreadRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    story = Story()
    story.fails_to_start = MachineError("store_newer", "written by a newer dms")
    with caplog.at_level(logging.CRITICAL):
        address = spawn(runtime, story)
        with pytest.raises((MachineError, InternalError)) as caught:
            address.ask("state?", WAIT)
    assert caught.value.code in ("store_newer", "internal")  # asked before its end, or after
    assert story.starts == 4


def test_what_waits_behind_the_end_is_answered(runtime: ThreadRuntime) -> None:
    story = Story()
    address = spawn(runtime, story)
    story.hold(address)
    address.stop()
    outcomes: list[str] = []

    def ask() -> None:
        try:
            address.ask("too late", WAIT)
        except InternalError as error:
            outcomes.append(error.message)

    asker = threading.Thread(target=ask)
    asker.start()
    deadline = time.monotonic() + WAIT
    while len(address.mailbox) < 2:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
    story.gate.set()
    asker.join(WAIT)
    assert outcomes == ["teller has ended"]


def test_an_asker_is_not_kept_waiting_forever(runtime: ThreadRuntime) -> None:
    story = Story()
    story.gate.clear()
    address = spawn(runtime, story)
    with pytest.raises(InternalError, match="did not answer"):
        address.ask("hello", 0.01)
    story.gate.set()


def test_actors_end_youngest_first(runtime: ThreadRuntime) -> None:
    order: list[str] = []

    class Noting(Teller):
        def __init__(self, name: str) -> None:
            super().__init__(Story())
            self._name = name

        def stop(self) -> None:
            order.append(self._name)

    for name in "abc":
        runtime.spawn(name, lambda name=name: Noting(name)).ask("there?", WAIT)  # type: ignore[misc]
    assert runtime.names() == ("a", "b", "c")
    runtime.stop_all()
    assert order == ["c", "b", "a"]
    assert runtime.names() == ()


def test_an_actor_handles_what_waits_before_it_ends(runtime: ThreadRuntime) -> None:
    story = Story()
    address = spawn(runtime, story)
    for number in range(10):
        address.tell(number)
    runtime.stop_all()
    assert [message for batch in story.batches for message in batch] == list(range(10))
    assert story.stops == 1


async def test_the_loop_asks_without_being_blocked(runtime: ThreadRuntime) -> None:
    story = Story()
    story.gate.clear()
    address = spawn(runtime, story)
    answer = asyncio.create_task(ask_from_loop(address, "hello", WAIT))
    await asyncio.sleep(0)  # the loop goes on while the actor is held
    assert not answer.done()
    story.gate.set()
    assert await answer == ("hello",)


async def test_the_loop_is_told_of_failures_ends_and_full_mailboxes(runtime: ThreadRuntime) -> None:
    story = Story()
    address = spawn(runtime, story, capacity=1)
    with pytest.raises(InternalError, match="failed"):
        await ask_from_loop(address, "fail", WAIT)
    await asyncio.to_thread(story.hold, address)
    address.tell("fill")
    with pytest.raises(InternalError) as caught:
        await ask_from_loop(address, "hello", WAIT)
    assert caught.value.code == "mailbox_full"
    story.gate.set()
    await asyncio.to_thread(end, runtime, address)
    with pytest.raises(InternalError, match="has ended"):
        await ask_from_loop(address, "hello", WAIT)


async def test_who_is_cancelled_in_the_moment_of_the_answer_goes_no_further() -> None:
    """What went on would have its end waited for in vain: a node that stops cancels its tasks once."""

    class Held:
        name = "held"

        def pass_on(self, _message: object, answer: Callable[[object], object]) -> None:
            self.answer = answer

    held: Any = Held()
    asking = asyncio.create_task(ask_from_loop(held, "hello", WAIT))
    await asyncio.sleep(0)
    held.answer("there")
    asyncio.get_running_loop().call_soon(asking.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_the_loop_gives_up_waiting(runtime: ThreadRuntime) -> None:
    story = Story()
    story.gate.clear()
    with pytest.raises(InternalError, match="did not answer"):
        await ask_from_loop(spawn(runtime, story), "hello", 0.01)
    story.gate.set()


def test_an_actor_that_cannot_say_when_to_wake_is_given_up_alone(runtime: ThreadRuntime) -> None:
    class Confused(Teller):
        def deadline(self) -> int | None:
            raise ValueError("as told")

    good = spawn(runtime, Story())
    given_up = threading.Event()
    runtime.spawn("confused", lambda: Confused(Story()), lambda _name: given_up.set())
    assert given_up.wait(WAIT)
    assert good.ask("hello", WAIT) == ("hello",)


class Waits(threading.Event):
    """Notes how long it is waited for."""

    def __init__(self, noted: list[float | None]) -> None:
        super().__init__()
        self._noted = noted

    def wait(self, timeout: float | None = None) -> bool:
        self._noted.append(timeout)
        return super().wait(timeout)


def test_many_silent_actors_are_waited_for_as_long_as_one() -> None:
    runtime = ThreadRuntime(unix_ms)
    story = Story()
    addresses = [spawn(runtime, story) for _ in range(20)]
    story.hold(addresses[0])
    waited = list[float | None]()
    for address in addresses:
        address.has_ended = Waits(waited)
    runtime.stop_all(0.01)
    assert waited == [0.01, *[0.0] * 19]
    story.gate.set()
