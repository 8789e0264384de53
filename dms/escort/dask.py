"""The escort in a worker of Dask: a function that takes a thread of the worker for as long as its runner goes on.

A runner ends when the pipe to its escort is closed: by the escort, when it is told to or its task was cancelled, or by the kernel, when the worker
dies.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from distributed import Status, Worker, get_worker

from dms.escort import ESCORTED
from dms.escort.devices import Devices

LOOK_S: Final = 0.2
"""Between two looks whether the runner has ended, or has to."""
END_S: Final = 30.0
"""How long a runner may take to end, before it is killed."""
_KEPT: Final = ("PATH", "HOME", "USER", "LANG", "TMPDIR")
GPUS: Final = "dms_gpus"
"""Resource of a worker: how many GPUs of its machine jobs get."""
_devices: Final = Devices()
_told: Final[dict[str, threading.Event]] = {}
"""By the key of the task that has an escort in this process."""


def escort(key: str, command: Sequence[str], directory: str, gpus: int = 0) -> int:
    """Starts a runner and waits for its end. Gives its exit code.

    Args:
        key: of this task.
        command: the runner.
        directory: in which it starts; what it says goes to `runner.log` there.
        gpus: how many it gets: the scheduler sees to it that there are as many.

    Raises:
        OSError: it cannot be started.
    """
    told = _told[key] = threading.Event()
    try:
        whole = int(get_worker().state.total_resources.get(GPUS, 0))
        with (Path(directory) / "runner.log").open("ab") as log, _devices.taken(gpus, whole) as given:
            runner = subprocess.Popen(
                (*command, ESCORTED),
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={name: os.environ[name] for name in _KEPT if name in os.environ} | given,
            )
            with runner:
                return _until_over(runner, key, told)
    finally:
        del _told[key]


def let_go(key: str) -> bool:
    """Has the runner of a task end. False: it has none in this worker."""
    told = _told.get(key)
    if told is not None:
        told.set()
    return told is not None


def _until_over(runner: subprocess.Popen[bytes], key: str, told: threading.Event) -> int:
    assert runner.stdin is not None
    worker = get_worker()
    while runner.poll() is None:
        if told.wait(LOOK_S) or not _is_wanted(worker, key):
            runner.stdin.close()
            try:
                return runner.wait(END_S)
            except subprocess.TimeoutExpired:
                runner.kill()
    return runner.wait()


def _is_wanted(worker: Worker, key: str) -> bool:
    """Whether the worker goes on, and nobody has cancelled the task: its thread would not learn of it otherwise."""
    task = worker.state.tasks.get(key)
    return worker.status in {Status.running, Status.paused} and task is not None and task.state == "executing"
