"""A way into another network: whoever connects here to a port of loopback is connected to the same port there."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
from contextlib import suppress


async def carry(read: asyncio.StreamReader, write: asyncio.StreamWriter) -> None:
    """Until one side says no more."""
    with suppress(OSError):
        while data := await read.read(1 << 16):
            write.write(data)
            await write.drain()
    write.close()


async def serve(listener: socket.socket, port: int) -> None:
    """Carries until the process is ended."""

    async def connected(read: asyncio.StreamReader, write: asyncio.StreamWriter) -> None:
        try:
            there_read, there_write = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            write.close()
            return
        await asyncio.gather(carry(read, there_write), carry(there_read, write))

    async with await asyncio.start_server(connected, sock=listener) as server:
        await server.serve_forever()


def main(place: str, port: str) -> None:
    """Listens, and only then goes there: sockets stay in the network in which they were made."""
    listener = socket.create_server(("127.0.0.1", int(port)))
    there = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None, use_errno=True).setns(there, 0) != 0:
        raise OSError(ctypes.get_errno(), f"{place} cannot be entered")
    asyncio.run(serve(listener, int(port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
