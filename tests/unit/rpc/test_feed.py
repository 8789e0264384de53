"""A feed gives every follower every item it keeps, in order, and loses nothing between what is kept and what comes."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from dms.rpc.feed import Feed


class Item(msgspec.Struct, frozen=True):
    id: int


def _feed(*numbers: int, kept: int = 100, closed: bool = True) -> Feed[Item]:
    feed: Feed[Item] = Feed(kept)
    for number in numbers:
        feed.publish(Item(number))
    if closed:
        feed.close()
    return feed


async def _follow(feed: Feed[Item], since: int = 0) -> list[int]:
    async with asyncio.timeout(5):
        return [item.id async for item in feed.follow(since)]


async def test_a_late_follower_gets_what_is_kept() -> None:
    assert await _follow(_feed(1, 2, 5)) == [1, 2, 5]


async def test_a_follower_that_comes_back_goes_on_after_what_it_saw() -> None:
    assert await _follow(_feed(1, 2, 5), since=2) == [5]
    assert await _follow(_feed(1, 2, 5), since=9) == []


async def test_a_follower_that_is_too_late_sees_a_gap() -> None:
    assert await _follow(_feed(*range(1, 11), kept=3)) == [8, 9, 10]


async def test_items_that_come_while_one_is_handled_are_not_lost() -> None:
    feed = _feed(1, closed=False)
    seen = []
    async for item in feed.follow():
        seen.append(item.id)
        if item.id < 4:
            feed.publish(Item(item.id + 1))
        else:
            feed.close()
    assert seen == [1, 2, 3, 4]


async def test_every_follower_is_woken() -> None:
    feed = _feed(closed=False)
    following = [asyncio.create_task(_follow(feed)) for _ in range(3)]
    await asyncio.sleep(0)
    feed.publish(Item(1))
    await asyncio.sleep(0)
    feed.publish(Item(2))
    feed.close()
    assert await asyncio.gather(*following) == [[1, 2]] * 3


async def test_ids_must_grow() -> None:
    feed = _feed(3, closed=False)
    assert feed.last == 3
    with pytest.raises(AssertionError):
        feed.publish(Item(3))
