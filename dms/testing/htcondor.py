"""An HTCondor of the tests' own: collector, negotiator, schedd, and a startd for each machine of the pool, all on loopback, below one directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from dms.executors.settings import HtcondorSettings
from dms.testing.cluster_contract import MACHINES
from dms.testing.daemons import free_ports, started, wait_until
from dms_proto.units import CORE, MIB

RELEASE: Final = Path(__file__).resolve().parents[2] / ".tools" / "htcondor" / "usr"
"""Where `make htcondor` leaves it."""
GPU_KIND: Final = "A100"
"""What HTCondor calls its GPUs here."""
CENTRAL: Final = ("collector", "negotiator", "schedd")
_AS_ANOTHER: Final = ("unshare", "--user", "--map-user=1", "--map-group=1")
"""HTCondor takes no jobs of root's. Its programs have a name space in which whoever runs the tests is somebody else."""
_CONF: Final = """
RELEASE_DIR = {release}
LOCAL_DIR = {root}
LOCAL_CONFIG_FILE =
LOCAL_CONFIG_DIR =
LOG = $(LOCAL_DIR)
RUN = $(LOCAL_DIR)
LOCK = $(LOCAL_DIR)
SPOOL = $(LOCAL_DIR)
EXECUTE = $(LOCAL_DIR)/execute
BIN = $(RELEASE_DIR)/bin
SBIN = $(RELEASE_DIR)/sbin
LIB = $(RELEASE_DIR)/lib
LIBEXEC = $(RELEASE_DIR)/libexec/condor
SHARE = $(RELEASE_DIR)/share/condor
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
USE_SHARED_PORT = False
SCHEDD_NAME = tests@
SCHEDD_ADDRESS_FILE = {root}/schedd/address
SCHEDD_DAEMON_AD_FILE = {root}/schedd/ad
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
ALLOW_ADMINISTRATOR = *
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
SEC_USE_FAMILY_SESSION = False
SEC_FS_ENFORCE_CHANNEL_BINDING = False
COLLECTOR_BOOTSTRAP_SSL_CERTIFICATE = False
UID_DOMAIN = tests
FILESYSTEM_DOMAIN = tests
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 0
NEGOTIATOR_MIN_INTERVAL = 0
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 0
PERIODIC_EXPR_INTERVAL = 1
UPDATE_INTERVAL = 5
MAIL = /bin/true
JAVA =
DOCKER =
SINGULARITY =
ENABLE_URL_TRANSFERS = False
RunBenchmarks = False
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
"""


