"""A command beside a job, with this terminal or these pipes as its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from dms.cli.exit_codes import NOT_RUN
from dms.cli.standard_input import STDIN, pass_on
from dms.rpc.api.execs import AllocationExecParams, JobExecParams
from dms.rpc.api.tunnels import TunnelEnd, TunnelName
from dms.rpc.async_client import AsyncClient, OpenTunnel, open_tunnel
from dms_proto.errors import DmsError, PeerError
from dms_proto.exec_frames import Frames, Kind, frame, size
from dms_proto.tunnels import Order

PIECE: Final = 32_768
END_S: Final = 2.0
"""Seconds the node may take to tell why a connection broke off."""
STDOUT, STDERR = 1, 2


def order_of(words: tuple[str, ...], *, has_terminal: bool) -> Order:
    """The command, and a terminal of the size of this one."""
    if not has_terminal:
        return Order(words)
    rows, columns = _size()
    return Order(words, max(1, rows), max(1, columns), os.environ.get("TERM", ""))


def execute(path: Path, params: JobExecParams | AllocationExecParams, *, takes_input: bool) -> int:
    """Runs it to its end; gives its exit code.

    Args:
        path: the node's socket.
        params: which command, and where.
        takes_input: whether it gets what is typed or piped here; else its input is empty.

    Raises:
        DmsError: it could not be run, or the connection broke off.
    """
    return asyncio.run(_execute(path, params, takes_input=takes_input))


async def _execute(path: Path, params: JobExecParams | AllocationExecParams, *, takes_input: bool) -> int:
    method = "job.exec" if isinstance(params, JobExecParams) else "alloc.exec"
    tunnel = await open_tunnel(path, params, method)
    has_terminal = params.order.rows > 0
    try:
        with ExitStack() as stack:
            if has_terminal and takes_input:
                stack.enter_context(_raw_terminal())
            _pass_on_signals(tunnel.writer, has_terminal=has_terminal)
            if takes_input:
                _pass_on_input(tunnel.writer)
            elif not has_terminal:
                tunnel.writer.write(frame(Kind.INPUT_END))
            code = await _printed(tunnel)
        if code is None:
            raise PeerError("peer_unreachable", await _why(path, tunnel.opened.tunnel))
        return code
    finally:
        tunnel.writer.transport.abort()


async def _printed(tunnel: OpenTunnel) -> int | None:
    """Prints what comes, until the command has ended; gives its exit code, or None where it did not come."""
    frames = Frames()
    with suppress(OSError):
        while data := await tunnel.reader.read(PIECE):
            for kind, body in _whole(frames, data):
                if kind == Kind.EXIT:
                    return body[0] if body else NOT_RUN
                if kind in (Kind.OUTPUT, Kind.ERRORS):
                    await asyncio.to_thread(_write, STDOUT if kind == Kind.OUTPUT else STDERR, body)
    return None


def _whole(frames: Frames, data: bytes) -> Iterator[tuple[int, bytes]]:
    try:
        yield from frames.take(data)
    except ValueError as error:
        raise PeerError("bad_frame", f"what runs the command says what makes no sense: {error}") from error


def _write(descriptor: int, data: bytes) -> None:
    stream = sys.stdout.buffer if descriptor == STDOUT else sys.stderr.buffer
    stream.write(data)
    stream.flush()


async def _why(path: Path, tunnel: str) -> str:
    with suppress(DmsError, TimeoutError):
        async with asyncio.timeout(END_S), await AsyncClient.connect(path) as node:
            why = (await node.call("tunnel.wait", TunnelName(tunnel), TunnelEnd)).why
            return why or "the job ended, and with it what ran beside it"
    return "the connection broke off"


def _pass_on_input(writer: asyncio.StreamWriter) -> None:
    async def send(data: bytes) -> None:
        writer.write(frame(Kind.INPUT, data) if data else frame(Kind.INPUT_END))
        await writer.drain()

    pass_on(send)


def _pass_on_signals(writer: asyncio.StreamWriter, *, has_terminal: bool) -> None:
    loop = asyncio.get_running_loop()
    if has_terminal:
        loop.add_signal_handler(signal.SIGWINCH, lambda: writer.write(size(*_size())))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        loop.add_signal_handler(number, writer.write, frame(Kind.SIGNAL, bytes((number,))))


def _size() -> tuple[int, int]:
    columns, rows = shutil.get_terminal_size()
    return rows, columns


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Keys go to the command as they are, ctrl-C too."""
    before = termios.tcgetattr(STDIN)
    tty.setraw(STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)
