"""One worker: how far calls are sent ahead, and whom is not called at all."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

import cloudpickle
import msgspec
import pytest

from dms.calls import worker
from dms.client.calls import Call, framed
from dms.client.held import AHEAD_BYTES, MOST_AHEAD, HeldWorker, Hello, Unfit, misfit
from dms.rpc.api.tunnels import TunnelOpened
from dms.rpc.async_client import OpenTunnel
from dms_proto.ids import AllocationId, PeerId

HERE = Hello(
    worker.VERSION, f"{sys.version_info[0]}.{sys.version_info[1]}", sys.implementation.name, cloudpickle.__version__
)


class Pair:
    """A held worker, and the end at which a real one would be."""

    def __init__(self, held: HeldWorker, there: asyncio.StreamWriter, heard: asyncio.StreamReader) -> None:
        self.held = held
        self.there = there
        self.heard = heard

    def answer(self, result: Any = None) -> None:
        self.there.write(worker.framed(worker.RESULT, cloudpickle.dumps(result)))

    def call(self, size: int = 10) -> Call:
        call = Call(Future(), framed(worker.ONE, "pickle", len, (bytes(size),), {}), "pickle", 1)
        call.begin()
        self.held.give(call)
        return call


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    one, other = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=one)
    heard, there = await asyncio.open_unix_connection(sock=other)
    opened = TunnelOpened("t", AllocationId("a"), PeerId("p"))
    yield Pair(HeldWorker(OpenTunnel(opened, reader, writer), lambda: None), there, heard)
    for each in (writer, there):
        each.transport.abort()


async def answered(calls: list[Call]) -> None:
    async with asyncio.timeout(30):
        for call in calls:
            await asyncio.wrap_future(call.future)


async def test_short_calls_are_sent_ahead_and_no_more_of_them_than_fit(pair: Pair) -> None:
    assert pair.held.room == 1
    following = asyncio.create_task(pair.held.follow())
    for _ in range(60):
        call = pair.call()
        pair.answer()
        await answered([call])
    pair.call()
    assert 1 < pair.held.room < MOST_AHEAD
    pair.call(AHEAD_BYTES)
    assert pair.held.room == 0
    following.cancel()


async def test_a_dismissed_worker_gets_nothing_and_hears_goodbye(pair: Pair) -> None:
    pair.held.is_dismissed = True
    assert pair.held.room == 0
    pair.held.say_goodbye()
    async with asyncio.timeout(30):
        assert await pair.heard.readexactly(4) == bytes(4)


async def test_what_was_not_answered_is_still_under_way_when_it_is_gone(pair: Pair) -> None:
    calls = [pair.call() for _ in range(3)]
    pair.answer()
    pair.there.write(b"\0\0")
    pair.there.close()
    async with asyncio.timeout(30):
        assert not await pair.held.follow()
    assert list(pair.held.under_way) == calls[1:]


@pytest.mark.parametrize("said", [b"\xff\xff\xff\xff", b"\0\0\0\1x", b"\0\0\0\0"])
async def test_who_answers_with_what_is_no_answer_is_told_so(pair: Pair, said: bytes) -> None:
    call = pair.call()
    pair.there.write(said)
    async with asyncio.timeout(30):
        assert "no answer" in await pair.held.follow()
    assert list(pair.held.under_way) == [call]


async def test_an_answer_that_nobody_asked_for_is_none(pair: Pair) -> None:
    pair.answer()
    async with asyncio.timeout(30):
        assert "no answer" in await pair.held.follow()


NESTED = worker.framed(b'{"x":' + b"[" * 5_000)


@pytest.mark.parametrize("said", [b"\0\0\0\2{}", b"\0\0\0\1x", b"\xff\xff\xff\xff", b"", NESTED])
async def test_who_does_not_say_what_it_is_is_not_called(pair: Pair, said: bytes) -> None:
    pair.there.write(said)
    pair.there.close()
    with pytest.raises(Unfit):
        await pair.held.greet()


async def test_who_says_what_it_is_is_called(pair: Pair) -> None:
    pair.there.write(worker.hello(cloudpickle))
    await pair.held.greet()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"version": 2}, "version 2 of calls"),
        ({"python": "3.4"}, "cpython 3.4"),
        ({"implementation": "pypy"}, "pypy"),
        ({"cloudpickle": "2.1.0"}, "cloudpickle 2.1.0"),
    ],
)
def test_what_does_not_fit_is_said(changes: dict[str, Any], why: str) -> None:
    assert why in misfit(msgspec.structs.replace(HERE, **changes))
    assert bool(why) is bool(misfit(msgspec.structs.replace(HERE, **changes)))
