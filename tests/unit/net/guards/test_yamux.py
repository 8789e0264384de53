"""The multiplexer against its faults: each test names what libp2p's own does (`stock`) and what ours must do (`safe`)."""

from __future__ import annotations

import os
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamError, MuxedStreamReset

from dms.net.guards.yamux import MAX_INBOUND_STREAMS, SafeYamux
from dms.net.guards.yamux_stream import SafeStream
from dms.testing.yamux_pairs import RecordingHooks, safe, stock, yamux_pair

pytestmark = pytest.mark.libp2p
SYN, FIN, RST = 1, 4, 8
DATA, WINDOW, PING = 0, 1, 2


def header(kind: int, flags: int, stream_id: int, length: int, version: int = 0) -> bytes:
    return struct.pack(">BBHII", version, kind, flags, stream_id, length)


def raw(conn: SafeYamux, data: bytes) -> None:
    """Sends bytes as if the multiplexer had made them."""
    conn._append(data)
    conn.flush()


def run(
    play: Callable[[Any, Any], Awaitable[None]], *, hooks: RecordingHooks | None = None, both: str = "safe"
) -> None:
    """Plays on a pair; the test fails if anything takes 20 s."""

    async def main() -> None:
        make = stock if both == "stock" else safe(hooks or RecordingHooks())
        make_first = make if both == "stock" else safe(RecordingHooks())
        with trio.fail_after(20):
            async with yamux_pair(make_first, make) as (a, b):
                await play(a, b)

    trio.run(main)


async def opened(a: Any, b: Any) -> tuple[Any, Any]:
    out = await a.open_stream()
    return out, await b.accept_stream()


