"""What the store does beyond the contract of the port: restarts, group commit, durability, following, upcasting."""

import asyncio
import sqlite3
import stat

import msgspec
import pytest

from dms.store import reader, tail, writer
from dms.store.connection import connect_writer
from dms.store.events import EventStore
from dms.store.rules import MAX_EVENTS_PER_APPEND
from dms.store.upcast import Upcaster
from dms.testing.event_log_contract import event, everything, seqs
from dms_proto.errors import MachineError, UserError


async def test_a_restart_goes_on_where_the_history_ended(path, clock):
    async with await EventStore.open(path, clock=clock) as store:
        await store.append([event(stream="a"), event(stream="b"), event(stream="a")])
        head = store.head()
    clock.now -= 60_000
    async with await EventStore.open(path, clock=clock) as store:
        assert store.head() == head
        (next_event,) = await store.append([event(stream="a")])
        assert (next_event.seq, next_event.version, next_event.at) == (4, 3, head.at)
        assert (await store.verify(head)).is_sound


async def test_all_files_are_the_owners_alone(store, path):
    await store.append([event()])
    files = [file for file in path.parent.iterdir() if file.name.startswith("events.db")]
    assert {file.name for file in files} == {"events.db", "events.db-wal", "events.db-shm", "events.db.lock"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_it_says_how_long_it_is_after_each_append_and_each_start(path, clock):
    """With what SQLite has not copied into the file yet."""

    def on_disk() -> int:
        return sum(file.stat().st_size for file in (path, path.with_name("events.db-wal")) if file.exists())

    async with await EventStore.open(path, clock=clock) as store:
        before = store.size_bytes
        assert before == on_disk()
        await store.append([event(body=bytes(100_000))])
        assert store.size_bytes == on_disk() >= before + 100_000
    async with await EventStore.open(path, clock=clock) as store:
        assert store.size_bytes == on_disk() > 100_000


async def test_appends_that_wait_together_share_a_transaction(path):
    commits = []
    async with await EventStore.open(path, checkpoint=commits.append) as store:
        await asyncio.gather(*(store.append([event()]) for _ in range(200)))
        assert commits.count("append_after_commit") <= 3
        await asyncio.gather(*(store.append([event()] * MAX_EVENTS_PER_APPEND) for _ in range(4)))
        assert store.head().seq == 200 + 4 * MAX_EVENTS_PER_APPEND


async def test_an_append_of_the_largest_size_comes_back_whole(store):
    stored = await store.append([event(stream=f"s{n % 7}", body=str(n).encode()) for n in range(MAX_EVENTS_PER_APPEND)])
    assert await everything(store) == list(stored)
    assert (await store.verify()).checked == MAX_EVENTS_PER_APPEND


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 127, 200])
async def test_any_number_of_rows_is_written_in_order(store, count):
    await store.append([event(body=bytes([n])) for n in range(count)])
    assert [e.body for e in await store.read_stream("r-1")] == [bytes([n]) for n in range(count)]


async def synchronous(store):
    return await store.writing.run(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0])


async def test_only_kinds_declared_relaxed_are_committed_without_a_sync(path):
    async with await EventStore.open(path, relaxed=frozenset({"usage_sampled"})) as store:
        await store.append([event(kind="usage_sampled")])
        assert await synchronous(store) == 1
        await store.append([event(kind="usage_sampled"), event(kind="bid_made")])
        assert await synchronous(store) == 2
        await store.append([event(kind="usage_sampled")])
        assert await synchronous(store) == 1


async def test_versions_stay_right_when_more_streams_are_used_than_remembered(store):
    streams = [f"s{n}" for n in range(writer.KNOWN_STREAMS + 500)]
    for _ in range(2):
        for start in range(0, len(streams), MAX_EVENTS_PER_APPEND):
            await store.append([event(stream=stream) for stream in streams[start : start + MAX_EVENTS_PER_APPEND]])
    stored = await everything(store)
    assert {e.version for e in stored[: len(streams)]} == {1}
    assert {e.version for e in stored[len(streams) :]} == {2}


async def test_a_long_history_is_read_in_chunks_while_others_are_served(store):
    for _ in range(3):
        await store.append([event(body=bytes(2000)) for _ in range(1000)])
    found = []
    async for stored in store.read_all():
        found.append(stored.seq)
        if stored.seq == 10:
            assert len(await store.read_stream("r-1", after_version=2999)) == 1
            await store.append([event()])  # not part of a reading that began before it
    assert found == list(range(1, 3001))


