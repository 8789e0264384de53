"""The journal: actors write, in order, without holes, whatever the disk does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
from collections.abc import Sequence

import pytest

from dms.testing.market import until
from dms_actors.journal import CrewJournal
from dms_actors.ports import NewEvent, StoredEvent
from dms_actors.testing.event_log import MemoryEventLog
from dms_proto.errors import InternalError, MachineError

FULL = MachineError("disk_full", "no room")


class SlowLog(MemoryEventLog):
    """A log whose appends wait for `go`; counts transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()
        self.appends: list[int] = []
        self._loop = asyncio.get_running_loop()

    def append_from_thread(self, events: Sequence[NewEvent]) -> concurrent.futures.Future[Sequence[StoredEvent]]:
        return asyncio.run_coroutine_threadsafe(self._append_slowly(events), self._loop)

    async def _append_slowly(self, events: Sequence[NewEvent]) -> Sequence[StoredEvent]:
        self.appends.append(len(events))
        await self.go.wait()
        return await self.append(events)


def event(name: str, stream: str = "s") -> NewEvent:
    return NewEvent(stream, "Kind", "cause", name.encode())


def written(log: MemoryEventLog, stream: str = "") -> list[str]:
    return [row.body.decode() for row in log.events if stream in ("", row.stream)]


async def until_written(log: MemoryEventLog, count: int) -> None:
    await until(lambda: len(log.events), lambda length: length >= count)


def journal_over(log: MemoryEventLog, timeout: float = 30) -> CrewJournal:
    return CrewJournal(log, asyncio.get_running_loop(), timeout=timeout, retry_s=0.02)


async def test_an_append_returns_when_it_is_written() -> None:
    log = SlowLog()
    journal = journal_over(log)
    log.go.clear()
    appending = asyncio.create_task(asyncio.to_thread(journal.append, [event("a")]))
    await until(lambda: log.appends, bool)
    assert not appending.done()
    log.go.set()
    await appending
    assert written(log) == ["a"]


async def test_what_no_promise_rests_on_is_written_by_itself_after_a_while() -> None:
    log = SlowLog()
    journal = journal_over(log)
    for name in "abc":
        journal.append_soon([event(name)])
    await until_written(log, 3)
    assert written(log) == ["a", "b", "c"]
    assert log.appends == [3]


async def test_a_promise_takes_what_was_queued_before_it_along_in_order() -> None:
    log = SlowLog()
    journal = journal_over(log)

    def work() -> None:
        journal.append_soon([event("a"), event("b")])
        journal.append([event("c")])

    await asyncio.to_thread(work)
    assert written(log) == ["a", "b", "c"]
    assert log.appends == [3]


async def test_what_waits_while_one_group_is_written_becomes_the_next() -> None:
    log = SlowLog()
    journal = journal_over(log)
    log.go.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(journal.append, [event("first")]))
        await until(lambda: log.appends, bool)
        for number in range(4):
            group.create_task(asyncio.to_thread(journal.append, [event(str(number))]))
        await until(lambda: len(journal._waiting), lambda length: length == 4)
        log.go.set()
    assert log.appends == [1, 4]


async def test_a_stream_is_read_with_what_is_queued_of_it() -> None:
    log = SlowLog()
    journal = journal_over(log)

    def work() -> list[str]:
        journal.append_soon([event("a")])
        return [row.body.decode() for row in journal.read_stream("s")]

    assert await asyncio.to_thread(work) == ["a"]


async def test_reading_a_stream_of_which_nothing_is_queued_writes_nothing() -> None:
    log = SlowLog()
    journal = journal_over(log)
    log.fault = FULL
    journal.append_soon([event("a", "other")])
    assert not await asyncio.to_thread(journal.read_stream, "s")


async def test_a_promise_that_cannot_be_written_is_refused() -> None:
    log = SlowLog()
    journal = journal_over(log)
    log.fault = FULL
    with pytest.raises(MachineError) as caught:
        await asyncio.to_thread(journal.append, [event("a")])
    assert caught.value.code == "disk_full"
    log.fault = None
    await asyncio.to_thread(journal.append, [event("b")])
    assert written(log) == ["b"]


