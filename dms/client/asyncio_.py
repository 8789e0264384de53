"""The market for asyncio: the same executor, whose futures are awaited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from dms.client.executor import MarketExecutor
from dms.client.market import Market, Ran

T = TypeVar("T")


class AsyncExecutor:
    """Made by `AsyncMarket.executor`. `async with` shuts it down."""

    def __init__(self, executor: MarketExecutor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> asyncio.Future[T]:
        """As `MarketExecutor.submit`; the future is of the running loop. Cancelling it cancels the call if no worker has it yet."""
        return asyncio.wrap_future(self._executor.submit(fn, *args, **kwargs))

    async def map(self, fn: Callable[..., T], *iterables: Iterable[Any], chunksize: int = 1) -> AsyncIterator[T]:
        """The results in order, as they come. Who stops taking them cancels the rest.

        Raises:
            ValueError: `chunksize` is less than 1.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be at least 1")
        arguments = list(zip(*iterables, strict=False))
        chunks = [arguments[start : start + chunksize] for start in range(0, len(arguments), chunksize)]
        futures = [asyncio.wrap_future(self._executor.each(fn, chunk)) for chunk in chunks]
        try:
            for future in futures:
                for result in await future:
                    yield result
        finally:
            for future in futures:
                future.cancel()

    async def shutdown(self, *, cancel_futures: bool = False) -> None:
        """As `MarketExecutor.shutdown`, which is waited for."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=cancel_futures)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shuts it down; who is cancelled does not wait for calls."""
        if kind is not None and not issubclass(kind, Exception):
            await asyncio.shield(asyncio.to_thread(self._executor.abandon))
        else:
            await self.shutdown()


class AsyncMarket:
    """`Market` for asyncio."""

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self._market = Market(home)

    async def executor(self, workers: int = 2, **options: Any) -> AsyncExecutor:
        """As `Market.executor`."""
        return AsyncExecutor(await asyncio.to_thread(self._market.executor, workers, **options))

    async def run(self, command: str | Sequence[str], **more: Any) -> Ran:
        """As `Market.run`. Cancelling it leaves the job alone."""
        return await asyncio.to_thread(self._market.run, command, **more)
