"""The escort: what runs in a worker of a cluster's engine, for engines that start functions and not programs.

It starts our runner as a process of its own beside the worker and waits for its end. That is all of ours that such a worker ever runs: no program and
no data of a task come near it. This package imports nothing else of dms, since the engine's own processes import it.

::

    dask     in a worker of Dask
    devices  which GPUs of the machine each job gets, where the engine only counts them
"""

from typing import Final

ESCORTED: Final = "--escorted"
"""Tells a runner to end when its standard input does."""
