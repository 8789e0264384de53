"""A Ray of the tests' own: a head and another machine, in a network and with processes of their own, and a way in; below one directory."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from dms.executors.settings import RaySettings
from dms.testing.cluster_contract import MACHINES
from dms.testing.daemons import START_S, end, free_ports, started, wait_until
from dms_proto.units import CORE

HEAD: Final = "small"
OTHER: Final = "large"
PROGRAMS: Final = ("ip", "nsenter", "setpriv", "unshare")
_PLACE: Final = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_FIRST: Final = "ip link set lo up; while :; do sleep 3600; done"
"""The first process of the place: it stays, and buries whoever has lost its parent."""
_STORE_BYTES: Final = 80_000_000
"""Of a machine's store of objects: Ray takes no less."""
_SETTINGS: Final = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "1000",  # five beats that are missed, and a machine is dead
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",  # without a head, and a machine ends
}


class RayThere:
    """Implements `EngineThere`.

    Ray binds some ports to all addresses, and its processes go on without whoever started them. So they have a network of their own, and end with
    their first process.

    Attributes:
        root: what it keeps.
        token: path of the file with the token that it asks for.
        words: by which its processes are known.
    """

    words = ("ray",)

    def __init__(self, root: Path, gpus: int = 0) -> None:
        self.root = root
        self._gpus = gpus
        self.token = root / "token"
        (self._port,) = free_ports(1)
        self._place: subprocess.Popen[bytes] | None = None
        self._way: subprocess.Popen[bytes] | None = None

    def settings(self) -> RaySettings:
        """How it is spoken to."""
        return RaySettings(f"http://127.0.0.1:{self._port}", str(self.token))

    def ports(self) -> Sequence[int]:
        """Where it answers, here and in its own network."""
        return (self._port,)

    def cancel(self, name: str) -> None:
        """Ends a job by its name."""
        for job in self._tell("GET", "/api/jobs/"):
            if (job["metadata"] or {}).get("dms_run") == name:
                self._tell("POST", f"/api/jobs/{job['submission_id']}/stop")

    def stop(self) -> None:
        """Closes the way there."""
        way, self._way = self._way, None
        if way is not None:
            end(way)

    def start(self) -> None:
        """Opens it again."""
        assert self._place is not None
        command = (sys.executable, "-m", "dms.testing.way_into", f"/proc/{self._place.pid}/ns/net", str(self._port))
        self._way = started(self.root, *command, environment={})
        wait_until(self._answers, "the way there is open", self.root)

    def settle(self) -> None:
        """Makes the place."""
        self.token.write_text(secrets.token_hex(32))
        self._place = started(self.root, *_PLACE, "sh", "-c", _FIRST, environment={})
        wait_until(self._is_apart, "it has a place", self.root)

    def leave(self) -> None:
        """Ends all that is in the place."""
        self.stop()
        if self._place is not None:
            self._place.kill()
            self._place.wait()

    def mend(self) -> None:
        """Starts what is not there."""
        starting = [self._start_machine(name) for name in (HEAD, OTHER) if name not in self._raylets()]
        if self._way is None:
            self.start()
        for each in starting:
            assert each.wait(90) == 0, (self.root / "log").read_text(errors="replace")[-2_000:]
        wait_until(lambda: self._alive() == len(MACHINES), "its machines are alive", self.root)

    def kill(self, name: str) -> None:
        """Has a machine die."""
        raylet = self._raylets()[name]
        raylet.kill()
        raylet.wait()

    def kill_head(self) -> None:
        """Has the head die, and with it its machine. The other one ends when it has waited for a head in vain."""
        other = self._raylets()[OTHER]
        head = [process for process in self._first().children() if _is_rays(process) and process != other]
        head += [child for process in head for child in process.children(recursive=True)]
        for process in head:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([*head, other], START_S)

    def _start_machine(self, name: str) -> subprocess.Popen[bytes]:
        size = MACHINES[name]
        head = (
            "--head",
            "--port=6379",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self._port}",
            f"--temp-dir={self.root}",
        )
        where = head if name == HEAD else ("--address=127.0.0.1:6379", "--dashboard-agent-listen-port=52366")
        gives = (
            f"--num-cpus={size.cpu_millicores // CORE}",
            f"--memory={size.memory_bytes}",
            f"--num-gpus={self._gpus if name == OTHER else 0}",
            f"--object-store-memory={_STORE_BYTES}",
        )
        quiet = ("--node-ip-address=127.0.0.1", "--disable-usage-stats", "--include-log-monitor=false")
        enter = ("nsenter", "--target", str(self._first().pid), "--net", "--pid", "--mount", "--")
        command = (*enter, sys.executable, "-m", "ray.scripts.scripts", "start", *where, *gives, *quiet)
        mine = {"RAY_AUTH_TOKEN_PATH": str(self.token), "TMPDIR": str(self.root)}
        return started(self.root, *command, environment={**_SETTINGS, **mine})

    def _first(self) -> psutil.Process:
        assert self._place is not None
        return psutil.Process(self._place.pid).children()[0]

    def _raylets(self) -> dict[str, psutil.Process]:
        """By the names of their machines."""
        found = {}
        for process in self._first().children():
            with suppress(psutil.NoSuchProcess):
                if process.name() == "raylet" and process.status() != psutil.STATUS_ZOMBIE:
                    found[HEAD if "--head" in process.cmdline() else OTHER] = process
        return found

    def _is_apart(self) -> bool:
        assert self._place is not None
        with suppress(OSError, IndexError):
            mine, its = (Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", self._first().pid))
            return mine != its
        return False

    def _answers(self) -> bool:
        with suppress(OSError):
            return bool(self._tell("GET", "/api/version"))
        return False

    def _alive(self) -> int:
        with suppress(OSError):
            nodes = self._tell("GET", "/nodes?view=summary")["data"]["summary"]
            return sum(node["raylet"]["state"] == "ALIVE" for node in nodes)
        return 0

    def _tell(self, method: str, path: str) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {self.token.read_text()}"})
            return json.load(connection.getresponse())
        except HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()


def _is_rays(process: psutil.Process) -> bool:
    """By what it was started with: a runner of ours may have lost its parent as well."""
    with suppress(psutil.NoSuchProcess):
        return any("/ray/" in word or word.startswith("ray.") for word in process.cmdline())
    return False


@contextmanager
def running_ray(gpus: int = 0) -> Iterator[RayThere]:
    """A Ray for a while, whose other machine has so many GPUs by its books. Skips where none can be started."""
    if find_spec("ray") is None:
        pytest.skip("Ray cannot be started: the package ray is not installed")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"Ray cannot be given a network of its own: there is no {', '.join(missing) or 'right to do so'}")
    root = Path(tempfile.mkdtemp(prefix="dms-ray-"))
    there = RayThere(root, gpus)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(there.leave)
        there.settle()
        there.mend()
        yield there
