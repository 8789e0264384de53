"""The start of a network process. Imports next to nothing: a node begins with it, and the process loads libp2p while the node loads itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Final, NamedTuple, Self

BUFFER: Final = 256 * 1024
"""Kernel buffer of the pipe, so that a burst is one system call."""


class Launched(NamedTuple):
    """A network process that waits for its configuration. As a context: at the end of it nothing of the process is left.

    Attributes:
        process: `python -m dms.net`.
        pipe: our end of what is said.
        beside: our end of what sockets are handed over by.
    """

    process: subprocess.Popen[bytes]
    pipe: socket.socket
    beside: socket.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.pipe.close()
        self.beside.close()
        self.process.kill()
        self.process.wait()


def launch() -> Launched:
    """Starts the process. It shares nothing with the node but the pipe and standard error.

    Raises:
        OSError: it could not be started.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        pipe, their_pipe = _pair(socket.SOCK_STREAM, ours, theirs)
        for end in (pipe, their_pipe):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        beside, their_beside = _pair(socket.SOCK_SEQPACKET, ours, theirs)
        beside.setblocking(False)
        fds = (their_pipe.fileno(), their_beside.fileno())
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",  # the working directory may hold a stranger's modules
                "-m",
                "dms.net",
                *map(str, fds),
            ],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "MALLOC_ARENA_MAX": "2"},
        )
        ours.pop_all()
    return Launched(process, pipe, beside)


def _pair(kind: int, ours: ExitStack, theirs: ExitStack) -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    return ours.enter_context(one), theirs.enter_context(other)
