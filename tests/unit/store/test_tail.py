import asyncio
from collections.abc import Callable

from dms.store import tail as tail_module
from dms.store.tail import Tail
from dms_actors.ports import StoredEvent


def at_once(call: Callable[[], None]) -> None:
    call()


def events(first, last, body=b""):
    return [StoredEvent(seq, "s", seq, "k", 0, "", body) for seq in range(first, last + 1)]


def test_what_is_no_longer_kept_is_said_to_be_gone_rather_than_skipped():
    tail = Tail(0, at_once)
    tail.publish(events(1, tail_module.KEPT_EVENTS + 10))
    assert tail.after(9) is None
    assert [e.seq for e in tail.after(10)] == list(range(11, tail_module.KEPT_EVENTS + 11))
    assert list(tail.after(tail_module.KEPT_EVENTS + 10)) == []


def test_history_from_before_the_store_was_opened_is_not_here():
    tail = Tail(5, at_once)
    assert tail.after(4) is None
    assert list(tail.after(5)) == []
    tail.publish(events(6, 6))
    assert tail.after(4) is None
    assert [e.seq for e in tail.after(5)] == [6]


def test_large_bodies_are_not_kept():
    tail = Tail(0, at_once)
    tail.publish(events(1, 3, bytes(tail_module.KEPT_BYTES // 2)))
    assert tail.after(0) is None
    assert [e.seq for e in tail.after(1)] == [2, 3]
    tail.publish(events(4, 4, bytes(tail_module.KEPT_BYTES + 1)))
    assert tail.after(3) is None


async def test_all_waiting_are_woken_by_an_event_and_by_the_end():
    tail = Tail(0, at_once)
    waiting = [asyncio.create_task(tail.wait(0)) for _ in range(3)]
    late = asyncio.create_task(tail.wait(1))
    await asyncio.sleep(0)
    tail.publish(events(1, 1))
    assert await asyncio.gather(*waiting) == [True] * 3
    assert not late.done()
    tail.close()
    assert await late is False
    assert await tail.wait(0) is True  # what was committed before the end can still be had


async def test_a_cancelled_follower_is_forgotten():
    tail = Tail(0, at_once)
    waiting = asyncio.create_task(tail.wait(0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    tail.publish(events(1, 1))
    assert await tail.wait(0)
