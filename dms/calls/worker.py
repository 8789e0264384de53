"""Answers calls of Python functions, from inside a sandbox. What a client imports of it is how calls are said.

It runs as `python -I -S worker.py DOOR SPEC`; SPEC is JSON: where packages lie (`path`), and after how many seconds without anybody to work for it
ends (`idle_s`, 0: never). DOOR is a Unix socket that listens already; who connects there has been let in by the node.

Everything said is a frame: four bytes of length, then a blob of at most `MOST`. The worker begins, with a `HELLO` in JSON. Then::

    caller    codec  shape  cloudpickle of (function, arguments, keywords)     or nothing: no more calls will come
    worker    RESULT  what it gave, by that codec
              FAILED  four bytes of length, JSON {type, message, traceback}, then the exception by cloudpickle, or nothing

Calls are done one after the other and answered in order; there is one caller at a time. The first thread does the calls, as programs expect of it; a
second one stands at the door.
"""

import json
import os
import queue
import select
import socket
import struct
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import Any, NoReturn

MOST = 64 << 20
"""Bytes of a blob."""
LENGTH = struct.Struct(">I")
VERSION = 1
PICKLE, JSON = b"p", b"j"
"""Codecs of what a call gives."""
ONE, EACH = b"1", b"*"
"""Shapes: one call; or one for each of several argument tuples, which gives a list."""
RESULT, FAILED = b"r", b"f"
CALL, LET_IN, ELSEWHERE, BUSY = b"\0\0", b"\0", b"\2", b"\3"
"""What is said at the door, as the port agent has it (`dms.executors.sandbox.port_agent`)."""
DOOR_S = 10.0
"""Seconds in which who is at the door has to say what it wants."""
PIECE = 1 << 20
GONE = select.POLLHUP | select.POLLRDHUP | select.POLLERR | select.POLLNVAL


class Porter:
    """Lets one caller in at a time, and ends the process when there has been nobody to work for. Its thread has only this to do."""

    def __init__(self, door: socket.socket, idle_s: float) -> None:
        self._door = door
        self._idle_s = idle_s
        self._callers: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._caller: socket.socket | None = None
        self._is_gone = True
        self._since = time.monotonic()
        self._is_calling = False

    def start(self) -> None:
        """Stands at the door from now on."""
        threading.Thread(target=self._stand, name="porter", daemon=True).start()

    def next_caller(self) -> socket.socket:
        """Waits for one."""
        return self._callers.get()

    def say_calling(self, *, is_calling: bool) -> None:
        """Says that a call begins, or has ended."""
        self._since = time.monotonic()
        self._is_calling = is_calling

    def dismiss(self, caller: socket.socket) -> None:
        """Lets a caller go, and the next one in."""
        with suppress(OSError):
            caller.shutdown(socket.SHUT_RDWR)  # closing alone would not end it while the porter looks at it
        caller.close()
        self._caller = None

    def _stand(self) -> None:
        poll = select.poll()
        poll.register(self._door, select.POLLIN)
        watched = -1
        while True:
            for descriptor, events in poll.poll(self._look_again_ms()):
                if descriptor != watched:
                    watched = self._answer_door(poll, watched)
                elif events & GONE:
                    poll.unregister(watched)
                    watched = -1
                    self._is_gone, self._since = True, time.monotonic()
            if self._idle_s and self._is_idle and time.monotonic() - self._since >= self._idle_s:
                end()

    @property
    def _is_idle(self) -> bool:
        return self._is_gone or not self._is_calling

    def _look_again_ms(self) -> float | None:
        if not self._idle_s:
            return None
        return max(1.0, (self._since + self._idle_s - time.monotonic() if self._is_idle else self._idle_s) * 1000)

    def _answer_door(self, poll: select.poll, watched: int) -> int:
        try:
            caller = self._door.accept()[0]
        except OSError:
            return watched
        caller.settimeout(DOOR_S)
        try:
            wanted = caller.recv(len(CALL))
            if wanted != CALL or self._caller is not None:
                caller.sendall(BUSY if wanted == CALL else ELSEWHERE)
                caller.close()
                return watched
            caller.sendall(LET_IN)
        except OSError:
            caller.close()
            return watched
        caller.settimeout(None)
        self._caller, self._is_gone, self._since = caller, False, time.monotonic()
        if watched >= 0:
            poll.unregister(watched)
        poll.register(caller, select.POLLRDHUP)
        watched = caller.fileno()
        self._callers.put(caller)
        return watched


