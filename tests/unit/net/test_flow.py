"""A served tunnel and the job that it leads to: what was said last arrives, and no peer keeps the tunnel once the job is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset

from dms.net.flow import LAST_S, Flow
from dms.net.guards.yamux_stream import SafeStream
from dms.testing.yamux_pairs import RecordingHooks, safe, yamux_pair

pytestmark = pytest.mark.libp2p
LAST_WORDS = os.urandom(150_000)
Play = Callable[[SafeStream, trio.SocketStream, trio.Event], Awaitable[None]]


def serve(play: Play) -> str:
    """Plays with the peer's stream, the job's end and an event that the tunnel is over; gives why it was. Time passes while all wait."""
    whys = []

    async def main() -> None:
        make = safe(RecordingHooks())
        given, kept = socket.socketpair()
        given.setblocking(False)
        with trio.fail_after(10 * LAST_S), given:
            async with (
                trio.SocketStream(trio.socket.from_stdlib_socket(kept)) as job,
                yamux_pair(make, make) as (a, b),
                trio.open_nursery() as nursery,
            ):
                peer, ours = await a.open_stream(), await b.accept_stream()
                is_over = trio.Event()

                async def run() -> None:
                    whys.append(await Flow(ours, given, is_served=True).run())
                    ours.break_off()
                    is_over.set()

                nursery.start_soon(run)
                await play(peer, job, is_over)
                await is_over.wait()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))
    return whys[0]


async def read_to_end(stream: SafeStream) -> bytes:
    data = b""
    try:
        while True:
            data += await stream.read(65_536)
    except MuxedStreamEOF:
        return data


def test_a_peer_that_never_ends_its_side_keeps_no_tunnel_to_a_job_that_is_gone() -> None:
    async def play(peer: SafeStream, job: trio.SocketStream, _is_over: trio.Event) -> None:
        await job.send_all(b"bye")
        await job.aclose()
        assert await read_to_end(peer) == b"bye"

    assert serve(play) == "what it led to is gone"


def test_nor_does_one_that_takes_nothing() -> None:
    async def play(peer: SafeStream, job: trio.SocketStream, is_over: trio.Event) -> None:
        await job.send_all(bytes(400_000))
        await job.aclose()
        await is_over.wait()
        with pytest.raises(MuxedStreamReset):
            await read_to_end(peer)

    assert serve(play) == "what it led to is gone"


def test_nor_one_that_has_ended_its_side_before_and_takes_nothing() -> None:
    async def play(peer: SafeStream, job: trio.SocketStream, _is_over: trio.Event) -> None:
        await peer.close()
        await job.send_all(bytes(400_000))
        await job.aclose()

    assert serve(play) == "what it led to is gone"


def test_the_last_bytes_arrive_at_who_takes_them_late_and_was_speaking_at_the_time() -> None:
    async def play(peer: SafeStream, job: trio.SocketStream, _is_over: trio.Event) -> None:
        await peer.write(bytes(400_000))  # the job reads none of it
        await job.send_all(LAST_WORDS)
        await job.aclose()
        await trio.sleep(LAST_S / 2)
        assert await read_to_end(peer) == LAST_WORDS
        await peer.close()

    assert serve(play) == ""


def test_a_job_that_has_only_ended_its_output_is_not_gone() -> None:
    async def play(peer: SafeStream, job: trio.SocketStream, _is_over: trio.Event) -> None:
        await job.send_eof()
        assert await read_to_end(peer) == b""
        await trio.sleep(2 * LAST_S)
        await peer.write(b"still heard")
        await peer.close()
        assert await job.receive_some() == b"still heard"

    assert serve(play) == ""
