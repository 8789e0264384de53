"""Programs that use every core, as others on the machine do: nobody's job, and no children of a node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def foreign_load() -> Iterator[None]:
    """They run for a while."""
    command = ("sh", "-c", "while true; do :; done")
    burning = [subprocess.Popen(command, start_new_session=True) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()
