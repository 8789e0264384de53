"""What every `EventLog` does. Subclass `EventLogContract`, give it a fixture `log` made with the fixture `clock`, and it runs."""

# ruff: noqa: D102 - a test is named after the behaviour it shows

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from dms_actors.ports import EventLog, NewEvent, StoredEvent
from dms_proto.errors import MachineError, UserError


class StepClock:
    """A clock that stands still until told otherwise. Callable; Unix ms."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def event(stream: str = "r-1", kind: str = "bid_made", cause_id: str = "m-1", body: bytes = b"\x80") -> NewEvent:
    """A valid event; name what matters to the test."""
    return NewEvent(stream=stream, kind=kind, cause_id=cause_id, body=body)


async def everything(log: EventLog, after_seq: int = 0) -> list[StoredEvent]:
    """All that `read_all` gives."""
    return [stored async for stored in log.read_all(after_seq)]


def seqs(events: Sequence[StoredEvent]) -> list[int]:
    """The positions of events in the history."""
    return [stored.seq for stored in events]


class EventLogContract:
    """Run on the adapter and on its twin. The subclass provides the fixture `log`; it may use `clock`."""

    @pytest.fixture
    def clock(self) -> StepClock:
        """The clock the log is made with."""
        return StepClock()

    async def test_appended_events_come_back_as_given_and_numbered(self, log: EventLog, clock: StepClock) -> None:
        stored = await log.append(
            [event(stream="r-1", body=b"one"), event(stream="a-1", kind="started", body=b"\x00\xff")]
        )
        assert list(stored) == [
            StoredEvent(1, "r-1", 1, "bid_made", clock.now, "m-1", b"one"),
            StoredEvent(2, "a-1", 1, "started", clock.now, "m-1", b"\x00\xff"),
        ]
        assert await everything(log) == list(stored)

    async def test_seq_counts_over_all_streams_and_version_within_one(self, log: EventLog) -> None:
        for stream in ("x", "y", "x", "x", "y"):
            await log.append([event(stream=stream)])
        assert [(e.seq, e.stream, e.version) for e in await everything(log)] == [
            (1, "x", 1),
            (2, "y", 1),
            (3, "x", 2),
            (4, "x", 3),
            (5, "y", 2),
        ]

    async def test_from_a_thread_it_is_appended_in_one_order_with_the_rest(self, log: EventLog) -> None:
        await log.append([event(body=b"a")])
        stored = await asyncio.to_thread(
            lambda: log.append_from_thread([event(body=b"b"), event(body=b"c")]).result(10)
        )
        await log.append([event(body=b"d")])
        assert [one.body for one in await everything(log)] == [b"a", b"b", b"c", b"d"]
        assert seqs(stored) == [2, 3]

    async def test_what_cannot_be_appended_from_a_thread_is_told_in_the_future(self, log: EventLog) -> None:
        with pytest.raises(UserError):
            log.append_from_thread([event(kind="")]).result(10)
        assert not await everything(log)

    async def test_appending_nothing_writes_nothing(self, log: EventLog) -> None:
        assert list(await log.append([])) == []
        assert await everything(log) == []

    async def test_concurrent_appends_each_stay_together_and_in_order_of_the_calls(self, log: EventLog) -> None:
        answers = await asyncio.gather(
            *(log.append([event(cause_id=f"c{n}"), event(cause_id=f"c{n}")]) for n in range(50))
        )
        assert [seqs(answer) for answer in answers] == [[2 * n + 1, 2 * n + 2] for n in range(50)]
        assert [e.cause_id for e in await everything(log)] == [f"c{n // 2}" for n in range(100)]

    async def test_a_cancelled_caller_does_not_take_its_events_back(self, log: EventLog) -> None:
        task = asyncio.create_task(log.append([event(cause_id="gone")]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await log.append([event(cause_id="after")])
        assert [e.cause_id for e in await everything(log)] == ["gone", "after"]

    async def test_time_never_goes_backwards(self, log: EventLog, clock: StepClock) -> None:
        await log.append([event()])
        clock.now -= 5_000
        (second,) = await log.append([event()])
        clock.now += 6_000
        (third,) = await log.append([event()])
        assert (second.at, third.at) == (clock.now - 1_000, clock.now)

    async def test_a_stream_is_read_after_a_version(self, log: EventLog) -> None:
        await log.append([event(stream=s) for s in "abab" * 3])
        assert [e.version for e in await log.read_stream("a", after_version=4)] == [5, 6]
        assert {e.stream for e in await log.read_stream("a")} == {"a"}
        assert list(await log.read_stream("unknown")) == []

    async def test_a_stream_is_read_from_the_last_event_of_a_kind_on(self, log: EventLog) -> None:
        for kind in "xSxSyx":
            await log.append([event(stream="a", kind=kind), event(stream="b", kind="S")])
        assert [e.version for e in await log.read_stream("a", since="S")] == [4, 5, 6]
        assert [e.version for e in await log.read_stream("a", after_version=5, since="S")] == [6]
        assert len(await log.read_stream("a", since="never")) == 6

    async def test_read_all_is_as_of_the_call(self, log: EventLog) -> None:
        await log.append([event(), event()])
        reading = log.read_all(after_seq=1)
        await log.append([event()])
        assert seqs([e async for e in reading]) == [2]

    async def test_the_collector_combines_all_that_is_given(self, log: EventLog, clock: StepClock) -> None:
        start = clock.now
        for n in range(12):
            clock.now = start + n * 1_000
            await log.append([event(stream="ab"[n % 2], kind="xyz"[n % 3], cause_id=f"c{n % 4}")])
        assert seqs(await log.query(kinds=["x"])) == [1, 4, 7, 10]
        assert seqs(await log.query(kinds=["x", "y"], stream="b")) == [2, 4, 8, 10]
        assert seqs(await log.query(cause_id="c3")) == [4, 8, 12]
        assert seqs(await log.query(since=start + 3_000, until=start + 5_000)) == [4, 5, 6]
        assert seqs(await log.query(since=start + 10_000)) == [11, 12]
        assert seqs(await log.query(until=start)) == [1]
        assert seqs(await log.query(after_seq=9)) == [10, 11, 12]
        assert seqs(await log.query(limit=2)) == [1, 2]
        assert seqs(await log.query(kinds=["x"], stream="b", after_seq=4, limit=5)) == [10]
        assert seqs(await log.query(kinds=["none"])) == []

    async def test_a_query_for_fewer_than_one_event_is_refused(self, log: EventLog) -> None:
        with pytest.raises(UserError) as refused:
            await log.query(limit=0)
        assert refused.value.code == "bad_argument"

    @pytest.mark.parametrize("bad", [event(stream=""), event(kind="")])
    async def test_an_event_without_stream_or_kind_is_refused_and_nothing_of_its_append_is_written(
        self, log: EventLog, bad: NewEvent
    ) -> None:
        with pytest.raises(UserError) as refused:
            await log.append([event(), bad])
        assert refused.value.code == "bad_argument"
        assert await everything(log) == []

    async def test_after_close_everything_is_refused_by_code_and_closing_again_is_fine(self, log: EventLog) -> None:
        await log.append([event()])
        await log.close()
        await log.close()
        with pytest.raises(MachineError) as refused:
            await log.append([event()])
        assert refused.value.code == "store_failed"
        with pytest.raises(MachineError) as refused:
            await log.read_stream("r-1")
        assert refused.value.code == "store_failed"