async def test_what_no_promise_rests_on_is_kept_when_it_cannot_be_written_and_comes_first() -> None:
    log = SlowLog()
    journal = journal_over(log)
    log.fault = FULL

    def fail() -> None:
        journal.append_soon([event("a")])
        with pytest.raises(MachineError):
            journal.append([event("refused")])

    await asyncio.to_thread(fail)
    assert written(log) == []
    log.fault = None
    await asyncio.to_thread(journal.append, [event("b")])
    assert written(log) == ["a", "b"]


async def test_while_something_is_kept_no_more_of_it_is_let_in() -> None:
    log = SlowLog()
    journal = journal_over(log)
    log.fault = FULL
    journal.append_soon([event("a")])
    with pytest.raises(MachineError):
        await asyncio.to_thread(journal.flush)
    with pytest.raises(MachineError) as caught:
        journal.append_soon([event("b")])
    assert caught.value.code == "disk_full"
    log.fault = None
    await until_written(log, 1)  # tried again by itself
    journal.append_soon([event("c")])
    await asyncio.to_thread(journal.flush)
    assert written(log) == ["a", "c"]


async def test_closing_writes_what_is_queued_and_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    log = SlowLog()
    journal = journal_over(log)
    journal.append_soon([event("a")])
    await asyncio.to_thread(journal.close)
    assert written(log) == ["a"]
    log.fault = FULL
    journal.append_soon([event("b")])
    with caplog.at_level(logging.CRITICAL):
        await asyncio.to_thread(journal.close)


async def test_a_log_that_does_not_answer_is_a_failure_of_which_nothing_is_known() -> None:
    log = SlowLog()
    journal = journal_over(log, timeout=0.05)
    log.go.clear()
    first = asyncio.create_task(asyncio.to_thread(journal.append, [event("under way")]))
    await until(lambda: log.appends, bool)
    with pytest.raises(MachineError):  # it had not been handed over: nothing was written, and nothing will be
        await asyncio.to_thread(journal.append, [event("behind")])
    with pytest.raises(InternalError):
        await first
    log.go.set()
    await until_written(log, 1)
    assert written(log) == ["under way"]


async def test_after_the_end_of_the_log_promises_are_refused() -> None:
    log = MemoryEventLog()
    journal = journal_over(log)
    await log.close()
    with pytest.raises(MachineError):
        journal.append([event("b")])


async def test_after_the_end_of_the_loop_promises_are_still_kept() -> None:
    log, loop = MemoryEventLog(), asyncio.new_event_loop()
    journal = CrewJournal(log, loop)
    loop.close()
    journal.append_soon([event("a")])
    journal.append([event("b")])
    assert written(log) == ["a", "b"]


@pytest.mark.parametrize("seed", range(5))
async def test_the_log_is_a_prefix_without_holes_of_what_each_writer_said(seed: int) -> None:
    """Writers on threads, a disk that is full now and then: what a writer was refused is not there, all the rest is, in its order."""
    log = SlowLog()
    journal = journal_over(log)
    is_over = asyncio.Event()

    def write(stream: str) -> list[str]:
        rng = random.Random(f"{seed}/{stream}")
        kept = []
        for number in range(150):
            name = f"{number}"
            try:
                if rng.random() < 0.5:
                    journal.append([event(name, stream)])
                else:
                    journal.append_soon([event(name, stream)])
                kept.append(name)
            except MachineError:
                pass
        return kept

    async def spoil() -> None:
        rng = random.Random(seed)
        while not is_over.is_set():
            log.fault = None if log.fault else FULL
            for _ in range(rng.randrange(20)):
                await asyncio.sleep(0)
        log.fault = None

    logging.disable(logging.ERROR)
    try:
        spoiling = asyncio.create_task(spoil())
        kept = await asyncio.gather(*(asyncio.to_thread(write, stream) for stream in "xyz"))
        is_over.set()
        await spoiling
        await asyncio.to_thread(journal.flush)
    finally:
        logging.disable(logging.NOTSET)
    assert [written(log, stream) for stream in "xyz"] == kept
