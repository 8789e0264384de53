"""The start of a network process. Imports next to nothing: a node begins with it, and the process loads libp2p while the node loads itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
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
    pipe, their_pipe = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (pipe, their_pipe):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    beside, their_beside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    beside.setblocking(False)
    with their_pipe, their_beside:
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
    return Launched(process, pipe, beside)
