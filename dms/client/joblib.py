"""The market as a backend of joblib, for who has joblib installed.

::

    from dms.client.joblib import register

    register()
    with joblib.parallel_config(backend="dms", packages=["scikit-learn"]):
        search.fit(X, y)

Options are those of `Market.executor`; or `executor=` names one that is there already, so that its workers are held over many calls of `Parallel`.
Workers need no joblib.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from dms.client.executor import MarketExecutor
from dms.client.market import Market

NAME = "dms"


def register(*, default: bool = False) -> None:
    """Makes the backend "dms" known to joblib. `default`: and used where nothing else is asked for."""
    register_parallel_backend(NAME, MarketBackend, make_default=default)


class MarketBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc] # joblib has no types
    """Made by joblib. Without an executor it makes its own, and lets it go when the call of `Parallel` is over."""

    default_n_jobs = -1
    supports_retrieve_callback = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        executor: MarketExecutor | None = None,
        workers: int = 2,
        **options: Any,
    ) -> None:
        """`workers`: how many where joblib is asked for as many as there are (`n_jobs=-1`)."""
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._market = Market(home)
        self._given = executor
        self._workers = workers if executor is None else executor.workers
        self._options = options
        self._executor = executor
        self._under_way: set[Future[list[Any]]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls are done at once."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if self._given is not None or n_jobs is None or n_jobs < 0:
            return self._workers
        return n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_unused: Any) -> int:
        """Begins a call of `Parallel`."""
        self.parallel = parallel
        workers = self.effective_n_jobs(n_jobs)
        if self._executor is None:
            self._executor = self._market.executor(workers, **self._options)
        return workers

    def submit(self, func: Any, callback: Callable[[Future[list[Any]]], object] | None = None) -> Future[list[Any]]:
        """Sends a batch, as its bare calls."""
        assert self._executor is not None
        calls = [(partial(function, *arguments, **keywords),) for function, arguments, keywords in func.items]
        future = self._executor.each(operator.call, calls)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[list[Any]]) -> list[Any]:
        """The results of a batch."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Gives up what is under way."""
        for future in list(self._under_way):
            future.cancel()
        if self._given is None and self._executor is not None:
            self._executor.abandon()
            self._executor = self._market.executor(self._executor.workers, **self._options) if ensure_ready else None

    def terminate(self) -> None:
        """Ends a call of `Parallel`."""
        if self._given is None and self._executor is not None:
            self._executor.shutdown()
            self._executor = None
        self.reset_batch_stats()
