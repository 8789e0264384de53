"""A Dask of the tests' own: a scheduler, and a process with a worker for each machine of the cluster, all on loopback, below one directory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from dms.executors.cluster.dask import CORES, GPUS, MEMORY, placed_of
from dms.executors.settings import DaskSettings
from dms.testing.cluster_contract import MACHINES
from dms.testing.daemons import end, free_ports, started, wait_until
from dms_proto.units import CORE


class DaskThere:
    """Implements `EngineThere`.

    Attributes:
        root: what it keeps.
        words: by which its processes are known.
    """

    words = ("dask", "distributed")

    def __init__(self, root: Path, gpus: int = 0) -> None:
        self.root = root
        self._gpus = gpus
        self._address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def settings(self) -> DaskSettings:
        """How it is spoken to."""
        return DaskSettings(self._address)

    def ports(self) -> Sequence[int]:
        """Where its processes listen."""
        mine = {daemon.pid for daemon in self._daemons}
        return [
            each.laddr.port
            for each in psutil.net_connections("tcp4")
            if each.laddr and each.pid in mine and each.status == psutil.CONN_LISTEN
        ]

    def cancel(self, name: str) -> None:
        """Ends a job by its name."""
        from distributed import Client, Future  # noqa: PLC0415 - not installed everywhere

        with Client(self._address, set_as_default=False) as client:
            keys = [key for key in client.list_datasets() if (placed := placed_of(key)) and placed.name == name]
            client.cancel([Future(key, client) for key in keys], force=True)

    def stop(self) -> None:
        """Ends the scheduler, and with it its workers."""
        while self._daemons:
            end(self._daemons.pop(0))

    def stop_scheduler(self) -> None:
        """Ends the scheduler alone."""
        end(self._daemons.pop(0))

    def start(self) -> None:
        """Starts it."""
        port = self._address.rpartition(":")[2]
        self._start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
        self.start_workers()

    def start_workers(self) -> None:
        """Starts its workers, and waits until the scheduler knows them."""
        spec = {name: {"cls": "distributed.Worker", "opts": self._options(name)} for name in MACHINES}
        before = self._registered()
        self._start("distributed.cli.dask_spec", self._address, "--spec", json.dumps(spec))
        wait_until(lambda: self._registered() - before >= len(MACHINES), "its workers are known", self.root)

    def kill_workers(self) -> None:
        """Has them die as of a fault."""
        workers = self._daemons.pop()
        workers.kill()
        workers.wait()

    def _start(self, module: str, *arguments: str) -> None:
        self._daemons.append(started(self.root, sys.executable, "-m", module, *arguments, environment={}))

    def _options(self, name: str) -> dict[str, object]:
        size = MACHINES[name]
        gives = {CORES: size.cpu_millicores // CORE, MEMORY: size.memory_bytes}
        if self._gpus and name == next(iter(MACHINES)):
            gives[GPUS] = self._gpus
        place = {"host": "127.0.0.1", "local_directory": str(self.root / name), "dashboard": False}
        return {"name": name, "nthreads": 4, "resources": gives, **place}

    def _registered(self) -> int:
        """How often a worker became known, by all schedulers until now."""
        return (self.root / "log").read_text(errors="replace").count("Starting worker compute stream")


@contextmanager
def running_dask(gpus: int = 0) -> Iterator[DaskThere]:
    """A Dask for a while, whose first worker has so many GPUs by its books. Skips where none can be started."""
    if find_spec("distributed") is None:
        pytest.skip("Dask cannot be started: the package distributed is not installed")
    root = Path(tempfile.mkdtemp(prefix="dms-dask-"))
    there = DaskThere(root, gpus)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(there.stop)
        there.start()
        yield there
