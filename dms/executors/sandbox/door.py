"""The way into a sandbox: a Unix socket that listens outside, and that the agent inside (`port_agent`) was given as a descriptor.

Its name lies in a directory that is in no sandbox. The job never sees it; whoever has the node's files can use it, also the node after a restart.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dms.executors.sandbox import port_agent
from dms_proto.errors import MachineError, UserError
from dms_proto.tunnels import Target, ToCalls, ToPort, write_target

BACKLOG: Final = port_agent.MOST
ANSWER_S: Final = 10.0
"""Seconds in which the agent has to answer; it does at once, unless the job leaves it no processor."""
SUFFIX: Final = "door"


def listen(directory: Path, name: str) -> socket.socket:
    """A socket that listens for the run of that name, and blocks. One of an earlier run is replaced.

    Raises:
        OSError: no room or no permission.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short(directory, name) as path:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - no path of ours, but a way around their length
            listener.bind(path)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


async def connect(directory: Path, name: str, target: Target) -> socket.socket:
    """A connection to something inside.

    Raises:
        UserError: `not_running`, `not_listening`.
        MachineError: `sandbox_failed`: the agent does not answer.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        with _short(directory, name) as path:
            connection.connect(path)
        async with asyncio.timeout(ANSWER_S):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, port_agent.PORT.pack(_number(target)))
            answer = await loop.sock_recv(connection, 1)
        _check(answer, target)
    except TimeoutError:
        connection.close()
        raise MachineError("sandbox_failed", f"what lets in to the job did not answer within {ANSWER_S:g} s") from None
    except BlockingIOError:
        connection.close()
        raise UserError(
            "not_listening", "more wait to be let in to the job than can; try again", retryable=True
        ) from None
    except OSError as error:
        connection.close()
        raise UserError("not_running", f"the job cannot be reached any more: {error.strerror}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _number(target: Target) -> int:
    """What is said at the door: the port, or 0 for calls."""
    match target:
        case ToPort(port):
            return port
        case ToCalls():
            return port_agent.CALLS


def _check(answer: bytes, target: Target) -> None:
    match answer:
        case port_agent.OPEN:
            return
        case port_agent.NOT_LISTENING:
            raise UserError(
                "not_listening", f"nothing in the job listens at {write_target(target)}, or not yet", retryable=True
            )
        case port_agent.BUSY:
            raise UserError("not_listening", "the job has as many connections as it takes", retryable=True)
        case port_agent.UNDECLARED:
            raise UserError("bad_argument", f"the job does not lead to {write_target(target)}")
        case _:
            raise UserError("not_running", "the job has ended what lets in to it")


@contextmanager
def _short(directory: Path, name: str) -> Iterator[str]:
    """A name of the socket that is short enough for the kernel, which takes 107 bytes, wherever the home is."""
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{place}/{name}.{SUFFIX}"
    finally:
        os.close(place)
