"""Waiting for a descriptor, on the loop."""

from __future__ import annotations

import asyncio


async def readable(fd: int) -> None:
    """Waits until something can be read of a descriptor, or its other end is closed; of a pidfd, until the process has ended."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
