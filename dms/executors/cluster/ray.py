"""Ray, by the HTTP of its head: the Jobs API starts our runner on a machine that has room, and the list of machines says what there is.

A job of Ray is a program and not a function. So no function of ours runs in a worker of Ray's: one of Ray's own starts the runner as a process of its
own, and the runner is killed when that worker dies. The node needs nothing of Ray, and Ray's version and Python may be any.

Ray keeps a list of all jobs that ever were. What it knows of ours is told in their metadata; those that are over are taken off the list, by the node
whose they were.
"""

from __future__ import annotations

import asyncio
import math
import re
import shlex
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from dms.executors.cluster.engine import (
    ANSWER_S,
    CONNECT_S,
    Capacity,
    EngineError,
    EngineJob,
    Machine,
    Order,
    last_line,
)
from dms.executors.cluster.files import LOG, RunDirectory, end_is_noted
from dms.executors.cluster.gpus import VARIABLES, counted, kinds_of
from dms.executors.settings import RaySettings
from dms_proto.capability import NOTHING, Resources
from dms_proto.market.arithmetic import clamp_subtract
from dms_proto.units import CORE

if TYPE_CHECKING:
    from aiohttp import ClientSession

_T = TypeVar("_T")

_A_LITTLE: Final = 0.001
"""Of a kind of GPUs: enough to be placed where it is, and it is nobody's measure."""
END_S: Final = 30
"""How long a runner may take to end, before Ray kills it. By default 3 s, too short for it to say how it ended."""
SETTLED_S: Final = 30.0
"""How long a job that is over is left on Ray's list: Ray still looks after it, and would list one that is gone anew, as one that failed."""
_NAME: Final = "dms_run"
_DIRECTORY: Final = "dms_directory"
_KIND: Final = "accelerator_type:"
_KEPT: Final = ("PATH", "HOME", "USER", "LANG", "TMPDIR", *VARIABLES)
WAITS: Final = "no machine has room for it, or a worker of Ray is being started for it"
_AMOUNT: Final = r"(?P<{0}>[\d.e+-]+)(?P<{0}_unit>[KMGT]i)?B?"
_USED: Final = re.compile(
    rf"{_AMOUNT.format('used')}/\S+ (?P<what>CPU|GPU|memory)(?: \({_AMOUNT.format('part')} used of {_AMOUNT.format('held')} reserved)?"
)
_UNITS: Final = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


class _Snapshot(msgspec.Struct, frozen=True):
    state: str = ""


class _Raylet(msgspec.Struct, frozen=True, rename="camel"):
    node_id: str
    state: str
    node_manager_address: str = ""
    resources_total: dict[str, float] = {}
    state_snapshot: _Snapshot = _Snapshot()


class _Node(msgspec.Struct, frozen=True):
    raylet: _Raylet


class Nodes(msgspec.Struct, frozen=True, rename="camel"):
    """Ray's list of machines, as far as it is read."""

    summary: tuple[_Node, ...]
    node_logical_resources: dict[str, str] = {}


class _Answer(msgspec.Struct, frozen=True):
    data: Nodes


class _Version(msgspec.Struct, frozen=True):
    ray_version: str


class RayJob(msgspec.Struct, frozen=True):
    """A job as Ray tells of it."""

    status: str
    submission_id: str | None = None
    metadata: dict[str, str] | None = None
    message: str | None = None
    end_time: int | None = None
    driver_agent_http_address: str | None = None

    @property
    def name(self) -> str:
        """That it was submitted under; empty: it is none of ours."""
        return (self.metadata or {}).get(_NAME, "")

    @property
    def id(self) -> str:
        """Ray's; empty: it is a program that somebody runs by hand."""
        return self.submission_id or ""

    @property
    def directory(self) -> Path:
        """Of its run."""
        return Path((self.metadata or {}).get(_DIRECTORY, ""))

    @property
    def failure(self) -> str:
        """Why it failed; empty: it did not, or Ray does not know."""
        return last_line(self.message or "") if self.status == "FAILED" else ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status not in {"PENDING", "RUNNING"}

    def is_settled(self, now: float) -> bool:
        """Whether Ray is through with it as well.

        Args:
            now: seconds since 1970.
        """
        return self.is_over and now > (self.end_time or 0) / 1000 + SETTLED_S