def end() -> NoReturn:
    """Ends the process, whatever its threads do, with all that was printed."""
    flush()
    os._exit(0)


def flush() -> None:
    """Brings what was printed to the job's logs."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # a function may have closed or replaced it
            stream.flush()


# ------------------------------------------------------------------------------------------------------------------ frames


def framed(*parts: bytes) -> bytes:
    """The frame of a blob in parts.

    Raises:
        ValueError: it has more than `MOST` bytes.
    """
    size = sum(map(len, parts))
    if size > MOST:
        raise ValueError(f"{size} is more than the {MOST} bytes that can be sent at once")
    return b"".join((LENGTH.pack(size), *parts))


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: there are less.
    """
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(PIECE, size - len(data)))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def read_blob(connection: socket.socket) -> bytes:
    """The blob of the next frame.

    Raises:
        EOFError: no more come, or it is too long.
    """
    (size,) = LENGTH.unpack(read_exactly(connection, LENGTH.size))
    if size > MOST:
        raise EOFError
    return read_exactly(connection, size)


# ------------------------------------------------------------------------------------------------------------------- calls


def hello(cloudpickle: Any) -> bytes:
    """What a caller is told first."""
    about = {
        "version": VERSION,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "implementation": sys.implementation.name,
        "cloudpickle": cloudpickle.__version__,
    }
    return framed(json.dumps(about).encode())


def serve(caller: socket.socket, porter: Porter, cloudpickle: Any) -> None:
    """Answers the calls of one caller until it has gone; ends the process if it says that no more come."""
    try:
        caller.sendall(hello(cloudpickle))
        while blob := read_blob(caller):
            porter.say_calling(is_calling=True)
            answer = answered(blob, cloudpickle)
            flush()
            porter.say_calling(is_calling=False)
            caller.sendall(answer)
    except (EOFError, OSError):
        return
    end()


def answered(blob: bytes, cloudpickle: Any) -> bytes:
    """The frame that answers a call. Whatever its function raises is an answer; what it does to the process is not."""
    try:
        codec, shape = blob[:1], blob[1:2]
        function, arguments, keywords = cloudpickle.loads(memoryview(blob)[2:])
        if shape == EACH:
            given: Any = [function(*each) for each in arguments]
        else:
            given = function(*arguments, **keywords)
        return framed(RESULT, encoded(given, codec, cloudpickle))
    except BaseException as error:  # noqa: BLE001 - the caller shall have it
        return failure(error, blob[:1], cloudpickle)


def encoded(given: Any, codec: bytes, cloudpickle: Any) -> bytes:
    """What a call gave, as bytes."""
    if codec == JSON:
        return json.dumps(given, allow_nan=False, separators=(",", ":")).encode()
    data: bytes = cloudpickle.dumps(given)
    return data


def failure(error: BaseException, codec: bytes, cloudpickle: Any) -> bytes:
    """The frame that says what a call has raised. An exception that cannot be sent is told in words alone."""
    seen = error.__traceback__ and error.__traceback__.tb_next  # from the function on, or from what read the call
    text = "".join(traceback.format_exception(type(error), error, seen or error.__traceback__))
    about = {"type": type(error).__qualname__, "message": words(error), "traceback": text[-PIECE:]}
    said = json.dumps(about).encode()
    head = (FAILED, LENGTH.pack(len(said)), said)
    if codec == JSON:
        return framed(*head)
    try:
        return framed(*head, cloudpickle.dumps(error))
    except BaseException:  # noqa: BLE001 - of any kind: an exception of the job's own may do anything when it is pickled
        return framed(*head)


def words(error: BaseException) -> str:
    """Its message; an exception of the job's own may fail to give one."""
    try:
        return str(error)[:PIECE]
    except BaseException:  # noqa: BLE001 - see above
        return ""


def main(arguments: list[str]) -> None:
    """Answers calls until the caller says that no more come, or nobody has come for long enough."""
    door, spec = socket.socket(fileno=int(arguments[0])), json.loads(arguments[1])
    door.set_inheritable(False)
    porter = Porter(door, spec["idle_s"])
    porter.start()
    sys.path.extend(spec["path"])
    import cloudpickle  # noqa: PLC0415 - found where the line above says

    while True:
        caller = porter.next_caller()
        serve(caller, porter, cloudpickle)
        porter.dismiss(caller)


if __name__ == "__main__":
    main(sys.argv[1:])
