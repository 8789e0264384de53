"""Which GPUs of a machine a job gets, for engines that count them and do not say: each in use by one job at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

VARIABLES: Final = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""By which a job is told, and by which whoever started the worker may have said what there is."""


class Devices:
    """Of one worker. Used by many threads.

    Args:
        environment: of the worker.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._taken: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, count: int, whole: int) -> Iterator[dict[str, str]]:
        """Takes devices for a while; gives the variables that name them. None of them: no variable.

        Args:
            count: how many.
            whole: how many there are.

        Raises:
            RuntimeError: more are in use than the scheduler knows.
        """
        with self._lock:
            free = [name for name in self._names(whole) if name not in self._taken]
            mine = free[:count]
            if len(mine) < count:
                raise RuntimeError(f"too few GPUs are free: wanted {count}, free {len(free)}, in all {whole}")
            self._taken.update(mine)
        try:
            yield dict.fromkeys(VARIABLES, ",".join(mine)) if mine else {}
        finally:
            with self._lock:
                self._taken.difference_update(mine)

    def _names(self, whole: int) -> list[str]:
        """Those that whoever started the worker has named, else all of the machine, by number."""
        said = next(filter(None, (self._environment.get(variable) for variable in VARIABLES)), "")
        named = [name.strip() for name in said.split(",") if name.strip()]
        return (named or [str(number) for number in range(whole)])[:whole]
