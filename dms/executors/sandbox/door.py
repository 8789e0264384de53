"""The ways into a sandbox: Unix sockets that listen outside, and that the agents inside (`port_agent`, `exec_agent`) were given as descriptors.

Their names lie in a directory that is in no sandbox. Whoever has the node's files can use them, as can the node after a restart.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from dms.executors.sandbox import exec_agent, port_agent
from dms_proto.errors import MachineError, UserError
from dms_proto.tunnels import Target, ToCalls, ToCommand, ToPort, ToService, write_target

BACKLOG: Final = port_agent.MOST
ANSWER_S: Final = 10.0
"""Seconds in which the agent has to answer; it does at once, unless the job leaves it no processor."""
SUFFIX: Final = "door"
EXEC_SUFFIX: Final = "exec"


def listen(directory: Path, name: str, suffix: str = SUFFIX) -> socket.socket:
    """A socket that listens for the run of that name, and blocks. One of an earlier run is replaced.

    Raises:
        OSError: no room or no permission.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        with short(directory, f"{name}.{suffix}") as path:
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
    way = _way_to(target)
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        with short(directory, f"{name}.{way.suffix}") as path:
            connection.connect(path)
        async with asyncio.timeout(ANSWER_S):
            loop = asyncio.get_running_loop()
            with suppress(BrokenPipeError, ConnectionResetError):  # it had no room, and has said so without listening
                await loop.sock_sendall(connection, way.said)
            answer = await loop.sock_recv(connection, 1)
        way.check(answer, target)
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


class _Way(NamedTuple):
    """At which door what is said, and who understands the answer."""

    suffix: str
    said: bytes
    check: Callable[[bytes, Target], None]


def _way_to(target: Target) -> _Way:
    match target:
        case ToPort(port):
            return _Way(SUFFIX, port_agent.PORT.pack(port), _check)
        case ToService(name):
            raise UserError("bad_argument", f"{name} is a service of a node, and in no job")
        case ToCalls():
            return _Way(SUFFIX, port_agent.PORT.pack(port_agent.CALLS), _check)
        case ToCommand(order):
            words = b"\0".join(word.encode() for word in (order.term, *order.words))
            return _Way(EXEC_SUFFIX, exec_agent.HEAD.pack(len(words), order.rows, order.columns) + words, _check_exec)


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
            raise _gone()


def _check_exec(answer: bytes, _target: Target) -> None:
    match answer:
        case exec_agent.OPEN:
            return
        case exec_agent.BUSY:
            raise UserError(
                "not_listening",
                f"the job runs {exec_agent.MOST} commands beside it already, or all the processes it may have",
                retryable=True,
            )
        case _:
            raise _gone()


def _gone() -> UserError:
    return UserError("not_running", "the job has ended what lets in to it")


@contextmanager
def short(directory: Path, file: str) -> Iterator[str]:
    """A name of the socket that is short enough for the kernel, which takes 107 bytes, wherever the home is."""
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{place}/{file}"
    finally:
        os.close(place)
