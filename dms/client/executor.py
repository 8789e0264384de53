"""An executor of `concurrent.futures` whose workers are on the market. The caller's threads make calls; a thread of the executor's own does the rest.

An executor belongs to the process that made it: in a child made by fork it refuses calls, and leaves the parent's alone.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, TypeVar

from dms.calls import worker
from dms.client.asking import Wish
from dms.client.calls import Call, Codec, framed
from dms.client.dispatch import Dispatch

T = TypeVar("T")

ABANDON_S: Final = 20.0
"""Seconds that a process which ends waits for its workers to be let go."""


class MarketExecutor(Executor):
    """Made by `Market.executor`. Its methods are those of `concurrent.futures.Executor`, for any thread.

    Calls are done by whichever worker is free, each by one, in the order in which they were made as far as they are begun. A call that a worker has
    cannot be cancelled.
    """

    def __init__(self, path: Path, wish: Wish, codec: Codec, retries: int) -> None:
        self._codec: Codec = codec
        self._tries = retries + 1
        self._lock = threading.Lock()
        self._is_shut = False
        self._process = os.getpid()
        self._background = _Background(path, wish)
        weakref.finalize(self, self._background.abandon).atexit = False
        self.workers: Final = wish.workers
        """How many are wanted."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Has `fn(*args, **kwargs)` called by a worker.

        What cannot be sent is told by the future, as are `NoWorkers`, `WorkerLost`, and whatever the function raises, with the worker's traceback as
        its cause.

        Raises:
            RuntimeError: it was shut down, or belongs to another process.
        """
        return self._given(worker.ONE, fn, args, kwargs)

    def each(self, fn: Callable[..., T], arguments: list[tuple[Any, ...]]) -> Future[list[T]]:
        """Has one worker call `fn` for each tuple of arguments, as one call.

        Raises:
            RuntimeError: see `submit`.
        """
        return self._given(worker.EACH, fn, arguments, {})

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """As `concurrent.futures.Executor.map`; `chunksize` calls at a time go to a worker as one.

        Raises:
            ValueError: `chunksize` is less than 1.
            RuntimeError: see `submit`.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be at least 1")
        deadline = None if timeout is None else time.monotonic() + timeout
        arguments = zip(*iterables, strict=False)
        chunks = iter(lambda: list(islice(arguments, chunksize)), [])
        return _results([self.each(fn, chunk) for chunk in chunks], deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls; when those made are done, lets the workers go.

        Args:
            wait: until then.
            cancel_futures: cancel those that no worker has yet.
        """
        with self._lock:
            self._is_shut = True
        if self._process != os.getpid():
            return
        if cancel_futures:
            self._background.soon(Dispatch.cancel_waiting)
        self._background.soon(Dispatch.close)
        if wait:
            self._background.join(None)

    def abandon(self) -> None:
        """Lets the workers go at once, whatever they do: calls that wait are cancelled, those under way end with `WorkerLost`."""
        with self._lock:
            self._is_shut = True
        self._background.abandon()
        self._background.join(ABANDON_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shuts it down, and waits; a person who interrupts is not made to wait for calls."""
        if kind is not None and not issubclass(kind, Exception):
            self.abandon()
        else:
            self.shutdown()

    def _given(self, shape: bytes, fn: Any, arguments: Any, keywords: dict[str, Any]) -> Future[Any]:
        if self._process != os.getpid():
            raise RuntimeError("this executor belongs to the process that made it; make one after the fork")
        future: Future[Any] = Future()
        frame, unsendable = b"", None
        try:
            frame = framed(shape, self._codec, fn, arguments, keywords)
        except Exception as error:  # noqa: BLE001 - whatever an object raises when it is pickled is the caller's to hear
            unsendable = error
        with self._lock:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if unsendable is None:
                self._background.dispatch.give(Call(future, frame, self._codec, self._tries))
        if unsendable is not None:
            future.set_running_or_notify_cancel()
            future.set_exception(unsendable)
        return future


class _Background:
    """The thread with the loop. It holds nothing of the executor, which can be forgotten while it runs."""

    running: ClassVar[set[_Background]] = set()

    def __init__(self, path: Path, wish: Wish) -> None:
        self.dispatch: Dispatch
        self._loop: asyncio.AbstractEventLoop
        self._process = os.getpid()
        self._is_ready = threading.Event()
        self.running.add(self)
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._main, args=(path, wish), name="market executor", daemon=True)
        self._thread.start()
        self._is_ready.wait()
        if self._failure is not None:
            raise self._failure

    def soon(self, act: Callable[[Dispatch], None]) -> None:
        """Does something on the loop, unless that has ended."""
        try:
            self._loop.call_soon_threadsafe(act, self.dispatch)
        except RuntimeError:  # it has ended
            return

    def abandon(self) -> None:
        """See `Dispatch.abandon`; soon. In a child made by fork it is not this process's to do."""
        if os.getpid() == self._process:
            self.soon(Dispatch.abandon)

    def join(self, seconds: float | None) -> None:
        """Waits until the thread has ended."""
        if self._thread is not threading.current_thread():  # a future's callback may shut down its executor
            self._thread.join(seconds)

    def _main(self, path: Path, wish: Wish) -> None:
        try:
            asyncio.run(self._run(path, wish))
        except OSError as error:  # no loop could be made: this process has too many files open
            self._failure = error
        finally:
            self.running.discard(self)
            self._is_ready.set()

    async def _run(self, path: Path, wish: Wish) -> None:
        over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.dispatch = Dispatch(path, wish, over.set)
        self._is_ready.set()
        await over.wait()


@atexit.register
def _end_all() -> None:
    """A process that ends holds no workers."""
    running = list(_Background.running)
    for background in running:
        background.abandon()
    for background in running:
        background.join(ABANDON_S)


def _results(futures: list[Future[list[T]]], deadline: float | None) -> Iterator[T]:
    """The results in order; who stops taking them cancels the rest."""
    futures.reverse()
    try:
        while futures:
            # Let go of before it is given out: it may be large.
            yield from futures.pop().result(None if deadline is None else deadline - time.monotonic())
    finally:
        for future in futures:
            future.cancel()