class HtcondorThere:
    """Implements `EngineThere`.

    Attributes:
        root: what it keeps.
        words: by which its processes are known.
    """

    words = ("condor",)

    def __init__(self, root: Path, gpus: int = 0) -> None:
        self.root = root
        self._gpus = gpus
        self.conf = root / "condor_config"
        self._ports = dict(zip(("collector", *MACHINES), free_ports(1 + len(MACHINES)), strict=True))
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def settings(self) -> HtcondorSettings:
        """How it is spoken to."""
        return HtcondorSettings(conf=str(self.conf))

    def ports(self) -> Sequence[int]:
        """Where its daemons listen."""
        mine = {daemon.pid for daemon in self._daemons.values()}
        return [
            each.laddr.port
            for each in psutil.net_connections("tcp4")
            if each.laddr and each.pid in mine and each.status == psutil.CONN_LISTEN
        ]

    def cancel(self, name: str) -> None:
        """Ends a job by its name."""
        self.tell("rm", *self.asked_for(name))

    def asked_for(self, name: str) -> tuple[str, str]:
        """The arguments by which HTCondor's programs are told which job is meant."""
        return ("-constraint", f'JobBatchName == "{name}"')

    def queued(self, name: str) -> str:
        """The id of a job that is on the queue, in whatever state; empty: it is not."""
        return self.tell("q", *self.asked_for(name), "-af", "ClusterId").strip()

    def waits(self, name: str) -> bool:
        """Whether a job is on the queue for a machine, be it the second."""
        return self.tell("q", *self.asked_for(name), "-af", "JobStatus").strip() == "1"

    def tell(self, program: str, *arguments: str, given: str = "") -> str:
        """Asks one of HTCondor's programs."""
        command = (*_AS_ANOTHER, str(RELEASE / "bin" / f"condor_{program}"), *arguments)
        environment = {**os.environ, "CONDOR_CONFIG": str(self.conf)}
        done = subprocess.run(
            command, input=given, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"condor_{program}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *description: str) -> None:
        """Queues a job of somebody else's."""
        self.tell("submit", given="\n".join((*description, "queue", "")))

    def write(self) -> None:
        """Makes its configuration."""
        self.root.chmod(0o755)
        self.conf.write_text(_CONF.format(release=RELEASE, root=self.root, port=self._ports["collector"]))

    def stop(self) -> None:
        """Has what answers die: the collector and the schedd."""
        for name in ("collector", "schedd"):
            self.kill(name)

    def _detected(self) -> str:
        """What prints which GPUs a machine has, in place of HTCondor's own search."""
        script = self.root / "gpus"
        devices = ", ".join(f"GPU-sim-{number}" for number in range(self._gpus))
        script.write_text(f'#!/bin/sh\necho \'DetectedGPUs="{devices}"\nCommon=[ DeviceName="{GPU_KIND}"; ]\'\n')
        script.chmod(0o755)
        return str(script)

    def start(self) -> None:
        """Starts what is not there, and waits until the collector knows all machines."""
        for name in CENTRAL:
            self._start(name, name)
        for name, size in MACHINES.items():
            gives = {"NUM_CPUS": str(size.cpu_millicores // CORE), "MEMORY": str(size.memory_bytes // MIB)}
            has = {"MACHINE_RESOURCE_INVENTORY_GPUs": self._detected()} if name == "large" and self._gpus else {}
            self._start(name, "startd", STARTD_NAME=name, **gives, **has)
        wait_until(self._is_whole, "its machines are idle", self.root)

    def kill(self, name: str) -> None:
        """Has a daemon die, and what it has started: with a startd, all there is on its machine."""
        daemon = self._daemons.pop(name)
        family = [psutil.Process(daemon.pid), *psutil.Process(daemon.pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        daemon.wait()
        psutil.wait_procs(family)

    @contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """Has a daemon listen for a while, and do nothing."""
        daemon = psutil.Process(self._daemons[name].pid)
        daemon.suspend()
        try:
            yield
        finally:
            daemon.resume()

    def leave(self) -> None:
        """Ends it."""
        for name in list(self._daemons):
            self.kill(name)

    def _start(self, name: str, daemon: str, **settings: str) -> None:
        if name in self._daemons:
            return
        arguments = ("-p", str(self._ports[name])) if name in self._ports else ()
        directory = self.root / name
        (directory / "execute").mkdir(parents=True, exist_ok=True)
        own = {f"_CONDOR_{setting}": value for setting, value in (("LOCAL_DIR", str(directory)), *settings.items())}
        command = (
            *_AS_ANOTHER,
            "setpriv",
            "--pdeathsig",
            "TERM",
            str(RELEASE / "sbin" / f"condor_{daemon}"),
            "-f",
            *arguments,
        )
        self._daemons[name] = started(self.root, *command, environment={"CONDOR_CONFIG": str(self.conf), **own})

    def _is_whole(self) -> bool:
        with suppress(AssertionError):
            self.tell("q")
            return len(self.tell("status", "-af", "Name").split()) >= len(MACHINES)
        return False


@contextmanager
def running_htcondor(gpus: int = 0) -> Iterator[HtcondorThere]:
    """An HTCondor for a while, whose larger machine has so many GPUs by its books. Skips where none can be started."""
    if not RELEASE.exists():
        pytest.skip("HTCondor cannot be started: `make htcondor` has not unpacked it")
    missing = [program for program in ("setpriv", "unshare") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"HTCondor cannot be started: there is no {', '.join(missing)}")
    root = Path(tempfile.mkdtemp(prefix="dms-htcondor-"))
    there = HtcondorThere(root, gpus)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(there.leave)
        there.write()
        there.start()
        yield there
