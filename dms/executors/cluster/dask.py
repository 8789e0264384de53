"""Dask, by its own client: the scheduler places our escort on a worker, as a task that is published under its key.

A published task goes on without its client, so a node that was restarted finds what it placed by the keys: in each are the run's name and what it was
given. Dask knows the threads of a worker and no sizes of tasks. Its *resources* say what a worker gives to jobs from the market, and what a job takes
of it, and have a job wait while it is not there. But the scheduler looks at how busy a worker is, and not at what is free of its resources: so it is
told which worker has room.

How the client shows who it is, such as by TLS, stands in Dask's own configuration.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from dms.executors.cluster.engine import ANSWER_S, CONNECT_S, Capacity, EngineError, EngineJob, Machine, Order
from dms.executors.cluster.files import RunDirectory
from dms.executors.cluster.gpus import counted
from dms.executors.settings import DaskSettings
from dms.tasks import cancel
from dms_proto.capability import NOTHING, Resources
from dms_proto.market.arithmetic import add, clamp_subtract, fits_within
from dms_proto.units import CORE

if TYPE_CHECKING:
    from distributed import Client, Future

CORES: Final = "dms_cores"
"""Resource of a worker: the cores that jobs get of its machine."""
MEMORY: Final = "dms_memory"
"""Resource of a worker: the bytes of memory."""
GPUS: Final = "dms_gpus"
"""Resource of a worker: the GPUs, of one kind. Dask does not say which: the escort does."""
_GOES_ON: Final = frozenset({"released", "waiting", "queued", "no-worker", "processing"})
"""States of tasks that are not over."""
_MARK: Final = "dms"


class Placed(NamedTuple):
    """What a key says of its job.

    Attributes:
        name: of the job.
        cores: that it takes.
        memory_bytes: that it takes.
        gpus: that it takes.
    """

    name: str
    cores: int
    memory_bytes: int
    gpus: int = 0

    @property
    def amount(self) -> Resources:
        """What it takes, but for GPUs."""
        return Resources(cpu_millicores=self.cores * CORE, memory_bytes=self.memory_bytes)


class Dask:
    """Implements `Engine`; lives on the node's loop."""

    name = "dask"

    def __init__(self, settings: DaskSettings) -> None:
        self._address = settings.address
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._placing = asyncio.Lock()
        self._waiting: dict[str, asyncio.Task[None]] = {}

    async def capacity(self) -> Capacity:
        """See `Engine.capacity`."""
        async with self._asked() as client:
            return await self._capacity(client)

    async def submit(self, name: str, order: Order) -> str:
        """See `Engine.submit`."""
        cores = max(1, -(-order.resources.cpu_millicores // CORE))
        placed = Placed(name, cores, order.resources.memory_bytes, len(order.resources.gpus))
        key = key_of(placed, uuid.uuid4().hex[:8])  # a key that was there before would be the same task
        async with self._placing, self._asked() as client:
            from dms.escort.dask import escort  # noqa: PLC0415 - it imports `distributed`

            machine = place_for(placed, await self._capacity(client))
            where = {} if machine is None else {"workers": [machine], "allow_other_workers": True}
            taken = {CORES: cores, MEMORY: placed.memory_bytes} | ({GPUS: placed.gpus} if placed.gpus else {})
            arguments = key, order.command, str(order.directory), placed.gpus
            future = client.submit(escort, *arguments, key=key, pure=False, resources=taken, **where)
            await client.publish_dataset(future, name=key)
        self._waiting[key] = asyncio.create_task(self._wait(key, future, order.directory))
        return key

    async def jobs(self) -> Mapping[str, EngineJob]:
        """See `Engine.jobs`."""
        async with self._asked() as client:
            keys = [key for key in await client.list_datasets() if placed_of(key) is not None]
            states = await client.scheduler.get_task_status(keys=keys)
            for key in keys:
                if states[key] not in _GOES_ON and key not in self._waiting:  # whose end was heard
                    await client.unpublish_dataset(key)
            going_on = [key for key in keys if states[key] in _GOES_ON]
            stacks = await client.call_stack(keys=going_on) if going_on else {}
        return jobs_of(going_on, {key: address for address, running in stacks.items() for key in running})

    async def cancel(self, job_id: str) -> None:
        """See `Engine.cancel`. What runs is told to end, and stays among the jobs until it has."""
        async with self._asked() as client:
            from distributed import Future  # noqa: PLC0415

            from dms.escort.dask import let_go  # noqa: PLC0415

            placed = await client.processing()
            where = [address for address, keys in placed.items() if job_id in keys]
            heard = await client.run(let_go, job_id, workers=where) if where else {}
            if not any(heard.values()):
                await client.cancel([Future(job_id, client)], force=True)
                await client.unpublish_dataset(job_id)

    async def close(self) -> None:
        """See `Engine.close`."""
        waiting, self._waiting = self._waiting, {}
        await cancel(waiting.values())
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _capacity(self, client: Client) -> Capacity:
        found = await client.scheduler.identity(n_workers=-1)
        machines = machines_of(self._address, found["workers"], await client.processing())
        return Capacity(f"dask {version('distributed')}", machines)

    async def _wait(self, key: str, future: Future, directory: Path) -> None:
        """Notes what kept a runner from being started."""
        try:
            await future
        except Exception as error:  # noqa: BLE001 - whatever was raised in a worker is raised here
            with suppress(OSError):
                await asyncio.to_thread(RunDirectory(directory).complain, f"{type(error).__name__}: {error}")
        finally:
            self._waiting.pop(key, None)

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[Client]:
        try:
            # A second and 40 MiB: a node without Dask pays neither.
            await asyncio.to_thread(import_module, "distributed")
            async with asyncio.timeout(ANSWER_S):
                yield await self._connected()
        except EngineError:
            raise
        except ImportError as error:
            raise EngineError("the package distributed is missing here: pip install 'dms[dask]'") from error
        except TimeoutError as error:
            raise EngineError(f"{self._address} gave no answer within {ANSWER_S:.0f} s") from error
        except Exception as error:  # a scheduler of another version answers with what it likes
            raise EngineError(f"{self._address} does not answer: {error}") from error

    async def _connected(self) -> Client:
        from distributed import Client  # noqa: PLC0415

        async with self._connecting:
            if self._client is not None and self._client.status == "running":
                return self._client
            await self.close()
            client = Client(self._address, asynchronous=True, timeout=CONNECT_S, set_as_default=False, name=_MARK)
            try:
                self._client = await client
            except BaseException:
                await client.close()
                raise
            return self._client


def key_of(placed: Placed, mark: str) -> str:
    """The key of a job's task, whose `mark` no other has."""
    return f"{_MARK}:{placed.name}:{placed.cores}:{placed.memory_bytes}:{placed.gpus}:{mark}"


def placed_of(key: object) -> Placed | None:
    """Reads the key of a task; None: it is not one of ours."""
    match str(key).split(":"):
        case [mark, name, *amounts, _] if mark == _MARK and 2 <= len(amounts) <= 3 and all(map(str.isdecimal, amounts)):
            return Placed(name, *map(int, amounts))  # an earlier version knew no GPUs
        case _:
            return None


def machines_of(
    address: str, workers: Mapping[str, Mapping[str, Any]], processing: Mapping[str, Iterable[object]]
) -> tuple[Machine, ...]:
    """Reads a scheduler's list of workers. Those that give nothing to jobs from the market are none of the cluster's machines.

    Args:
        address: of the scheduler.
        workers: by address.
        processing: the keys that each has.

    Raises:
        EngineError: there is no machine.
    """
    machines = []
    for where, worker in workers.items():
        resources = worker["resources"]
        if not {CORES, MEMORY} <= resources.keys():
            continue
        whole = Resources(cpu_millicores=int(resources[CORES]) * CORE, memory_bytes=int(resources[MEMORY]))
        used, used_gpus = NOTHING, 0
        for placed in filter(None, map(placed_of, processing.get(where, ()))):
            used, used_gpus = add(used, placed.amount), used_gpus + placed.gpus
        takes_jobs = worker["status"] == "running"
        gpus = counted(where, "", int(resources.get(GPUS, 0)))
        left = msgspec.structs.replace(clamp_subtract(whole, used), gpus=gpus[used_gpus:])
        whole = msgspec.structs.replace(whole, gpus=gpus)
        machines.append(Machine(where, whole, left if takes_jobs else NOTHING, takes_jobs))
    if not machines:
        what = f'--resources "{CORES}=8 {MEMORY}=32e9"'
        raise EngineError(f"no worker of {address} gives anything to jobs: start some with {what}")
    return tuple(machines)


def place_for(placed: Placed, capacity: Capacity) -> str | None:
    """The machine with the least room that is enough; None: there is none now."""
    fitting = [
        machine
        for machine in capacity.machines
        if fits_within(placed.amount, machine.idle) and placed.gpus <= len(machine.idle.gpus)
    ]
    best = min(fitting, key=_room, default=None)
    return None if best is None else best.name


def _room(machine: Machine) -> tuple[int, int, int]:
    """GPUs first: where there are some, they are for those who need one."""
    return len(machine.idle.gpus), machine.idle.cpu_millicores, machine.idle.memory_bytes


def jobs_of(keys: list[str], running: Mapping[str, str]) -> dict[str, EngineJob]:
    """Jobs by name. Of two of one name the one that runs counts.

    Args:
        keys: of tasks that are not over.
        running: of those that a worker runs, and where.
    """
    jobs: dict[str, EngineJob] = {}
    for key in sorted(keys, key=running.__contains__):
        placed = placed_of(key)
        assert placed is not None
        jobs[placed.name] = EngineJob(key, key in running, running.get(key, "no worker has room for it"))
    return jobs
