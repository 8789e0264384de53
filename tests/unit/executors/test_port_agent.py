"""The agent inside a sandbox, without a sandbox: what its turns do to its connections."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dms.executors.sandbox import door, port_agent

PATIENCE_S = 20.0


class Bench:
    """An agent that takes a turn when it is told to, a server it leads to, and who connects from outside."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._path = str(directory / "a-1.door")
        listener = stack.enter_context(door.listen(directory, "a-1"))
        self._server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._server.settimeout(PATIENCE_S)
        self._port: int = self._server.getsockname()[1]
        self.agent = port_agent.Agent(listener, frozenset([self._port]))

    def knock(self) -> socket.socket:
        """Somebody connects, and says nothing yet."""
        client = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        client.settimeout(PATIENCE_S)
        client.connect(self._path)
        return client

    def ask(self, client: socket.socket) -> socket.socket:
        """Says the port, once let in; gives the server's end."""
        client.sendall(port_agent.PORT.pack(self._port))
        self.agent.turn()
        self.agent.turn()
        assert client.recv(1) == port_agent.OPEN
        return self._stack.enter_context(self._server.accept()[0])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        bench = Bench(tmp_path, stack)
        yield bench
        for link, _ in list(bench.agent.links.values()):
            bench.agent._end(link)
        bench.agent.poll.close()


def test_events_of_a_connection_that_has_ended_are_not_those_of_one_that_has_its_number_now(bench: Bench) -> None:
    """In one turn: the server breaks off a connection, somebody else connects and gets its descriptor, and its own client says more."""
    first = bench.knock()
    bench.agent.turn()
    served = bench.ask(first)
    ((_, near), (_, far)) = bench.agent.links.values()
    served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, port_agent.RESET)
    served.close()
    assert select.select([far.socket], [], [], PATIENCE_S)[0]
    second = bench.knock()
    first.sendall(b"more")
    number = near.fd
    bench.agent.turn()
    assert [end.fd for _, end in bench.agent.links.values()] == [number]
    bench.ask(second).sendall(b"hello")
    bench.agent.turn()
    assert second.recv(5, socket.MSG_WAITALL) == b"hello"