class Ray:
    """Implements `Engine`; lives on the node's loop."""

    name = "ray"

    def __init__(self, settings: RaySettings) -> None:
        self._address = settings.address.rstrip("/")
        self._token_file = settings.token_file
        self._session: ClientSession | None = None

    async def capacity(self) -> Capacity:
        """See `Engine.capacity`."""
        version = _read(await self._ask("GET", "/api/version"), _Version)
        nodes = _read(await self._ask("GET", "/nodes?view=summary"), _Answer).data
        return Capacity(f"ray {version.ray_version}", machines_of(self._address, nodes))

    async def submit(self, name: str, order: Order) -> str:
        """See `Engine.submit`."""
        job_id = f"{name}-{uuid.uuid4().hex[:8]}"  # Ray takes an id once
        await self._ask("POST", "/api/jobs/", submission(name, job_id, order))
        return job_id

    async def jobs(self) -> Mapping[str, EngineJob]:
        """See `Engine.jobs`."""
        ours = [job for job in _read(await self._ask("GET", "/api/jobs/"), tuple[RayJob, ...]) if job.name]
        for job in ours:
            if (
                job.is_over
                and await asyncio.to_thread(end_is_noted, job.directory, job.failure)
                and job.is_settled(time.time())
            ):
                with suppress(EngineError):  # the next look comes
                    await self._ask("DELETE", f"/api/jobs/{job.id}")
        return await asyncio.to_thread(jobs_of, ours)

    async def cancel(self, job_id: str) -> None:
        """See `Engine.cancel`. What runs is told to end, and stays among the jobs until it has; what waits stays with Ray, and will run nothing."""
        with suppress(UnknownToRayError):
            await self._ask("POST", f"/api/jobs/{job_id}/stop")

    async def close(self) -> None:
        """See `Engine.close`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, method: str, path: str, given: object = None) -> bytes:
        aiohttp = await asyncio.to_thread(import_module, "aiohttp")  # 0.2 s: a node without Ray does not pay it
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        headers = await asyncio.to_thread(self._headers)
        try:
            async with self._session.request(method, self._address + path, json=given, headers=headers) as response:
                said = await response.read()
        except TimeoutError as error:
            raise EngineError(f"{self._address} gave no answer within {ANSWER_S:.0f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise EngineError(f"{self._address} does not answer: {why}") from error
        if not response.ok:
            raise refusal_of(self._address, response.status, said.decode(errors="replace"))
        return said

    def _headers(self) -> dict[str, str]:
        """Read each time, since tokens are exchanged."""
        if not self._token_file:
            return {}
        try:
            return {"Authorization": f"Bearer {Path(self._token_file).read_text().strip()}"}
        except OSError as error:
            raise EngineError(f"executors.ray_token_file cannot be read: {error}") from error


class UnknownToRayError(EngineError):
    """Ray does not know what is asked for."""


def submission(name: str, job_id: str, order: Order) -> dict[str, object]:
    """What is asked of the Jobs API."""
    kept = " ".join(f'${{{name}:+{name}="${name}"}}' for name in _KEPT)
    begin = f"cd {shlex.quote(str(order.directory))} && exec env -i {kept} {shlex.join(order.command)}"
    return {
        "submission_id": job_id,
        "entrypoint": f"{begin} >> {LOG} 2>&1",
        "entrypoint_num_cpus": order.resources.cpu_millicores / CORE,
        "entrypoint_memory": order.resources.memory_bytes,
        "entrypoint_num_gpus": len(order.resources.gpus),
        "entrypoint_resources": {f"{_KIND}{kind}": _A_LITTLE for kind in kinds_of(order.resources.gpus) if kind},
        "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(END_S)}},
        "metadata": {_NAME: name, _DIRECTORY: str(order.directory)},
    }


def machines_of(address: str, nodes: Nodes) -> tuple[Machine, ...]:
    """Reads Ray's list of nodes. One that died never comes back: its machine does, as another.

    Args:
        address: of Ray.
        nodes: what it says.

    Raises:
        EngineError: there is no machine.
    """
    machines = []
    for raylet in (node.raylet for node in nodes.summary):
        gives = raylet.resources_total
        if raylet.state != "ALIVE" or not {"CPU", "memory"} <= gives.keys():
            continue
        whole = Resources(cpu_millicores=round(gives["CPU"] * CORE), memory_bytes=int(gives["memory"]))
        takes_jobs = raylet.state_snapshot.state != "DRAINING"
        lines = nodes.node_logical_resources.get(raylet.node_id, "")
        gpus = counted(raylet.node_id, kind_in(gives), int(gives.get("GPU", 0)))
        used_gpus = math.ceil(taken_of(lines)["GPU"])  # a part of one is none for others
        left = msgspec.structs.replace(clamp_subtract(whole, used_of(lines)), gpus=gpus[used_gpus:])
        whole = msgspec.structs.replace(whole, gpus=gpus)
        machines.append(Machine(raylet.node_manager_address, whole, left if takes_jobs else NOTHING, takes_jobs))
    if not machines:
        raise EngineError(f"no machine of {address} is alive and has both CPU and memory")
    return tuple(machines)


def kind_in(gives: Iterable[str]) -> str:
    """What Ray calls the GPUs of a machine; it knows one kind in each."""
    return next((name.removeprefix(_KIND) for name in gives if name.startswith(_KIND)), "")


def used_of(lines: str) -> Resources:
    """What is taken of a machine, but for GPUs."""
    taken = taken_of(lines)
    return Resources(cpu_millicores=round(taken["CPU"] * CORE), memory_bytes=round(taken["memory"]))


def taken_of(lines: str) -> dict[str, float]:
    """What is taken of a machine: Ray tells it in lines such as `0.5/2.0 CPU`. What a placement group holds is taken, used or not."""
    taken = dict.fromkeys(("CPU", "GPU", "memory"), 0.0)
    for line in lines.splitlines():
        if (found := _USED.match(line)) is not None:
            used, in_groups, of_groups = (
                _amount(*found.group(name, f"{name}_unit")) for name in ("used", "part", "held")
            )
            taken[found["what"]] = used - in_groups + of_groups
    return taken


def jobs_of(ours: Iterable[RayJob]) -> dict[str, EngineJob]:
    """Jobs by name. Of two of one name the one that runs counts; one that waits, and would find its run claimed, is none."""
    jobs: dict[str, EngineJob] = {}
    for job in sorted(ours, key=lambda job: job.status == "RUNNING"):
        if job.status == "RUNNING":
            where = urlsplit(job.driver_agent_http_address or "").hostname or ""
            jobs[job.name] = EngineJob(job.id, True, where)
        elif not job.is_over and will_run(job):
            jobs[job.name] = EngineJob(job.id, False, WAITS)
    return jobs


def will_run(job: RayJob) -> bool:
    """Whether its run is there and nobody has claimed it. Ray has no way to take a job that waits out of its queue."""
    with suppress(OSError, ValueError):
        return RunDirectory(job.directory).is_wanted()
    return False


def refusal_of(address: str, status: int, said: str) -> EngineError:
    """An answer that is none."""
    if status in {401, 403}:
        return EngineError(f"{address} wants another token: name a file that has it in executors.ray_token_file")
    if status == 404:
        return UnknownToRayError(f"{address} does not know what is asked: its head needs ray[default]")
    why = last_line(said)
    return EngineError(f"{address}: {why}" if why else f"{address} answers {status}")


def _amount(number: str | None, unit: str | None) -> float:
    return float(number or 0) * _UNITS[unit or ""]


def _read(said: bytes, what: type[_T]) -> _T:
    try:
        return msgspec.json.decode(said, type=what)
    except msgspec.DecodeError as error:
        raise EngineError(f"Ray's answer is not understood: {error}") from error
