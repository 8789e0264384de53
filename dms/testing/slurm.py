"""A Slurm of the tests' own: munged, slurmctld, and a slurmd for each machine of the cluster, all on loopback, below one directory."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from dms.executors.settings import SlurmSettings
from dms.testing.cluster_contract import MACHINES
from dms.testing.daemons import end, free_ports, started, wait_until
from dms_proto.units import CORE, MIB

PROGRAMS: Final = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "sinfo", "squeue", "scancel")
GPU_KIND: Final = "a100"
"""What Slurm calls its GPUs here."""
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full")
_CONF: Final = """
ClusterName=dms
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
MpiDefault=none
GresTypes=gpu
ReturnToService=2
KillWait=5
MessageTimeout=5
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class SlurmThere:
    """Implements `EngineThere`.

    Attributes:
        conf: path of its slurm.conf.
        root: what it keeps.
        words: by which its processes are known.
    """

    words = ("slurm", "munge")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "slurm.conf"
        self._controller: subprocess.Popen[bytes] | None = None

    def settings(self) -> SlurmSettings:
        """How it is spoken to."""
        return SlurmSettings(conf=str(self.conf))

    def ports(self) -> Sequence[int]:
        """Where its daemons listen."""
        return [int(port) for port in re.findall(r"(?:SlurmctldPort| Port)=(\d+)", self.conf.read_text())]

    def cancel(self, name: str) -> None:
        """Ends a job by its name."""
        self.tell("scancel", "--name", name)

    def tell(self, *command: str) -> str:
        """Asks one of Slurm's programs."""
        environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout

    def started(self, *command: str) -> subprocess.Popen[bytes]:
        """One of its daemons."""
        return started(self.root, *command, environment={"SLURM_CONF": str(self.conf)})

    def start(self) -> None:
        """Starts slurmctld."""
        self._controller = self.started("slurmctld", "-D", "-f", str(self.conf))

    def stop(self) -> None:
        """Ends slurmctld: from now on nobody answers."""
        if self._controller is not None:
            end(self._controller)


@contextmanager
def running_slurm(gpus: int = 0) -> Iterator[SlurmThere]:
    """A Slurm for a while, whose first machine has so many GPUs by its books. Skips where none can be started."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"Slurm cannot be started: there is no {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("starting Slurm needs root here")
    root = Path(tempfile.mkdtemp(prefix="dms-slurm-"))
    there = SlurmThere(root)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        stack.callback(_end_rest, there)
        _write(there, gpus)
        munge = root / "munge"
        places = [f"--{what}-file={munge}/{what}" for what in ("key", "pid", "log", "seed")]
        stack.callback(end, there.started("munged", "--foreground", "--force", f"--socket={munge}/socket", *places))
        wait_until((munge / "socket").is_socket, "munged listens", root)
        stack.callback(there.stop)
        there.start()
        for name in MACHINES:
            stack.callback(end, there.started("slurmd", "-D", "-N", name, "-f", str(there.conf)))
        wait_until(lambda: _idle(there) == len(MACHINES), "its machines are idle", root)
        yield there


def _end_rest(there: SlurmThere) -> None:
    """Ends what the daemons started and left, such as the steps of jobs that nobody cancelled; and what that was just about to start."""
    while rest := [process for process in psutil.process_iter() if _is_of(process, there)]:
        for process in rest:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(5)


def _is_of(process: psutil.Process, there: SlurmThere) -> bool:
    """By where it is: some write their title over their environment."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return Path(process.cwd()).is_relative_to(there.root)
    return False


def _write(there: SlurmThere, gpus: int) -> None:
    root = there.root
    root.chmod(0o755)  # who is not root asks munged through it
    for name in ("munge", "state", *(f"spool-{name}" for name in MACHINES)):
        (root / name).mkdir(mode=0o755)
    subprocess.run(["mungekey", "--create", f"--keyfile={root}/munge/key"], check=True, capture_output=True)
    controller, *ports = free_ports(1 + len(MACHINES))
    host = socket.gethostname()
    lines = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={size.cpu_millicores // CORE} "
        f"RealMemory={size.memory_bytes // MIB} State=UNKNOWN"
        for (name, size), port in zip(MACHINES.items(), ports, strict=True)
    ]
    if gpus:
        _write_gpus(there, gpus)
        lines[0] += f" Gres=gpu:{GPU_KIND}:{gpus}"
    conf = _CONF.format(host=host, root=root, controller=controller)
    there.conf.write_text("\n".join([*conf.strip().splitlines()[:-1], *lines, conf.strip().splitlines()[-1], ""]))


def _write_gpus(there: SlurmThere, gpus: int) -> None:
    """Slurm wants a device for each, whatever it is."""
    name = next(iter(MACHINES))
    devices = ",".join(_DEVICES[:gpus])
    (there.root / "gres.conf").write_text(f"NodeName={name} Name=gpu Type={GPU_KIND} File={devices}\n")


def _idle(there: SlurmThere) -> int:
    with suppress(subprocess.SubprocessError):
        return there.tell("sinfo", "--noheader", "--Node", "--format", "%T").split().count("idle")
    return 0
