"""Leads to the declared ports of a job, from inside its sandbox: of the job's user, under its limits, in its network, which is loopback.

It runs as `python -I -S -c THIS DOOR RESULT PORTS LIBRARY_PATH COMMAND…`, for jobs that declare ports only; see `agent_start`.

DOOR is a Unix socket that listens already; the node outside knows its name. Who connects says two bytes, the port, and hears one, whether something
listens there. Then bytes are carried both ways. Of each direction at most one piece is held.
"""

import errno
import select
import socket
import struct
import sys

from dms.executors.sandbox.agent_start import start

PORT = struct.Struct(">H")
OPEN, NOT_LISTENING, UNDECLARED, BUSY = b"\0", b"\1", b"\2", b"\3"
CALLS = 0
"""In place of a port: what takes calls, where that has the door (`dms.executors.python.worker`)."""
PIECE = 65536
MOST = 256
"""Connections at a time."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER by which a socket is closed as broken off."""
IN, OUT, HUP, ERR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP, select.EPOLLERR


class End:
    """One of the two sockets of a link.

    Attributes:
        rest: what the other end has sent and this one has not taken yet.
        has_ended: it will send nothing more.
        is_gone: nor will it ever read.
        interest: what epoll was told.
    """

    __slots__ = ("fd", "has_ended", "interest", "is_gone", "rest", "socket")

    def __init__(self, of: socket.socket) -> None:
        of.setblocking(False)
        self.socket = of
        self.fd = of.fileno()
        self.rest = memoryview(b"")
        self.has_ended = self.is_gone = False
        self.interest = 0


class Link:
    """A connection from outside and the one inside that it leads to. `far` is None until the port is known."""

    __slots__ = ("far", "is_open", "near")

    def __init__(self, near: End) -> None:
        self.near = near
        self.far: End | None = None
        self.is_open = False


class Agent:
    """Everything that is carried."""

    def __init__(self, door: socket.socket, ports: frozenset[int]) -> None:
        self.door = door
        self.ports = ports
        self.poll = select.epoll()
        self.links: dict[int, tuple[Link, End]] = {}
        door.setblocking(False)
        self.poll.register(door, IN)

    def serve(self) -> None:
        """Until it is killed."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Waits for events and handles them. What has ended in this turn gets none, even if its descriptor is in use again."""
        for found, events in [(self.links.get(fd), events) for fd, events in self.poll.poll()]:
            if found is None:
                self._accept()
                continue
            link, end = found
            if self.links.get(end.fd) is not found:
                continue
            try:
                self._on_events(link, end, events)
            except OSError:
                self._end(link)

    def _accept(self) -> None:
        try:
            accepted = self.door.accept()[0]
        except OSError:  # it went away, or this process has too many descriptors
            return
        if len(self.links) >= 2 * MOST:
            refuse(accepted, BUSY)
            return
        end = End(accepted)
        self.links[end.fd] = (Link(end), end)
        self._want(end, IN)

    def _on_events(self, link: Link, end: End, events: int) -> None:
        if link.far is None:
            self._read_port(link)
            return
        if not link.is_open:
            self._on_connected(link, end)
            return
        other = link.far if end is link.near else link.near
        if events & OUT:
            push(end)
        if events & (IN | HUP | ERR) and not end.has_ended and not other.rest:
            self._pull(end, other, is_gone=bool(events & HUP))
        if (end.has_ended and other.has_ended and not end.rest and not other.rest) or (
            link.near.is_gone and not link.far.rest
        ):
            self._end(link, is_clean=True)
            return
        for one, its_other in ((link.near, link.far), (link.far, link.near)):
            self._want(one, (OUT if one.rest else 0) | (0 if one.has_ended or its_other.rest else IN))

    def _read_port(self, link: Link) -> None:
        (port,) = PORT.unpack(link.near.socket.recv(PORT.size).ljust(PORT.size, b"\0"))
        if port not in self.ports:
            del self.links[link.near.fd]
            refuse(link.near.socket, UNDECLARED)
            return
        link.far = End(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        link.far.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.links[link.far.fd] = (link, link.far)
        self._want(link.near, 0)
        failed = link.far.socket.connect_ex(("127.0.0.1", port))
        if failed in (0, errno.EINPROGRESS):
            self._want(link.far, OUT)
        else:
            self._refuse_port(link)

    def _on_connected(self, link: Link, end: End) -> None:
        if end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._refuse_port(link)
            return
        link.is_open = True
        link.near.socket.send(OPEN)
        self._want(link.near, IN)
        self._want(end, IN)

    def _refuse_port(self, link: Link) -> None:
        link.near.socket.send(NOT_LISTENING)
        self._end(link, is_clean=True)

    def _pull(self, source: End, sink: End, *, is_gone: bool) -> None:
        data = source.socket.recv(PIECE)
        if data:
            sink.rest = memoryview(data)
            push(sink)
        else:
            source.has_ended, source.is_gone = True, is_gone
            sink.socket.shutdown(socket.SHUT_WR)

    def _want(self, end: End, interest: int) -> None:
        if interest == end.interest:
            return
        if not end.interest:
            self.poll.register(end.fd, interest)
        elif interest:
            self.poll.modify(end.fd, interest)
        else:
            self.poll.unregister(end.fd)
        end.interest = interest

    def _end(self, link: Link, *, is_clean: bool = False) -> None:
        for end in (link.near, link.far):
            if end is not None and self.links.pop(end.fd, None) is not None:
                if not is_clean and end is link.far:
                    end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.socket.close()


def push(sink: End) -> None:
    """Writes what waits for it, as far as it takes it now."""
    try:
        while sink.rest:
            sink.rest = sink.rest[sink.socket.send(sink.rest) :]
    except BlockingIOError:
        return


def refuse(connection: socket.socket, why: bytes) -> None:
    """Says why, and closes."""
    with connection:
        connection.send(why)


def main(arguments: list[str]) -> None:
    """Becomes the command, and leaves the agent behind."""
    door, result, ports, library_path, *command = arguments

    def serve() -> None:
        Agent(socket.socket(fileno=int(door)), frozenset(map(int, ports.split(",")))).serve()

    start(serve, command, library_path, int(door), int(result))


if __name__ == "__main__":
    main(sys.argv[1:])
