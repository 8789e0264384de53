"""HTCondor, by its own bindings: they queue our runner at the schedd, and tell what machines there are and how the jobs do.

A machine here is a slot, since a job gets at most one: of a partitionable slot a part, of a static one all.

HTCondor starts a job again that it has stopped, or whose machine it lost; and it holds one that it could not start, or that broke a rule of the pool,
until somebody looks at it. Ours are started once, and nobody would look: they are taken off the queue, and why is noted with their run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from dms.executors.cluster.engine import Capacity, EngineError, EngineJob, Machine, Order, last_line
from dms.executors.cluster.files import LOG, end_is_noted
from dms.executors.cluster.gpus import VARIABLES, counted, kinds_of
from dms.executors.cluster.htcondor_bindings import Answer, Jobs, Machines, Remove, Submit
from dms.executors.cluster.htcondor_client import Client
from dms.executors.settings import HtcondorSettings
from dms_proto.capability import NOTHING, Gpu, Resources
from dms_proto.units import CORE, MIB, SECOND

_T = TypeVar("_T")

END_S: Final = 30
"""How long a runner may take to end, before HTCondor kills it."""
LEASE_S: Final = 120
"""How long a job goes on that its schedd does not hear of, and as long a machine that died seems to run it. HTCondor's own 40 min are long."""
LEFT_S: Final = 600
"""After which HTCondor takes off its queue by itself what will not run any more."""
SCRATCH_MIB: Final = 64
"""Of a job's own directory on its machine: there a pool may have its /tmp, in which a runner keeps what it needs."""
WAITS: Final = "the negotiator has found no machine for it yet"
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_TAKES_JOBS: Final = frozenset({"Unclaimed", "Matched", "Claimed", "Preempting", "Backfill"})
"""States of slots. One whose owner is at work takes none, and one that is drained."""
_IDLE: Final = 1
_COMPLETED: Final = 4
_HELD: Final = 5
_WAS_STARTED: Final = "JobCurrentStartExecutingDate =!= undefined"


class Slot(msgspec.Struct, frozen=True, rename="pascal"):
    """A slot that is no part of another, as far as its ad is read."""

    name: str
    slot_type: str
    state: str
    cpus: float
    memory: float
    total_slot_cpus: float | None = None
    total_slot_memory: float | None = None
    gpus: int = msgspec.field(default=0, name="GPUs")
    total_slot_gpus: int | None = msgspec.field(default=None, name="TotalSlotGPUs")
    gpu_kind: str = msgspec.field(default="", name="GPUs_DeviceName")
    offline: bool = False


class QueuedJob(msgspec.Struct, frozen=True, rename="pascal"):
    """A job of ours as its ad tells of it."""

    dms_run: str
    cluster_id: int
    proc_id: int
    job_status: int
    iwd: str
    remote_host: str = ""
    job_current_start_executing_date: int | None = None
    last_rej_match_reason: str = ""
    hold_reason: str = ""
    vacate_reason: str = ""

    @property
    def id(self) -> str:
        """HTCondor's."""
        return f"{self.cluster_id}.{self.proc_id}"

    @property
    def was_started(self) -> bool:
        """Whether a machine had its runner once."""
        return self.job_current_start_executing_date is not None

    @property
    def why_stuck(self) -> str:
        """In HTCondor's words; empty: it says nothing."""
        return self.hold_reason if self.job_status == _HELD else self.vacate_reason

    @property
    def is_stuck(self) -> bool:
        """Whether it stays on the queue and will never run, or never again."""
        return self.job_status == _HELD or (self.job_status == _IDLE and self.was_started)


class Htcondor:
    """Implements `Engine`; lives on the node's loop."""

    name = "htcondor"

    def __init__(self, settings: HtcondorSettings) -> None:
        self._settings = settings
        self._client = Client(settings.conf)

    async def capacity(self) -> Capacity:
        """See `Engine.capacity`."""
        asked = Machines(self._settings.requirements or "true", _attributes_of(Slot))
        return capacity_of(await self._client.ask(asked))

    async def submit(self, name: str, order: Order) -> str:
        """See `Engine.submit`."""
        return (await self._client.ask(Submit(submission(name, order, self._settings)))).job_id

    async def jobs(self) -> Mapping[str, EngineJob]:
        """See `Engine.jobs`."""
        answer = await self._client.ask(Jobs("DmsRun", _attributes_of(QueuedJob)))
        ours = _read(answer, QueuedJob)
        for job in ours:
            if job.is_stuck and await asyncio.to_thread(end_is_noted, Path(job.iwd), last_line(job.why_stuck)):
                with suppress(EngineError):  # the next look comes
                    await self.cancel(job.id)
        return jobs_of(ours)

    async def cancel(self, job_id: str) -> None:
        """See `Engine.cancel`. What runs is told to end, and stays among the jobs until it has."""
        await self._client.ask(Remove(job_id))

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._client.close()


