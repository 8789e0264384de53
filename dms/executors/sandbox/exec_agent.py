"""Runs commands beside a job, from inside its sandbox: of the job's user, under its limits and its filter, in its namespaces, with its environment.

It runs as `python -I -S -c THIS DOOR RESULT LIBRARY_PATH COMMAND…`, for jobs that allow it only; see `agent_start`. So it is below the job's limits
from its first moment on, and can give nobody more than the job has.

DOOR is a Unix socket that listens already; the node outside knows its name. Who connects says an order (`HEAD`, then words with zero bytes between:
what TERM shall say, and the command), and hears one byte. Then both sides say frames (`FRAME` and so many bytes). Each connection has a process
of its own, so who does not read holds up nobody but its own command.
"""

import fcntl
import os
import select
import signal
import socket
import struct
import sys
import termios

from dms.executors.sandbox.agent_start import ASKED_TO_STOP, NOT_FOUND, environment_given, start

HEAD = struct.Struct(">IHH")
"""Bytes of the words, and rows and columns of the terminal: no rows, no terminal."""
FRAME = struct.Struct(">BI")
INPUT, INPUT_END, SIZE, SIGNAL = range(4)
"""What the one who asked says: bytes for the command, that there are no more, rows and columns, the number of a signal."""
OUTPUT, ERRORS, EXIT = range(4, 7)
"""What it hears: bytes of the command, and in the end its exit code."""
OPEN, BUSY = b"\0", b"\1"
MOST = 8
"""Sessions at a time."""
PIECE = 32768
MOST_FRAME = 131072
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
ORDER_S = 10.0
"""Seconds in which an order has to come: the sessions are few, and each holds a place."""
LEAVE_S = 2.0
"""Seconds a command has to end in when who asked for it has gone."""
LAST_S = 30.0
"""Seconds in which the last frame has to be taken."""
NOT_EXECUTABLE = 126


class Session:
    """One command and who asked for it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.command = -1
        self.terminal = -1
        self.input = -1
        self.outputs: dict[int, int] = {}
        self.heard = bytearray()
        self.to_command = bytearray()
        self.to_asker = bytearray()
        self.is_input_over = False
        self.is_alone = False
        self.code: int | None = None
        self.wake, woken = os.pipe()
        for end in (self.wake, woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    # ---------------------------------------------------------------------------------------------------------- starting

    def start(self, words: list[bytes], rows: int, columns: int, environment: dict[bytes, bytes]) -> None:
        """Starts the command."""
        term, *command = words
        if rows:
            self.terminal, inside = os.openpty()
            self.resize(struct.pack(">HH", rows, columns))
            ends, self.input, self.outputs = (inside, inside, inside), self.terminal, {self.terminal: OUTPUT}
            environment = {**environment, b"TERM": term or b"dumb"}
        else:
            (read_in, self.input), (out, write_out), (err, write_err) = os.pipe(), os.pipe(), os.pipe()
            ends, self.outputs = (read_in, write_out, write_err), {out: OUTPUT, err: ERRORS}
        self.command = os.fork()
        if not self.command:
            run(command, environment, ends, has_terminal=bool(rows))
        for end in set(ends):
            os.close(end)
        for end in {self.input, *self.outputs}:
            os.set_blocking(end, False)
        self.connection.setblocking(False)

    # ---------------------------------------------------------------------------------------------------------- carrying

    def carry(self) -> None:
        """Until the command has ended and all it wrote was taken, or until who asked for it has gone."""
        while not self.is_alone:
            is_over = self.code is not None and not self.to_asker
            events = self.poll().poll(0 if is_over else None)
            for number, what in events:
                self.handle(number, what)
            if is_over and not any(number in self.outputs for number, _ in events) and not self.to_asker:
                self.say_exit()
                return
        self.end_command()

    def poll(self) -> select.poll:
        """What is waited for: nothing is read for which there is no room."""
        poll = select.poll()
        wanted = {} if self.to_asker else dict.fromkeys(self.outputs, select.POLLIN)
        if self.to_command and self.input >= 0:
            wanted[self.input] = wanted.get(self.input, 0) | select.POLLOUT
        wanted[self.wake] = select.POLLIN
        is_room = len(self.to_command) < PIECE
        wanted[self.connection.fileno()] = select.POLLIN * is_room | select.POLLOUT * bool(self.to_asker)
        for number, what in wanted.items():
            poll.register(number, what)
        return poll

    def handle(self, number: int, what: int) -> None:
        """Something happened at a descriptor."""
        if number == self.wake:
            os.read(self.wake, PIECE)
            self.reap()
        elif number == self.connection.fileno():
            self.hear(what)
        else:
            if number == self.input and what & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                self.feed()
            if number in self.outputs and what & ~select.POLLOUT and not self.to_asker:
                self.read(number)

    def hear(self, what: int) -> None:
        """Takes frames from who asked, and gives it what waits."""
        try:
            if what & select.POLLOUT:
                del self.to_asker[: self.connection.send(self.to_asker)]
            data = self.connection.recv(PIECE) if what & select.POLLIN else None
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data == b"" or (data is None and what & (select.POLLHUP | select.POLLERR)):
            self.is_alone = True
            return
        self.heard += data or b""
        while len(self.heard) >= FRAME.size:
            kind, length = FRAME.unpack_from(self.heard)
            if length > MOST_FRAME:
                self.is_alone = True
                return
            if len(self.heard) < FRAME.size + length:
                return
            body = bytes(self.heard[FRAME.size : FRAME.size + length])
            del self.heard[: FRAME.size + length]
            self.take(kind, body)

    def take(self, kind: int, body: bytes) -> None:
        """One frame."""
        if kind == INPUT and not self.is_input_over:
            self.to_command += body
            self.feed()
        elif kind == INPUT_END and not self.is_input_over:
            self.is_input_over = True
            if self.terminal >= 0:
                self.to_command += b"\x04"
            self.feed()
        elif kind == SIZE and len(body) == 4 and self.terminal >= 0:
            self.resize(body)
        elif kind == SIGNAL and len(body) == 1 and body[0] in SIGNALS:
            self.signal(body[0])

    def feed(self) -> None:
        """Gives the command what waits for it; closes its input behind the last."""
        try:
            while self.to_command and self.input >= 0:
                del self.to_command[: os.write(self.input, self.to_command[:PIECE])]
        except BlockingIOError:
            return
        except OSError:  # it reads no more
            self.is_input_over = True
        if self.input < 0 or self.is_input_over:
            self.to_command.clear()
        if self.is_input_over and self.input >= 0 and self.terminal < 0:
            os.close(self.input)
            self.input = -1

    def read(self, output: int) -> None:
        """Takes what the command wrote."""
        try:
            data = os.read(output, PIECE)
        except BlockingIOError:
            return
        except OSError:  # a terminal that nobody has open any more
            data = b""
        if data:
            self.say(self.outputs[output], data)
        else:
            del self.outputs[output]
            if output != self.terminal:
                os.close(output)

    def say(self, kind: int, body: bytes) -> None:
        """Says a frame, as far as it is taken now."""
        self.to_asker += FRAME.pack(kind, len(body)) + body
        try:
            del self.to_asker[: self.connection.send(self.to_asker)]
        except BlockingIOError:
            return
        except OSError:
            self.is_alone = True

    def say_exit(self) -> None:
        """Says the last frame, and waits until who asked has gone: closed under its hands it might not read what was said."""
        self.connection.settimeout(LAST_S)
        self.to_asker += FRAME.pack(EXIT, 1) + bytes((self.code or 0,))
        try:
            self.connection.sendall(self.to_asker)
            self.connection.shutdown(socket.SHUT_WR)
            while self.connection.recv(PIECE):
                pass
        except OSError:
            return

    def resize(self, body: bytes) -> None:
        """Tells the terminal how large it is."""
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *struct.unpack(">HH", body), 0, 0))

    # ------------------------------------------------------------------------------------------------------------ the end

    def reap(self) -> None:
        """Takes note of its exit code, if it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.command, os.WNOHANG)
            if pid:
                ended = os.WIFSIGNALED(status)
                self.code = 128 + os.WTERMSIG(status) if ended else os.WEXITSTATUS(status)

    def signal(self, number: int) -> None:
        """Sends a signal to the command and those of its group."""
        if self.code is not None:
            return
        try:
            os.killpg(self.command, number)
        except ProcessLookupError:  # it has no group of its own yet
            os.kill(self.command, number)

    def end_command(self) -> None:
        """Who asked for it has gone: it is told so as by a terminal that is closed, and killed if it goes on."""
        if self.terminal >= 0:
            os.close(self.terminal)
        self.signal(signal.SIGHUP)
        self.reap()
        if self.code is None:
            select.select([self.wake], [], [], LEAVE_S)
            self.reap()
        self.signal(signal.SIGKILL)