async def read_all(stream: Any, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await stream.read(65536)
    return bytes(data)


def test_bytes_pass_both_ways_and_ends_are_told() -> None:
    async def play(a: SafeYamux, b: SafeYamux) -> None:
        out, into = await opened(a, b)
        data = os.urandom(700_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.write, data)
            assert await read_all(into, len(data)) == data
        await into.write(b"thanks")
        assert await out.read(3) == b"tha"
        assert await out.read(None) == b"nks"
        await out.close()
        with pytest.raises(MuxedStreamEOF):
            await into.read(1)
        await into.write(b"half open")
        assert await out.read(100) == b"half open"
        await into.close()
        with pytest.raises(MuxedStreamEOF):
            await out.read(1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not a.streams
        assert not b.streams

    run(play)


def test_a_reset_reaches_the_other_side() -> None:
    async def play(a: SafeYamux, b: SafeYamux) -> None:
        out, into = await opened(a, b)
        await out.reset()
        with pytest.raises(MuxedStreamReset):
            await into.read(1)
        with pytest.raises(MuxedStreamError):
            await into.write(b"x")
        assert not a.streams

    run(play)


def test_the_end_of_a_connection_breaks_its_streams_instead_of_ending_them() -> None:
    async def play(a: SafeYamux, b: SafeYamux) -> None:
        _, into = await opened(a, b)
        a.shut("test")
        with pytest.raises(MuxedStreamReset):
            await into.read(1)
        with pytest.raises(MuxedConnUnavailable):
            await b.accept_stream()
        with pytest.raises(MuxedStreamError):
            await b.open_stream()

    run(play)


@pytest.mark.parametrize("both", ["safe", "stock"])
def test_cancelled_writes_leave_the_connection_intact(both: str) -> None:
    survived: list[bool] = []

    async def play(a: Any, b: Any) -> None:
        async def drain(stream: Any) -> None:
            try:
                while True:
                    await stream.read(65536)
            except MuxedStreamError:
                pass

        async with trio.open_nursery() as nursery:
            for attempt in range(60):
                out, into = await opened(a, b)
                nursery.start_soon(drain, into)
                with trio.move_on_after(0.0005 * (attempt % 5)):
                    await out.write(os.urandom(150_000))
                await out.reset()
            out, into = await opened(a, b)
            await out.write(b"still here")
            survived.append(await into.read(10) == b"still here")
            nursery.cancel_scope.cancel()

    if both == "safe":
        run(play)
        assert survived == [True]
    else:  # dead within 60 tries: something raises, or nothing comes any more
        with pytest.raises(BaseException):  # noqa: B017, PT011
            _briefly(play)
        assert survived == []


def _briefly(play: Callable[[Any, Any], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(4):
            async with yamux_pair(stock, stock) as (a, b):
                await play(a, b)

    trio.run(main)


@pytest.mark.parametrize("both", ["safe", "stock"])
def test_two_tasks_writing_to_one_stream_do_not_mix(both: str) -> None:
    async def play(a: Any, b: Any) -> None:
        out, into = await opened(a, b)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.write, b"a" * 200_000)
            nursery.start_soon(out.write, b"b" * 200_000)
            data = await read_all(into, 400_000)
        whole = data in (b"a" * 200_000 + b"b" * 200_000, b"b" * 200_000 + b"a" * 200_000)
        assert whole is (both == "safe")

    run(play, both=both)


@pytest.mark.parametrize("both", ["safe", "stock"])
def test_a_reader_that_pauses_longer_than_5_s_only_slows_its_writer(both: str) -> None:
    outcome: list[str] = []

    async def main() -> None:
        make = stock if both == "stock" else safe(RecordingHooks())
        async with yamux_pair(make, make) as (a, b):
            out, into = await opened(a, b)

            async def write() -> None:
                try:
                    await out.write(bytes(1_000_000))
                    outcome.append("written")
                except MuxedStreamError:
                    outcome.append("given up")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await trio.sleep(8)
                while not outcome:
                    with trio.move_on_after(1):
                        await into.read(65536)

    threshold = 0.05 if both == "safe" else 0.001  # the stock writer polls each 10 ms, each of which is a jump
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=threshold))
    assert outcome == (["written"] if both == "safe" else ["given up"])


@pytest.mark.parametrize("victim", ["safe", "stock"])
def test_a_peer_that_ignores_its_window_cannot_fill_our_memory(victim: str) -> None:
    hooks = RecordingHooks()
    flood = 4 * 1024 * 1024

    async def main() -> None:
        with trio.fail_after(20):
            async with yamux_pair(safe(RecordingHooks()), stock if victim == "stock" else safe(hooks)) as (a, b):
                out, into = await opened(a, b)
                for _ in range(flood // 65536):
                    if a.is_closed:
                        break
                    raw(a, header(DATA, 0, out.stream_id, 65536) + bytes(65536))
                    await a.wait_room()
                await trio.testing.wait_all_tasks_blocked(0.1)
                if victim == "stock":
                    assert len(b.stream_buffers[into.stream_id]) >= flood - 65536
                else:
                    assert b.is_closed
                    assert len(into._arrived) <= 256 * 1024

    trio.run(main)
    assert hooks.refusals == (["refused.window"] if victim == "safe" else [])


@pytest.mark.parametrize(
    "frame",
    [
        header(DATA, 0, 1, 0, version=1),
        header(9, 0, 0, 0),
        header(WINDOW, SYN, 2, 0),
        header(WINDOW, SYN, 0, 0),
        header(WINDOW, SYN, 1, 0) + header(WINDOW, SYN, 1, 0),
        header(DATA, SYN | FIN, 1, 1) + b"x" + header(DATA, 0, 1, 1) + b"y",
        header(DATA, 0, 99, 0xFFFFFFFF),
    ],
    ids=["version", "type", "our number", "number 0", "opened twice", "data after the end", "4 GB announced"],
)
def test_a_frame_against_the_rules_ends_the_connection(frame: bytes) -> None:
    hooks = RecordingHooks()

    async def play(a: SafeYamux, b: SafeYamux) -> None:
        raw(a, frame)
        await b.event_closed.wait()
        await a.event_closed.wait()

    run(play, hooks=hooks)
    assert len(hooks.refusals) == 1
    assert hooks.crashes == []


def test_bytes_that_are_not_authentic_end_the_connection() -> None:
    hooks = RecordingHooks()

    async def play(a: SafeYamux, b: SafeYamux) -> None:
        os.write(a._socket.fileno(), b"\x00\x20" + os.urandom(32))
        await b.event_closed.wait()

    run(play, hooks=hooks)
    assert hooks.refusals == ["refused.muxer"]


def test_frames_may_be_cut_anywhere() -> None:
    async def play(a: SafeYamux, b: SafeYamux) -> None:
        stream = header(WINDOW, SYN, 1, 0) + header(DATA, 0, 1, 5) + b"hello" + header(DATA, FIN, 1, 2) + b"!?"
        for byte in stream:
            raw(a, bytes([byte]))
        into = await b.accept_stream()
        assert await read_all(into, 7) == b"hello!?"
        with pytest.raises(MuxedStreamEOF):
            await into.read(1)

    run(play)


def test_a_flood_of_streams_is_reset_and_others_are_served() -> None:
    async def play(a: SafeYamux, b: SafeYamux) -> None:
        first, into = await opened(a, b)
        for number in range(1000):
            raw(a, header(WINDOW, SYN, 101 + 2 * number, 0))
        await first.write(b"me too")
        assert await into.read(6) == b"me too"
        assert len(b.streams) == MAX_INBOUND_STREAMS
        assert not b.is_closed

    run(play)


def test_streams_that_end_make_room() -> None:
    async def play(a: SafeYamux, b: SafeYamux) -> None:
        for _ in range(3 * MAX_INBOUND_STREAMS):
            out, into = await opened(a, b)
            await out.close()
            with pytest.raises(MuxedStreamEOF):
                await into.read(1)
            await into.close()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not a.streams
        assert not b.streams
        assert b._inbound == 0

    run(play)


def test_all_that_wait_for_room_go_on_when_there_is_some() -> None:
    """Each further one made an event of its own and threw away that of those before: they waited for ever."""

    async def play(a: SafeYamux, b: SafeYamux) -> None:
        pairs = [await opened(a, b) for _ in range(4)]
        size = 2 * 1024 * 1024
        received = []

        async def take(into: SafeStream) -> None:
            left = size
            while left:
                left -= len(await into.read())
            received.append(into.stream_id)

        async with trio.open_nursery() as nursery:
            for out, into in pairs:
                nursery.start_soon(out.write, bytes(size))
                nursery.start_soon(take, into)
        assert len(received) == len(pairs)

    run(play)


def test_a_peer_that_provokes_answers_and_reads_none_is_closed() -> None:
    hooks = RecordingHooks()

    async def play(a: SafeYamux, b: SafeYamux) -> None:
        a._wire.stream.receive_some = _never  # type: ignore[method-assign, assignment]
        pings = header(PING, SYN, 0, 7) * 5000
        with trio.move_on_after(15):
            while not b.is_closed:
                raw(a, pings)
                await a.wait_room()
        assert b.is_closed

    run(play, hooks=hooks)
    assert hooks.refusals == ["refused.stalled"]


async def _never(_size: int = 0) -> bytes:
    await trio.sleep_forever()
    return b""


def test_a_peer_that_takes_nothing_is_closed_after_the_stall_limit() -> None:
    hooks = RecordingHooks(stall_s=0.2)

    async def play(a: SafeYamux, b: SafeYamux) -> None:
        a._wire.stream.receive_some = _never  # type: ignore[method-assign, assignment]
        out = await a.open_stream()
        into = await b.accept_stream()
        raw(a, header(WINDOW, 0, out.stream_id, 2**30))
        with pytest.raises(MuxedStreamReset):
            await into.write(bytes(64 * 1024 * 1024))
        assert b.is_closed

    run(play, hooks=hooks)
    assert hooks.refusals == ["refused.stalled"]


def test_a_wider_window_lets_more_under_way() -> None:
    async def play(a: SafeYamux, b: SafeYamux) -> None:
        out, into = await opened(a, b)
        into.widen(2 * 1024 * 1024)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(5):
            await out.write(bytes(2 * 1024 * 1024))
        assert len(await read_all(into, 2 * 1024 * 1024)) == 2 * 1024 * 1024

    run(play)


def test_a_peer_that_fills_many_windows_is_closed_before_they_are_all_full() -> None:
    hooks = RecordingHooks()

    async def play(a: SafeYamux, b: SafeYamux) -> None:
        async def fill() -> None:
            for _ in range(MAX_INBOUND_STREAMS):
                out = await a.open_stream()
                await out.write(bytes(200_000))
                await a.wait_room()

        with pytest.raises(MuxedStreamError):
            await fill()
        assert b.is_closed

    run(play, hooks=hooks)
    assert hooks.refusals == ["refused.window"]


def test_what_is_read_or_reset_no_longer_counts_as_unread() -> None:
    async def play(a: SafeYamux, b: SafeYamux) -> None:
        for turn in range(100):
            out, into = await opened(a, b)
            await out.write(bytes(200_000))
            if turn % 2:
                await read_all(into, 200_000)
            await into.reset()
        assert b._unread == 0

    run(play)


def test_a_wide_window_and_a_slow_socket_hold_the_writer_back_and_wake_it() -> None:
    hooks = RecordingHooks()

    async def play(a: SafeYamux, b: SafeYamux) -> None:
        out, into = await opened(a, b)
        raw(b, header(WINDOW, 0, out.stream_id, 64 * 1024 * 1024))
        await trio.testing.wait_all_tasks_blocked(0.05)
        rest = memoryview(os.urandom(8 * 1024 * 1024))
        finished = trio.Event()

        def pump() -> None:
            nonlocal rest
            rest = rest[out.write_some(rest) :]
            a.flush()
            assert a.waiting < 1024 * 1024
            if not rest:
                finished.set()

        into.receive_left = 2**30  # it really gave that window
        out.on_change = pump
        expected = bytes(rest)
        pump()
        assert rest
        assert await read_all(into, len(expected)) == expected
        assert finished.is_set()

    run(play, hooks=hooks)


def test_the_stock_multiplexer_and_ours_understand_each_other() -> None:
    async def main() -> None:
        with trio.fail_after(20):
            async with yamux_pair(safe(RecordingHooks()), stock) as (a, b):
                out, into = await opened(a, b)
                data = os.urandom(1_000_000)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(out.write, data)
                    assert await read_all(into, len(data)) == data
                    nursery.start_soon(into.write, data)
                    assert await read_all(out, len(data)) == data

    trio.run(main)
