from __future__ import annotations

import asyncio
import select
import socket

import pytest

from dms.executors.cluster import tethered
from dms.executors.cluster.tethered import carried

PATIENCE_S = 30.0


def joined_by_tcp() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection over loopback; neither blocks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for end in (one, other):
        end.setblocking(False)
    return one, other


def is_gone(end: socket.socket) -> bool:
    """Whether the other end is wholly, as whoever serves a tunnel looks at it."""
    poll = select.poll()
    poll.register(end.fileno(), 0)
    return bool(poll.poll(0))


async def test_what_has_gone_in_the_job_is_gone_for_the_node_once_its_last_words_were_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of a socket in a job tells of itself; over TCP one that is half ended looks like one that is."""
    monkeypatch.setattr(tethered, "LOOK_S", 0.01)
    monkeypatch.setattr(tethered, "LAST_S", 0.01)
    job, inside = socket.socketpair()
    there, node = joined_by_tcp()
    loop = asyncio.get_running_loop()
    with node:
        carrying = asyncio.create_task(carried(inside, there))
        job.sendall(b"last words")
        job.close()
        async with asyncio.timeout(PATIENCE_S):
            assert await loop.sock_recv(node, 100) == b"last words"
            await carrying
            while not is_gone(node):  # noqa: ASYNC110 - the kernel tells it in its own time
                await asyncio.sleep(0.01)


async def test_each_direction_ends_by_itself() -> None:
    job, inside = socket.socketpair()
    there, node = joined_by_tcp()
    job.setblocking(False)
    loop = asyncio.get_running_loop()
    with node, job:
        carrying = asyncio.create_task(carried(inside, there))
        node.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(PATIENCE_S):
            assert await loop.sock_recv(job, 100) == b""
            await loop.sock_sendall(job, b"answer")
            job.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(node, 100) == b"answer"
            assert await loop.sock_recv(node, 100) == b""
            await carrying
