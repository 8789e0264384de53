"""The market for programs in Python: functions called on machines elsewhere, and jobs.

::

    from dms.client import Market

    with Market().executor(workers=2, packages=["numpy"]) as executor:
        print(list(executor.map(work, range(100))))

An executor here is one of `concurrent.futures`; it has nothing to do with those that nodes run jobs with. Its shape::

    market     what a person opens: the node of this machine's user
    asking     what is asked of the market for it, as a job
    executor   concurrent.futures on top; a thread of its own, with a loop, on which everything below lives
    dispatch   which call goes to which worker, and when more workers are wanted
    lease      a job whose allocations are workers: asked for, watched, let go
    held       one worker, reached through a tunnel: calls out, answers in
    calls      a call, what it becomes as bytes, what its answer means
    asyncio_   the same for asyncio; `joblib` for joblib
"""

from __future__ import annotations

from dms.client.asyncio_ import AsyncExecutor, AsyncMarket
from dms.client.errors import NoWorkers, RemoteError, RemoteTraceback, WorkerLost
from dms.client.executor import MarketExecutor
from dms.client.market import Market, Ran

__all__ = [
    "AsyncExecutor",
    "AsyncMarket",
    "Market",
    "MarketExecutor",
    "NoWorkers",
    "Ran",
    "RemoteError",
    "RemoteTraceback",
    "WorkerLost",
]