async def test_a_chunk_ends_early_when_bodies_are_large(store):
    await store.append([event(body=bytes(reader.CHUNK_BYTES // 2 + 1)) for _ in range(5)])
    assert seqs(await store.chunk(0, 5)) == [1, 2]
    assert seqs(await everything(store)) == [1, 2, 3, 4, 5]


async def test_the_collector_refuses_more_than_it_can_answer(store):
    with pytest.raises(UserError, match="limit is 100001"):
        await store.query(limit=100_001)
    with pytest.raises(UserError, match="501 kinds"):
        await store.query(kinds=["k"] * 501)


# ---------------------------------------------------------------------------------------------------------------- follow


async def collect(following, count):
    found = []
    async for stored in following:
        found.append(stored.seq)
        if len(found) == count:
            break
    return found


async def test_a_follower_gets_what_was_and_what_comes(store):
    await store.append([event()] * 3)
    task = asyncio.create_task(collect(store.follow(after_seq=1), 4))
    await asyncio.sleep(0)
    await store.append([event()] * 2)
    assert await asyncio.wait_for(task, 10) == [2, 3, 4, 5]


async def test_following_from_now_starts_at_the_call(store):
    await store.append([event()] * 3)
    following = store.follow()
    await store.append([event()])
    assert await asyncio.wait_for(collect(following, 1), 10) == [4]


async def test_a_slow_follower_loses_nothing_and_holds_up_nobody(store):
    following = store.follow(0)
    await store.append([event()])
    assert (await anext(following)).seq == 1
    total = tail.KEPT_EVENTS * 3
    for _ in range(3):
        await store.append([event()] * tail.KEPT_EVENTS)
    assert await asyncio.wait_for(collect(following, total), 10) == list(range(2, total + 2))


async def test_many_followers_see_the_same_under_concurrent_appends(store):
    followers = [asyncio.create_task(collect(store.follow(0), 300)) for _ in range(5)]
    await asyncio.gather(*(store.append([event()] * (n % 4 + 1)) for n in range(120)))
    for found in await asyncio.wait_for(asyncio.gather(*followers), 20):
        assert found == list(range(1, 301))


async def test_following_ends_with_the_store(path):
    store = await EventStore.open(path)
    await store.append([event()])
    waiting = asyncio.create_task(collect(store.follow(0), 99))
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.wait_for(waiting, 10) == [1]


# ----------------------------------------------------------------------------------------------------------------- close


async def test_what_was_accepted_before_close_is_finished(path):
    store = await EventStore.open(path)
    accepted = [asyncio.create_task(store.append([event(cause_id=f"c{n}")])) for n in range(500)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    answers = await asyncio.gather(*accepted)
    async with await EventStore.open(path) as again:
        assert [e.cause_id for e in await everything(again)] == [f"c{n}" for n in range(500)]
    assert [answer[0].seq for answer in answers] == list(range(1, 501))


async def test_close_finishes_even_when_the_closer_is_cancelled(path):
    store = await EventStore.open(path)
    appending = asyncio.create_task(store.append([event()]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await store.close()
    assert (await appending)[0].seq == 1
    async with await EventStore.open(path) as again:
        assert again.head().seq == 1


def test_a_loop_that_ends_in_the_middle_of_appending_does_not_hang(path):
    async def interrupted():
        store = await EventStore.open(path)
        tasks = [asyncio.create_task(store.append([event()])) for _ in range(10)]
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await store.close()
        return tasks

    asyncio.run(interrupted())
    connection = sqlite3.connect(path)
    count = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    connection.close()
    assert count == 10  # accepted is accepted


async def test_following_and_reading_after_close_is_refused_by_code(path):
    store = await EventStore.open(path)
    await store.append([event()])
    await store.close()
    with pytest.raises(MachineError) as refused:
        await everything(store)
    assert refused.value.code == "store_failed"
    assert await collect(store.follow(1), 1) == []


# ---------------------------------------------------------------------------------------------------------------- upcast


async def test_old_bodies_are_upcast_when_read_and_the_chain_still_holds(path):
    async with await EventStore.open(path) as store:
        await store.append([event(kind="price_set", body=msgspec.msgpack.encode({"price": 7}))])
    steps = {
        ("price_set", 1): lambda body: msgspec.msgpack.encode({"micro": msgspec.msgpack.decode(body)["price"] * 10**6})
    }
    async with await EventStore.open(path, upcaster=Upcaster(steps)) as store:
        await store.append([event(kind="price_set", body=msgspec.msgpack.encode({"micro": 5}))])
        assert [msgspec.msgpack.decode(e.body) for e in await everything(store)] == [{"micro": 7_000_000}, {"micro": 5}]
        assert [msgspec.msgpack.decode(e.body)["micro"] for e in await store.query(kinds=["price_set"])] == [
            7_000_000,
            5,
        ]
        assert (await store.verify()).is_sound
        forms = await store.reading.run(lambda c: c.execute("SELECT form FROM events ORDER BY seq").fetchall())
        assert forms == [(1,), (2,)]


# --------------------------------------------------------------------------------------------------------- foreign writer


async def test_a_foreign_program_that_holds_the_write_lock_makes_appends_fail_retryably_and_recover(store, path):
    await store.append([event()])
    await store.writing.run(lambda connection: connection.execute("PRAGMA busy_timeout=50"))
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(MachineError) as refused:
        await store.append([event()])
    assert (refused.value.code, refused.value.retryable) == ("store_failed", True)
    foreign.execute("ROLLBACK")
    foreign.close()
    assert (await store.append([event()]))[0].seq == 2
    assert (await store.verify()).is_sound


async def test_rows_a_foreign_program_appended_are_found_out_rather_than_built_upon(store, path):
    await store.append([event()])
    foreign = connect_writer(path)
    foreign.execute("INSERT INTO events VALUES (2, 'x', 1, 'k', 0, '', 1, x'', x'00')")
    foreign.close()
    with pytest.raises(MachineError) as refused:
        await store.append([event()])
    assert refused.value.code == "store_failed"
    with pytest.raises(MachineError) as refused:
        await store.append([event()])
    assert refused.value.code == "store_corrupt"