def submission(name: str, order: Order, settings: HtcondorSettings) -> dict[str, str]:
    """What a submit file would say. HTCondor gives whole cores and whole MiB: both are rounded up, by a pool's own rules perhaps further.

    The runner gets nothing of HTCondor's environment but which GPUs it has: by its TMPDIR, one for each job, each would prove its machine anew.
    """
    given = " ".join(f'${{{name}:+{name}="${name}"}}' for name in VARIABLES)
    begin = f'exec env -i PATH={_PATH} {given} "$@" >> {LOG} 2>&1'
    stuck = (
        f"(JobStatus == {_HELD} || JobStatus == {_IDLE} && {_WAS_STARTED}) && time() - EnteredCurrentStatus > {LEFT_S}"
    )
    too_long = f"{_WAS_STARTED} && time() - JobCurrentStartExecutingDate > {order.wall_ms // SECOND}"
    return {
        "universe": "vanilla",
        "batch_name": name,
        "My.DmsRun": f'"{name}"',
        "executable": "/bin/sh",
        "transfer_executable": "false",
        "should_transfer_files": "NO",
        "arguments": _literal(_quoted(("-c", begin, "sh", *order.command))),
        "initialdir": _literal(str(order.directory)),
        "output": "/dev/null",
        "error": "/dev/null",
        "notification": "never",
        "request_cpus": str(max(1, -(-order.resources.cpu_millicores // CORE))),
        "request_memory": str(max(1, -(-order.resources.memory_bytes // MIB))),
        "request_disk": f"{SCRATCH_MIB}MB",
        "requirements": f"!({_WAS_STARTED}) && ({settings.requirements or 'true'})",
        "job_lease_duration": str(LEASE_S),
        "job_max_vacate_time": str(END_S),
        "want_graceful_removal": "true",
        "periodic_remove": f"({stuck}) || ({too_long})",
        **_wanted_gpus(order.resources.gpus),
        **({"accounting_group": settings.accounting_group} if settings.accounting_group else {}),
    }


def capacity_of(answer: Answer) -> Capacity:
    """Reads the pool's slots.

    Raises:
        EngineError: there is none.
    """
    slots = _read(answer, Slot)
    if not slots:
        why = "with this one's Arch, OpSys and FILESYSTEM_DOMAIN, that meets executors.htcondor_requirements"
        raise EngineError(f"the pool has no machine {why}")
    version = answer.version.split()[1:2] or ["?"]
    return Capacity(f"htcondor {version[0]}", tuple(map(machine_of, slots)))


def machine_of(slot: Slot) -> Machine:
    """What a slot has. A static one is given away whole."""
    takes_jobs = slot.state in _TAKES_JOBS and not slot.offline
    left = _amount(slot, slot.cpus, slot.memory, slot.gpus)
    if slot.slot_type == "Partitionable":
        gpus = slot.gpus if slot.total_slot_gpus is None else slot.total_slot_gpus
        whole = _amount(slot, slot.total_slot_cpus or slot.cpus, slot.total_slot_memory or slot.memory, gpus)
        idle = left
    else:
        whole = left
        idle = whole if slot.state in {"Unclaimed", "Backfill"} else NOTHING
    return Machine(slot.name, whole, idle if takes_jobs else NOTHING, takes_jobs)


def jobs_of(ours: Iterable[QueuedJob]) -> dict[str, EngineJob]:
    """Jobs by name. Of two of one name the one that runs counts."""
    jobs: dict[str, EngineJob] = {}
    for job in sorted(ours, key=lambda job: job.job_status != _IDLE):
        if job.job_status == _IDLE and not job.was_started:
            jobs[job.dms_run] = EngineJob(job.id, False, job.last_rej_match_reason.strip() or WAITS)
        elif not job.is_stuck and job.job_status != _COMPLETED:
            jobs[job.dms_run] = EngineJob(job.id, True, job.remote_host)
    return jobs


def _attributes_of(what: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(what))


def _read(answer: Answer, what: type[_T]) -> list[_T]:
    try:
        return msgspec.convert(answer.ads, list[what])  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        raise EngineError(f"HTCondor's answer is not understood: {error}") from error


def _amount(slot: Slot, cpus: float, memory_mib: float, gpus: int) -> Resources:
    devices = counted(slot.name, slot.gpu_kind, gpus)
    return Resources(cpu_millicores=int(cpus * CORE), memory_bytes=int(memory_mib) * MIB, gpus=devices)


def _wanted_gpus(gpus: Sequence[Gpu]) -> dict[str, str]:
    if not gpus:
        return {}
    kinds = " || ".join(f'DeviceName == "{kind}"' for kind in kinds_of(gpus) if kind)
    return {"request_gpus": str(len(gpus)), **({"require_gpus": kinds} if kinds else {})}


def _quoted(arguments: Iterable[str]) -> str:
    """Arguments as HTCondor takes them apart again: in single quotes each, in double quotes all of them, either kind within doubled."""
    words = " ".join("'" + argument.replace("'", "''") + "'" for argument in arguments)
    return '"' + words.replace('"', '""') + '"'


def _literal(value: str) -> str:
    """As it stands: HTCondor replaces `$(NAME)` in what a submit file says."""
    return value.replace("$", "$(DOLLAR)")
