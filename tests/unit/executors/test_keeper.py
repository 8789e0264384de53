"""What keeps a job's names, against a program that connects faster than its node decides."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dms.executors.sandbox import keeper, keeper_main

CONNECTIONS = 20
PATIENCE_S = 30.0


@contextmanager
def serving(keeper: keeper_main.Keeper) -> Iterator[None]:
    """In a thread, until the end of the context, which is that of the run."""
    run, over = os.pipe()
    thread = threading.Thread(target=keeper.serve, args=(run,))
    thread.start()
    try:
        yield
    finally:
        os.close(over)
        thread.join(PATIENCE_S)
        os.close(run)
        for node, _ in keeper.asked.values():
            node.close()


def test_a_connection_beyond_those_that_wait_for_the_node_is_taken_later_and_not_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_main, "MOST", 2)
    with ExitStack() as stack:
        node = stack.enter_context(socket.socket(socket.AF_UNIX))
        node.bind(str(tmp_path / "door"))
        node.listen(CONNECTIONS)
        node.settimeout(PATIENCE_S)
        way = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS))
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection(way.getsockname(), PATIENCE_S))
        stack.enter_context(serving(keeper_main.Keeper({way: "1.job.internal:80"}, str(tmp_path / "door"), "a", -1)))
        waiting = [stack.enter_context(node.accept()[0]) for _ in range(2)]
        for taken in range(CONNECTIONS):
            keeper = waiting.pop(0)
            said, (connection,), _, _ = socket.recv_fds(keeper, 64, 1)
            os.close(connection)
            assert said == b"a 1.job.internal:80"
            keeper.close()
            if taken < CONNECTIONS - 2:
                waiting.append(stack.enter_context(node.accept()[0]))


@contextmanager
def no_more_files() -> Iterator[None]:
    """No descriptor is given any more, to whoever asks in this process."""
    opened, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened, most))


async def test_where_no_more_files_can_be_opened_the_node_rests_says_so_once_and_takes_what_waits_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was woken for the same connection as fast as it could turn."""
    monkeypatch.setattr(keeper, "REST_S", 0.01)
    led = asyncio.Event()

    async def lead(_name: str, _way: object, end: socket.socket) -> None:
        end.close()
        led.set()

    keepers = keeper.Keepers(lead)
    keepers.listen(tmp_path)
    given, kept = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as asking, given, kept:
        asking.connect(str(tmp_path / keeper.DOOR))
        socket.send_fds(asking, [b"a 1.job.internal:80"], [given.fileno()])
        with no_more_files():
            keepers._accept()
            assert not asyncio.get_running_loop().remove_reader(keepers._door)  # nobody is woken for it
            keepers._rest(OSError(errno.EMFILE, "again"))
        async with asyncio.timeout(PATIENCE_S):
            await led.wait()
    await keepers.close()
    assert caplog.text.count("the node needs more open files") == 1


def test_a_keeper_without_descriptors_tells_the_job_and_leaves_the_connection_waiting(tmp_path: Path) -> None:
    read, write = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as way, socket.create_connection(way.getsockname(), PATIENCE_S) as one:
        kept = keeper_main.Keeper({way: "1.job.internal:80"}, str(tmp_path / "door"), "a", write)
        with no_more_files():
            kept._accept(way, "1.job.internal:80")
            kept._accept(way, "1.job.internal:80")
        os.close(write)
        with os.fdopen(read, "rb") as told:
            assert told.read() == b"dms: a connection to 1.job.internal:80 waits: Too many open files\n"
        way.accept()[0].close()
        assert one.recv(1) == b""


def test_a_keeper_that_can_open_nothing_for_the_node_breaks_the_connection_off_and_goes_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as way, socket.create_connection(way.getsockname(), PATIENCE_S):
        kept = keeper_main.Keeper({way: "1.job.internal:80"}, str(tmp_path / "door"), "a", -1)
        with way.accept()[0] as connection, no_more_files():
            assert not kept._hand_over(connection, "1.job.internal:80")


def test_what_another_node_says_is_one_line_of_text_in_the_job_s_log(tmp_path: Path) -> None:
    read, write = os.pipe()
    ours, theirs = socket.socketpair()
    kept = keeper_main.Keeper({}, str(tmp_path / "door"), "a", write)
    kept.asked[ours.fileno()] = (ours, "1.job.internal:80")
    kept.poll.register(ours)
    with theirs:
        theirs.send("no\x1b]0;owned\x07\ndms: all is well, päth".encode())
        kept._hear(ours, "1.job.internal:80")
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as told:
        assert told.read() == "dms: no connection to 1.job.internal:80: no?]0;owned??dms: all is well, päth\n"
