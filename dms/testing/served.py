"""A node in memory behind a real socket in its own thread: what a command or a synchronous client can talk to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from dms.config.paths import Home
from dms.rpc.api import METHODS
from dms.rpc.dispatcher import Dispatcher
from dms.rpc.openrpc import document
from dms.rpc.unix import UnixServer
from dms.testing.node_api import MemoryNode
from dms.testing.node_jobs import Script

T = TypeVar("T")
START_TIMEOUT_S = 10.0


class Served:
    """A running in-memory node.

    Attributes:
        home: whose socket it answers on.
        node: the node; look at it from a test with `on_loop`.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.node: MemoryNode
        self.loop: asyncio.AbstractEventLoop
        self._started = threading.Event()
        self._server: UnixServer

    def on_loop(self, work: Callable[[MemoryNode], T]) -> T:
        """What `work` gives, called on the node's loop."""

        async def call() -> T:
            return work(self.node)

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(START_TIMEOUT_S)

    def leave(self) -> None:
        """Closes every connection and answers nobody, as a node that was stopped."""
        self._wait(self._server.stop())

    def come_back(self) -> None:
        """Listens again. Its jobs are still there, their updates counted anew, as a restarted node counts them."""
        self._wait(self.node.count_updates_anew())
        self._wait(self._server.start())

    def _wait(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(START_TIMEOUT_S)

    async def run(self, scripts: Sequence[Script]) -> None:
        """Serves until `node.stop` was called."""
        self.loop = asyncio.get_running_loop()
        self.node = MemoryNode(self.home.root, scripts)
        self._server = UnixServer(
            Dispatcher(self.node, METHODS, "0.1.0", lambda: document(METHODS, "0.1.0")), self.home.socket
        )
        await self._server.start()
        self._started.set()
        await self.node.stopped.wait()
        await asyncio.sleep(0)  # the answer to node.stop goes out first
        await self._server.stop()

    def wait_started(self) -> None:
        """Waits until it answers."""
        assert self._started.wait(START_TIMEOUT_S)


@contextmanager
def served_node(home: Home, scripts: Sequence[Script] = ()) -> Iterator[Served]:
    """A node on `home`'s socket for the time of a test."""
    home.prepare()
    served = Served(home)
    thread = threading.Thread(target=lambda: asyncio.run(served.run(scripts)), name="served node")
    thread.start()
    served.wait_started()
    try:
        yield served
    finally:
        if thread.is_alive():
            served.loop.call_soon_threadsafe(served.node.stopped.set)
        thread.join(START_TIMEOUT_S)
