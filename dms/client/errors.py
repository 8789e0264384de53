"""What goes wrong with calls, besides what the functions themselves raise.

::

    BrokenExecutor (concurrent.futures)
    ├── NoWorkers      the market gave nobody to call
    └── WorkerLost     the worker that had the call is gone
    RemoteError        what a function raised, where it cannot be brought over as it was
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor


class NoWorkers(BrokenExecutor):
    """There is nobody to call. The text says why, and what would change it.

    Attributes:
        job_id: the job that asked for workers; empty where it did not come to one.
    """

    def __init__(self, message: str, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class WorkerLost(BrokenExecutor):
    """The worker went away with the call. Whether its function has run, or how far, nobody knows."""


class RemoteTraceback(Exception):  # noqa: N818 - likewise
    """Where in the worker an exception was raised, in its words: the `__cause__` of what a call raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class RemoteError(Exception):
    """Stands for an exception that could not be brought over as it was, or that nothing was to be unpickled of.

    Attributes:
        type: name of its class.
        message: its text.
    """

    def __init__(self, type_: str, message: str) -> None:
        super().__init__(f"{type_}: {message}" if message else type_)
        self.type = type_
        self.message = message

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str, str]]:
        return RemoteError, (self.type, self.message)