def run(
    command: list[bytes], environment: dict[bytes, bytes], ends: tuple[int, int, int], *, has_terminal: bool
) -> None:
    """Becomes the command, in a session of its own. Never returns."""
    try:
        os.setsid()
        if has_terminal:
            fcntl.ioctl(ends[0], termios.TIOCSCTTY, 0)
        for standard, end in enumerate(ends):
            os.dup2(end, standard)
        for number in (*ASKED_TO_STOP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(command[0], command, environment)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, command[0] + b": " + (error.strerror or "").encode() + b"\n")
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)
    finally:
        os._exit(NOT_EXECUTABLE)


def serve_one(connection: socket.socket, environment: dict[bytes, bytes]) -> None:
    """Hears an order and carries it out. Never returns."""
    try:
        connection.settimeout(ORDER_S)
        length, rows, columns = HEAD.unpack(receive(connection, HEAD.size))
        words = receive(connection, length).split(b"\0")
        connection.sendall(OPEN)
        session = Session(connection)
        session.start(words, rows, columns, environment)
        session.carry()
    finally:
        os._exit(0)


def receive(connection: socket.socket, count: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def serve(door: socket.socket, environment: dict[bytes, bytes]) -> None:
    """Until it is killed."""
    sessions: set[int] = set()
    while True:
        try:
            connection = door.accept()[0]
        except OSError:  # it went away
            continue
        sessions -= {pid for pid in sessions if os.waitpid(pid, os.WNOHANG)[0]}
        try:
            pid = os.fork() if len(sessions) < MOST else -1
        except OSError:  # the job has all the processes that it may have
            pid = -1
        if not pid:
            door.close()
            serve_one(connection, environment)
        if pid < 0:
            say_busy(connection)
        else:
            sessions.add(pid)
        connection.close()


def say_busy(connection: socket.socket) -> None:
    """To whoever asked, if it is still there."""
    try:
        connection.send(BUSY)
    except OSError:
        return


def main(arguments: list[str]) -> None:
    """Becomes the command, and leaves the agent behind."""
    door, result, library_path, *command = arguments
    start(
        lambda: serve(socket.socket(fileno=int(door)), environment_given(library_path)),
        command,
        library_path,
        int(door),
        int(result),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
