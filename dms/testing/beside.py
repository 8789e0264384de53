"""Commands beside a job, as who asked for one hears it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Self

from dms.testing.executor_contract import RunWatcher
from dms_proto.exec_frames import Frames, Kind, frame
from dms_proto.tunnels import Order, ToCommand

PATIENCE_S: Final = 30.0
_OPEN: Final[list[Beside]] = []


class Beside:
    """One command.

    Attributes:
        writer: leads to it.
        heard: what it has written by now.
        code: its exit code, once it has ended.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Of a connection; see `run`."""
        self.writer = writer
        self.heard = {Kind.OUTPUT: bytearray(), Kind.ERRORS: bytearray()}
        self.code: int | None = None
        self._reader = reader
        self._frames = Frames()

    @classmethod
    async def run(cls, watcher: RunWatcher, *words: str, rows: int = 0) -> Self:
        """Starts it. `rows`: of its terminal; 0: it has none."""
        order = Order(words, rows, 80 if rows else 0, "xterm" if rows else "")
        async with asyncio.timeout(PATIENCE_S):
            end = await watcher.run.connect(ToCommand(order))
        command = cls(*await asyncio.open_connection(sock=end))
        _OPEN.append(command)
        return command

    async def until(self, wanted: bytes | None) -> None:
        """Listens until its output has this, or it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while self.code is None and (wanted is None or wanted not in self.heard[Kind.OUTPUT]):
                data = await self._reader.read(65_536)
                if not data:
                    return
                for kind, body in self._frames.take(data):
                    if kind == Kind.EXIT:
                        self.code = body[0]
                    else:
                        self.heard[Kind(kind)] += body

    async def over(self, given: bytes = b"") -> tuple[int | None, str, str]:
        """Gives it the last of its input; what it gave, when it has ended."""
        self.writer.write((frame(Kind.INPUT, given) if given else b"") + frame(Kind.INPUT_END))
        await self.until(None)
        self.writer.close()
        return self.code, self.heard[Kind.OUTPUT].decode("latin-1"), self.heard[Kind.ERRORS].decode()


async def let_go() -> None:
    """Breaks all off that are still open, after a test."""
    while _OPEN:
        command = _OPEN.pop()
        command.writer.transport.abort()
        with suppress(OSError):
            await command.writer.wait_closed()
