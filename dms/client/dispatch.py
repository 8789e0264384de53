"""Which call goes to which worker, and when more workers are wanted. On the loop of one executor."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dms.client.asking import Wish
from dms.client.calls import Call
from dms.client.errors import NoWorkers, WorkerLost
from dms.client.held import HeldWorker
from dms.client.lease import Lease

FRUITLESS: Final = 3
"""Workers, for each wanted, that may be lost in a row without having answered a call."""


class Dispatch:
    """Implements `lease.Taker`. `give` is for any thread, all else for the loop."""

    def __init__(self, path: Path, wish: Wish, on_end: Callable[[], None]) -> None:
        """`on_end` is called when it was closed and nothing of it is left."""
        self._path = path
        self._wish = wish
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[Call] = deque()
        self._is_woken = False
        self._waiting: deque[Call] = deque()
        self._workers: set[HeldWorker] = set()
        self._leases: set[Lease] = set()
        self._fruitless = 0
        self._is_closed = self._is_abandoned = False
        self._idle: asyncio.TimerHandle | None = None

    # ----------------------------------------------------------------------------------------------------- for the executor

    def give(self, call: Call) -> None:
        """A call is to be done."""
        self._arrived.append(call)
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """No more calls come; when those that are here are done, the workers are let go."""
        self._is_closed = True
        self._wake()

    def cancel_waiting(self) -> None:
        """Cancels what no worker has yet."""
        self._wake()
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.future.cancel()
            call.begin()  # tells those who wait for it

    def abandon(self) -> None:
        """Lets the workers go at once, whatever they do."""
        self._is_closed = self._is_abandoned = True
        self.cancel_waiting()
        self._leave_all()
        self._look_whether_done()

    # -------------------------------------------------------------------------------------------------------- for the leases

    def take(self, worker: HeldWorker) -> None:
        """See `Taker.take`."""
        self._workers.add(worker)
        self._fill()

    def may_take(self) -> None:
        """See `Taker.may_take`."""
        self._fruitless = 0
        self._fill()

    def lose(self, worker: HeldWorker, why: str) -> None:
        """See `Taker.lose`: what may be tried once more comes first."""
        self._workers.discard(worker)
        self._fruitless += 1
        for call in reversed(worker.under_way):
            call.tries -= 1
            if call.tries > 0 and not self._is_abandoned:
                self._waiting.appendleft(call)
            else:
                call.fail(WorkerLost(why))
        worker.under_way.clear()
        self._fill()

    def _lease_over(self, lease: Lease, why: str) -> None:
        self._leases.discard(lease)
        if why and not lease.was_served:
            self._refuse(why, lease.job_id)
        self._fill()

    # --------------------------------------------------------------------------------------------------------------- inside

    def _wake(self) -> None:
        self._is_woken = False
        while self._arrived:
            self._waiting.append(self._arrived.popleft())
        self._fill()

    def _fill(self) -> None:
        """Gives calls to whoever has least to do, and asks for workers where there are none."""
        while self._waiting and (worker := max(self._workers, key=_room, default=None)) and worker.room:
            call = self._waiting.popleft()
            if call.begin():
                worker.give(call)
        if self._waiting and not self._leases:
            self._ask()
        self._look_whether_done()

    def _ask(self) -> None:
        if self._fruitless >= FRUITLESS * self._wish.workers:
            self._fruitless = 0
            self._refuse("workers are lost before they have answered a call; dms job logs says what they wrote", "")
            return
        self._leases.add(Lease(self._path, self._wish.spec, self, self._lease_over))

    def _refuse(self, why: str, job_id: str) -> None:
        """Nobody is there for what waits."""
        hint = f"; dms job explain {job_id}" if job_id else ""
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.fail(NoWorkers(f"no worker: {why}{hint}", job_id))

    def _look_whether_done(self) -> None:
        is_working = bool(self._waiting) or any(worker.under_way for worker in self._workers)
        if self._idle is not None and (is_working or self._is_closed):
            self._idle.cancel()
            self._idle = None
        if is_working:
            return
        if self._is_closed:
            self._leave_all()
            if not self._leases and not self._workers:
                self._on_end()
        elif self._leases and self._idle is None:
            self._idle = self._loop.call_later(self._wish.idle_s, self._leave_all)

    def _leave_all(self) -> None:
        for worker in self._workers:
            worker.is_dismissed = True
        for lease in self._leases:
            lease.leave()


def _room(worker: HeldWorker) -> int:
    return worker.room
