"""Slurm, by its command line: sinfo, sbatch, squeue, scancel.

They find the cluster by themselves, and show who asks by munge; a node needs no right but that of its user to submit jobs. What we give them are
lists of arguments and a script of our own, and what they are run with is no more of the node's environment than they need.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dms.executors.cluster.engine import ANSWER_S, Capacity, EngineError, EngineJob, Machine, Order, last_line
from dms.executors.cluster.files import LOG
from dms.executors.cluster.gpus import counted, kinds_of
from dms.executors.settings import SlurmSettings
from dms_proto.capability import NOTHING, Gpu, Resources
from dms_proto.units import CORE, MIB, MINUTE

_TAKES_JOBS: Final = frozenset({"idle", "mixed", "allocated", "completing"})
"""States of nodes that take jobs. With a mark behind, such as `idle*`, it is another: that of a node that does not answer, say."""
_NODES: Final = "NodeList:|,StateLong:|,CPUsState:|,Memory:|,AllocMem:|,Gres:|,GresUsed:|"
_GPUS: Final = re.compile(r"(?:^|,)gpu(?::(?P<kind>[^:,()]+))?:(?P<count>\d+)")
_JOBS: Final = "%i|%T|%r|%N|%j"
_KEPT: Final = ("PATH", "HOME", "USER", "SLURM_CONF", "SLURM_CONF_SERVER")


class Slurm:
    """Implements `Engine`; lives on the node's loop."""

    name = "slurm"

    def __init__(self, settings: SlurmSettings) -> None:
        self._settings = settings

    async def capacity(self) -> Capacity:
        """See `Engine.capacity`."""
        version = await self._ask("sinfo", "--version")
        nodes = await self._ask("sinfo", "--noheader", "--Node", *self._where(), "--Format", _NODES)
        return capacity_of(version.strip(), nodes)

    async def submit(self, name: str, order: Order) -> str:
        """See `Engine.submit`."""
        arguments = submission(name, order, self._settings)
        script = f"#!/bin/sh\nexec {shlex.join(order.command)}\n"
        return (await self._ask("sbatch", *arguments, given=script)).strip().partition(";")[0]

    async def jobs(self) -> Mapping[str, EngineJob]:
        """See `Engine.jobs`."""
        return jobs_of(await self._ask("squeue", "--noheader", f"--user={os.geteuid()}", "--format", _JOBS))

    async def cancel(self, job_id: str) -> None:
        """See `Engine.cancel`."""
        try:
            await self._ask("scancel", "--full", job_id)
        except EngineError as error:
            if "Invalid job id" not in error.message:
                raise

    async def close(self) -> None:
        """Nothing is held."""

    def _where(self) -> tuple[str, ...]:
        return (f"--partition={self._settings.partition}",) if self._settings.partition else ()

    async def _ask(self, program: str, *arguments: str, given: str = "") -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment(),
            )
        except OSError as error:
            raise EngineError(f"{program} cannot be run: {error.strerror}") from error
        try:
            async with asyncio.timeout(ANSWER_S):
                out, complaint = await process.communicate(given.encode())
        except TimeoutError as error:
            raise EngineError(f"{program} gave no answer within {ANSWER_S:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = last_line(complaint.decode(errors="replace"))
            raise EngineError(said or f"{program} failed with exit code {process.returncode}")
        return out.decode(errors="replace")

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        conf = {"SLURM_CONF": self._settings.conf} if self._settings.conf else {}
        return {**kept, "LC_ALL": "C", **conf}


def submission(name: str, order: Order, settings: SlurmSettings) -> list[str]:
    """The arguments of sbatch. Slurm gives whole cores, whole MiB and whole minutes: all are rounded up."""
    resources = order.resources
    return [
        "--parsable",
        f"--job-name={name}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={max(1, -(-resources.cpu_millicores // CORE))}",
        f"--mem={max(1, -(-resources.memory_bytes // MIB))}M",
        *((f"--gres={gres_of(resources.gpus)}",) if resources.gpus else ()),
        f"--time={max(1, -(-order.wall_ms // MINUTE))}",
        "--no-requeue",
        f"--chdir={order.directory}",
        f"--output={LOG}",
        *((f"--partition={settings.partition}",) if settings.partition else ()),
        *((f"--account={settings.account}",) if settings.account else ()),
    ]


def capacity_of(version: str, listing: str) -> Capacity:
    """Reads sinfo's list of nodes. A node in several partitions is listed once for each, and counts once.

    Raises:
        EngineError: it is none.
    """
    machines: dict[str, Machine] = {}
    for line in listing.splitlines():
        try:
            words = (word.strip() for word in line.strip().removesuffix("|").split("|"))
            name, state, cpus, memory, given, gres, gres_used = words
            _, idle, _, total = (int(count) for count in cpus.split("/"))
            whole_mib, given_mib = int(memory), int(given)
        except ValueError as error:
            raise EngineError(f"sinfo's answer is not understood: {line!r}") from error
        takes_jobs = state in _TAKES_JOBS
        there, taken = gpus_in(gres), gpus_in(gres_used)
        gpus = [gpu for kind, count in there.items() for gpu in counted(name, kind, count)]
        left = [gpu for kind, count in there.items() for gpu in counted(name, kind, max(0, count - taken[kind]))]
        whole = Resources(cpu_millicores=total * CORE, memory_bytes=whole_mib * MIB, gpus=tuple(gpus))
        unused = max(0, whole_mib - given_mib) * MIB
        free = Resources(cpu_millicores=idle * CORE, memory_bytes=unused, gpus=tuple(left))
        machines[name] = Machine(name, whole, free if takes_jobs else NOTHING, takes_jobs)
    return Capacity(version, tuple(machines.values()))


def gpus_in(gres: str) -> Counter[str]:
    """How many GPUs of each kind are among a node's generic resources, such as `gpu:a100:2(S:0-1),craynetwork:4`."""
    return Counter({found["kind"] or "": int(found["count"]) for found in _GPUS.finditer(gres)})


def gres_of(gpus: Iterable[Gpu]) -> str:
    """The same of what a job takes."""
    return ",".join(f"gpu:{kind}:{count}" if kind else f"gpu:{count}" for kind, count in kinds_of(gpus).items())


def jobs_of(listing: str) -> dict[str, EngineJob]:
    """Reads squeue's list of jobs, by name. Of two of one name the one that runs counts.

    Raises:
        EngineError: it is none.
    """
    jobs: dict[str, EngineJob] = {}
    for line in listing.splitlines():
        words: Sequence[str] = line.strip().split("|", 4)
        if len(words) != 5:
            raise EngineError(f"squeue's answer is not understood: {line!r}")
        job_id, state, reason, nodes, name = words
        waits = state in {"PENDING", "CONFIGURING", "REQUEUED", "SPECIAL_EXIT"}
        if name not in jobs or not waits:
            why = "" if reason == "None" else reason  # it was not looked at yet
            jobs[name] = EngineJob(job_id, not waits, why if waits else nodes)
    return jobs
