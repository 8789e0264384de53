"""`python -m dms.egress`: the process of one proxy. Its order comes by standard input; it ends with the run it serves."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from concurrent.futures.thread import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import msgspec

from dms.egress.meter import Meter
from dms.egress.proxy import PIECE, Proxy
from dms.egress.starting import Order

LOOKUPS: Final = 4
"""Hosts that are looked up at a time, each by a thread."""


def main() -> None:
    """Takes the socket at which the job connects, and serves until the job is over."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    if order.uid:
        _become(order.uid)
    with socket.socket(fileno=order.control) as control:
        _, handed, _, _ = socket.recv_fds(control, 1, 1)
    if handed:  # none: the run ended before it began
        asyncio.run(_serve(order, socket.socket(fileno=handed[0])))


def _become(uid: int) -> None:
    """Becomes another user, who may not be able to read this program: what a look-up loads, it loads before."""
    with suppress(OSError):
        socket.getaddrinfo("localhost", 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


async def _serve(order: Order, listener: socket.socket) -> None:
    proxy = Proxy(order.bounds, Meter(order.meter), order.log)
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(LOOKUPS))
    loop.add_reader(order.run, over.set)
    await asyncio.start_server(proxy.serve, sock=listener, limit=PIECE)
    await over.wait()
    os._exit(0)  # what still flows has nobody at its end


if __name__ == "__main__":
    main()
