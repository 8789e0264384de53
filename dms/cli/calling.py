"""A call from the command line: standard input into a connection, what comes out of it to standard output."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Final

PIECE: Final = 64 * 1024


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carries both ways, until the other side has ended its own. Standard input is read by a thread that ends with the process: it may never end."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue(1)

    def read() -> None:
        data = b"-"
        while data:
            data = os.read(sys.stdin.fileno(), PIECE)
            asyncio.run_coroutine_threadsafe(pieces.put(data), loop).result()

    async def send() -> None:
        while data := await pieces.get():
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    threading.Thread(target=read, daemon=True).start()
    sending = asyncio.create_task(send())
    try:
        while data := await reader.read(PIECE):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()
