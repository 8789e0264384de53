"""A call from the command line: standard input into a connection, what comes out of it to standard output."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from dms.cli.standard_input import pass_on

PIECE: Final = 64 * 1024


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carries both ways, until the other side has ended its own."""

    async def send(data: bytes) -> None:
        if not data:
            writer.write_eof()
            return
        writer.write(data)
        await writer.drain()

    pass_on(send)
    try:
        while data := await reader.read(PIECE):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    finally:
        writer.close()
