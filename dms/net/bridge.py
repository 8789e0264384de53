"""The network process's end of the pipe. Lives on the trio thread.

Writing is a plain call: messages are collected and handed to the socket in one write by `flush`, which the multiplexer calls after each
read; what the socket does not take is sent by one task. Frames and gossip count against the window the node gives; when it is used up,
`may_send` is False and readers of peers pause until the node has dealt with some.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

import trio

from dms.net.pipe import (
    READ_SIZE,
    Credit,
    FrameIn,
    GossipIn,
    Log,
    Splitter,
    ToNetwork,
    ToNode,
    cost,
    decode_to_network,
    encode,
)

MAX_WAITING: Final = 1024 * 1024
"""Bytes waiting for the node above which log lines are dropped; frames are bounded by credit, answers by requests."""
MAX_TRACEBACK: Final = 2_000

_TRACEBACK: Final = logging.Formatter()


class Bridge:
    """The connection with the node."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = trio.socket.from_stdlib_socket(sock)
        self._splitter = Splitter()
        self._waiting: list[bytes] = []
        self._unsent = memoryview(b"")
        self._blocked = trio.Event()
        self._closed = False
        self._credit = Credit(0)
        self._early: list[ToNetwork] = []

    @property
    def may_send(self) -> bool:
        """Whether the node wants more frames now."""
        return self._credit.used < self._credit.limit

    def open(self, window: int, early: list[ToNetwork]) -> None:
        """Begins after the configuration: `early` came in the same read and is given out first."""
        self._credit = Credit(window)
        self._early = early

    def post(self, message: ToNode) -> None:
        """Collects a message for the next `flush`."""
        if isinstance(message, FrameIn | GossipIn):
            self._credit.used += cost(message.frame)
        self._waiting.append(encode(message))

    def send(self, message: ToNode) -> None:
        """`post` and `flush`."""
        self.post(message)
        self.flush()

    def took(self, amount: int) -> None:
        """The node has dealt with frames."""
        self._credit.give(amount)

    def flush(self) -> None:
        """Hands what was posted to the socket, as far as it takes it now."""
        while not self._closed and (self._unsent or self._waiting):
            if not self._unsent:
                self._unsent = memoryview(b"".join(self._waiting))
                self._waiting.clear()
            try:
                sent = os.write(self._socket.fileno(), self._unsent)
            except BlockingIOError:
                self._blocked.set()
                return
            except OSError:
                self._closed = True  # the node is gone; the reading side sees it too and ends the process
                return
            self._unsent = self._unsent[sent:]

    async def write_blocked(self) -> None:
        """Sends what the socket did not take at once. Runs for ever."""
        while True:
            await self._blocked.wait()
            self._blocked = trio.Event()
            await trio.lowlevel.wait_writable(self._socket.fileno())
            self.flush()

    async def receive(self) -> list[ToNetwork]:
        """What the node sent, as many messages as one read gave; empty when it closed the pipe."""
        if self._early:
            early, self._early = self._early, []
            return early
        while True:
            try:
                data = await self._socket.recv(READ_SIZE)
            except OSError:
                return []
            if not data:
                return []
            if batch := [decode_to_network(body) for body in self._splitter.feed(data)]:
                return batch

    def log(self, level: int, logger: str, text: str) -> None:
        """Passes a log line on to the node, unless too much waits already."""
        if len(self._waiting) + len(self._unsent) < MAX_WAITING:
            self.post(Log(level, logger, text))


class BridgeLogHandler(logging.Handler):
    """Sends log records of this process to the node."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def emit(self, record: logging.LogRecord) -> None:
        """Posts the record, and flushes: log lines are few and may be the last."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + _TRACEBACK.formatException(record.exc_info)[-MAX_TRACEBACK:]
        self._bridge.log(record.levelno, record.name, text)
        self._bridge.flush()
