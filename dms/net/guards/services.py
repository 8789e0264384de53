"""Running libp2p services (swarm, pubsub, router) so that a failing task of one takes down nothing else.

Stock fault: an exception in any task of a service cancels the service, ends its manager with an exception group, and with it the host and
the process. Starting a task also searches all tasks for its parent, so it gets slower the more connections there are.

Remedy: a manager that runs each task in one nursery, contains what it raises, and starts tasks again that were meant to run for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from libp2p.tools.anyio_service.api import InternalManagerAPI, ManagerAPI, ServiceAPI
from libp2p.tools.anyio_service.exceptions import LifecycleError
from libp2p.tools.anyio_service.stats import Stats, TaskStats

from dms.net.guards.crashes import ENDS, Crashes

RESTART_S: Final = 1.0
"""Pause before a task that should run for ever is started again."""


class GuardedManager(InternalManagerAPI):
    """Runs one service. Same interface as libp2p's TrioManager; lives on the trio thread."""

    def __init__(self, service: ServiceAPI, crashes: Crashes) -> None:
        self._service = service
        self._crashes = crashes
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()
        self._finished = trio.Event()
        self._tasks = 0

    @property
    def is_started(self) -> bool:
        """Whether the service began."""
        return self._started.is_set()

    @property
    def is_running(self) -> bool:
        """Whether tasks can be started."""
        return self.is_started and not self.is_finished

    @property
    def is_cancelled(self) -> bool:
        """Whether it was told to stop."""
        return self._nursery is not None and self._nursery.cancel_scope.cancel_called

    @property
    def is_finished(self) -> bool:
        """Whether all tasks ended."""
        return self._finished.is_set()

    @property
    def did_error(self) -> bool:
        """Never: errors are contained."""
        return False

    @property
    def stats(self) -> Stats:
        """How many tasks were started."""
        return Stats(tasks=TaskStats(total_count=self._tasks, finished_count=0))

    async def wait_started(self) -> None:
        """Waits for `is_started`."""
        await self._started.wait()

    async def wait_finished(self) -> None:
        """Waits for `is_finished`."""
        await self._finished.wait()

    def cancel(self) -> None:
        """Tells all tasks to stop."""
        if self._nursery is None:
            raise LifecycleError("cannot cancel a service that was never started")
        self._nursery.cancel_scope.cancel()

    async def stop(self) -> None:
        """Cancels and waits for the end."""
        self.cancel()
        await self.wait_finished()

    async def run(self) -> None:
        """Runs the service until it is cancelled."""
        self._service._manager = self
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._started.set()
                self.run_task(self._service.run)
                await trio.sleep_forever()
        finally:
            self._finished.set()

    def run_task(
        self, async_fn: Callable[..., Awaitable[Any]], *args: Any, daemon: bool = False, name: str | None = None
    ) -> None:
        """Starts a task; `daemon` means it should run for ever."""
        if self._nursery is None or not self.is_running:
            raise LifecycleError("the service does not run")
        self._tasks += 1
        self._nursery.start_soon(self._contained, async_fn, args, daemon, name=name or async_fn)

    def run_daemon_task(self, async_fn: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> None:
        """Starts a task that should run for ever."""
        self.run_task(async_fn, *args, daemon=True, name=name)

    def run_child_service(self, service: ServiceAPI, daemon: bool = False, name: str | None = None) -> ManagerAPI:
        """Runs another service with this one."""
        child = GuardedManager(service, self._crashes)
        self.run_task(child.run, daemon=daemon, name=name)
        return child

    def run_daemon_child_service(self, service: ServiceAPI, name: str | None = None) -> ManagerAPI:
        """Runs another service that should run for ever."""
        return self.run_child_service(service, daemon=True, name=name)

    async def _contained(self, async_fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], daemon: bool) -> None:
        while True:
            try:
                await async_fn(*args)
            except ENDS:
                pass
            except Exception as error:  # noqa: BLE001 - the process edge: a task of a service may fail, the service goes on
                self._crashes.contain(f"{self._service}.{getattr(async_fn, '__name__', async_fn)}", error)
            if not daemon:
                return
            await trio.sleep(RESTART_S)


@asynccontextmanager
async def guarded_service(service: ServiceAPI, crashes: Crashes) -> AsyncIterator[GuardedManager]:
    """Runs `service` in the background while the block is entered."""
    manager = GuardedManager(service, crashes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.run)
        await manager.wait_started()
        try:
            yield manager
        finally:
            manager.cancel()
