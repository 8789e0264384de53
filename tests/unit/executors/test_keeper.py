"""What keeps a job's names, against a program that connects faster than its node decides."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dms.executors.sandbox import keeper_main

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
