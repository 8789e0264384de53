"""Keeps the ports at which a job finds its siblings, outside of its sandbox, and hands each connection to the node. It outlives the node.

It runs as `python -I -S keeper_main.py CONTROL RUN LOG DOOR NAME WAYS`, uses the standard library only, and has one thread. On CONTROL it gets the
listening sockets, from `ports_start`; RUN is a pidfd of the run, with which it ends; LOG is the job's standard error. WAYS says what each is for,
"1.job.internal:8080,2.job.internal:8080". DOOR is a Unix socket of the node's: it is told NAME and way, and given the connection. What it
answers is why there is none; then, and while no node is there, the program finds its connection broken off.

What this does is not in what the run may use. So a program that connects in a loop waits in its own queue, and gets no processor of this.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import time

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER by which a socket is closed as broken off."""
MOST = 64
"""Connections about which the node has not decided; the next ones are not taken yet."""
AWAY_S = 0.05
"""Seconds before the next one is taken while no node is there, or no descriptor is left."""
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Why no connection can be taken now: it stays, and would be reported for ever."""
MOST_TOLD = 32
"""Lines in the job's log."""
MAX_WHY = 1024
MAX_FDS = 253


class Keeper:
    """Everything that is kept, by descriptor: listening sockets, and what the node was asked."""

    def __init__(self, ways: dict[socket.socket, str], door: str, name: str, log: int) -> None:
        self.ways = {listener.fileno(): (listener, way) for listener, way in ways.items()}
        self.asked: dict[int, tuple[socket.socket, str]] = {}
        self.told: set[str] = set()
        self.door, self.name, self.log = door, name, log
        self.poll = select.poll()
        for listener in ways:
            listener.setblocking(False)
            self.poll.register(listener, select.POLLIN)

    def serve(self, run: int) -> None:
        """Until the run is over."""
        self.poll.register(run, select.POLLIN)
        while True:
            for fd, _ in self.poll.poll():
                if fd == run:
                    return
                if fd in self.ways and len(self.asked) < MOST:
                    self._accept(*self.ways[fd])
                elif fd in self.asked:
                    self._hear(*self.asked[fd])

    def _accept(self, listener: socket.socket, way: str) -> None:
        try:
            connection = listener.accept()[0]
        except OSError as error:
            if error.errno in FULL:
                self._tell(f"dms: a connection to {way} waits: {error.strerror}\n")
                time.sleep(AWAY_S)
            return  # else it went away
        with connection:
            if not self._hand_over(connection, way):
                break_off(connection)
                time.sleep(AWAY_S)
        if len(self.asked) == MOST:
            self._listen(0)

    def _listen(self, events: int) -> None:
        for listener, _ in self.ways.values():
            self.poll.modify(listener, events)

    def _hand_over(self, connection: socket.socket, way: str) -> bool:
        try:
            node = socket.socket(socket.AF_UNIX)
        except OSError:  # too many files are open
            return False
        try:
            node.setblocking(False)
            node.connect(self.door)
            socket.send_fds(node, [f"{self.name} {way}".encode()], [connection.fileno()])
        except OSError:
            node.close()
            return False
        self.asked[node.fileno()] = (node, way)
        self.poll.register(node, select.POLLIN)
        return True

    def _hear(self, node: socket.socket, way: str) -> None:
        why = b""
        with contextlib.suppress(OSError):
            why = node.recv(MAX_WHY)
        self.poll.unregister(node)
        del self.asked[node.fileno()]
        node.close()
        self._listen(select.POLLIN)
        if why:
            self._tell(f"dms: no connection to {way}: {one_line(why)}\n")

    def _tell(self, line: str) -> None:
        if line not in self.told and len(self.told) < MOST_TOLD:
            self.told.add(line)
            with contextlib.suppress(OSError):
                os.write(self.log, line.encode())


def one_line(said: bytes) -> str:
    """What another node may have said, as it can stand among the lines of a log that somebody's terminal shows."""
    return "".join(char if char.isprintable() else "?" for char in said.decode(errors="replace"))


def break_off(connection: socket.socket) -> None:
    """Closes it as broken off, and not as ended."""
    with connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def main(arguments: list[str]) -> None:
    """Takes the sockets, and serves until the run is over."""
    control, run, log, door, name, ways = arguments
    with socket.socket(fileno=int(control)) as starter:
        _, handed, _, _ = socket.recv_fds(starter, 1, MAX_FDS)
    if handed:  # none: the run ended before it began
        listeners = [socket.socket(fileno=fd) for fd in handed]
        place = os.open(os.path.dirname(door), os.O_PATH | os.O_DIRECTORY)  # noqa: PTH120 - pathlib would double this process
        short = f"/proc/self/fd/{place}/{os.path.basename(door)}"  # noqa: PTH119 - as above; the kernel takes 107 bytes
        Keeper(dict(zip(listeners, ways.split(","), strict=True)), short, name, int(log)).serve(int(run))


if __name__ == "__main__":
    main(sys.argv[1:])
