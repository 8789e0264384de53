"""The executors of a cluster, one for each kind of task, and what they share: the engine, and the look at all of their jobs at once."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from dms.executors.cluster.engine import Capacity, Engine, EngineError, EngineJob, Order
from dms.executors.cluster.files import Proof, RunDirectory, Spec, place_of
from dms.executors.cluster.gpus import kinds_of, ordered
from dms.executors.cluster.kinds import KINDS
from dms.executors.cluster.own import check_place, own_directory
from dms.executors.cluster.run import PlacedRun
from dms.executors.cluster.tethers import LeadOut, Tethers
from dms.executors.sandbox.refused import RefusedRun
from dms.executors.settings import ClusterSettings, ExecutorSettings
from dms.tasks import cancel
from dms_actors.ports import OpenSecrets, Run
from dms_proto.abilities import ABILITIES
from dms_proto.capability import ExecutorOffer, Gpu, Resources
from dms_proto.errors import MachineError
from dms_proto.market.arithmetic import add, total_of
from dms_proto.secrets import OpenSecret
from dms_proto.units import MIB, MINUTE
from dms_proto.work import Ending, EndReason, Limits, Task, agents_of, shown, wants_company

_logger: Final = logging.getLogger(__name__)

RUNNER: Final = Resources(memory_bytes=160 * MIB)
"""What a runner takes beside its task."""
MARGIN_MS: Final = 5 * MINUTE
"""How much later than the runner the engine ends a job: after its start, its proof and its end."""
JOBS_LOOK_S: Final = 1.0
"""Between two questions to the engine while runs are followed."""
GONE_S: Final = 30.0
"""How long a job that was cancelled may take to be gone."""
_PROBE: Final = "probe"


class Known(msgspec.Struct, frozen=True):
    """What is known of a cluster, kept for a start while it is full or its engine away.

    Attributes:
        capacity: with the GPUs whose kind was proven.
        proof: of a machine.
        gpus: what each kind of GPU is, by the engine's names.
        unproven: the other kinds, and why they are not offered.
    """

    capacity: Capacity
    proof: Proof
    gpus: dict[str, Gpu] = {}
    unproven: dict[str, str] = {}


class Cluster:
    """One per node; lives on its loop.

    Args:
        settings: those in `cluster` have to be there.
        engine: of the cluster.
    """

    def __init__(self, settings: ExecutorSettings, engine: Engine) -> None:
        assert settings.cluster is not None
        self.engine = engine
        self.fault = ""
        """Why the engine cannot be asked now; empty while it answers."""
        self.unreserved = settings.unreserved
        self.known: Known | None = None
        self._cluster: ClusterSettings = settings.cluster
        self._settings = settings
        self._shared = place_of(self._cluster.shared, settings.state_directory)
        self._tethers = Tethers(self._shared)
        self._deaf = "executors.cluster_address is not set"
        self._runs: dict[str, tuple[PlacedRun, Task]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._finding: asyncio.Task[Known] | None = None

    @property
    def runs_directory(self) -> Path:
        """Where the files of runs are."""
        return self._shared / "runs"

    @property
    def in_use(self) -> Resources:
        """What the runs that are followed were given."""
        return total_of(task.resources for _, task in self._runs.values())

    @property
    def is_to_be_reached(self) -> bool:
        """Whether its owner means its machines to connect here."""
        return self._cluster.address is not None

    @property
    def apart(self) -> str:
        """Why nothing can lead into runs on its machines, or out of them; empty: it can."""
        return self._deaf or (self.known.proof.apart if self.known is not None else "no machine of it was asked yet")

    def lead_out_by(self, lead: LeadOut) -> None:
        """Says who leads connections of runs to their siblings."""
        self._tethers.lead_out_by(lead)

    def executors(self) -> tuple[PlacedExecutor, ...]:
        """One for each kind that the owner offers and that can be placed."""
        return tuple(PlacedExecutor(kind.name, self) for kind in KINDS if kind.name in self._cluster.kinds)

    def name_of(self, name: str) -> str:
        """The engine's name of the job of a run."""
        return f"{self._shared.name}-{name}"

    async def find(self) -> Known:
        """Asks the engine what there is, and has one machine prove what it can do. Once; for all executors.

        Raises:
            MachineError: `executor_unavailable`.
        """
        if self._finding is None:
            self._finding = asyncio.get_running_loop().create_task(self._find())
        self.known = await self._finding
        return self.known

    async def capacity(self) -> Capacity:
        """What there is now.

        Raises:
            EngineError: the engine does not answer.
        """
        try:
            found = await self.engine.capacity()
        except EngineError as error:
            self.fault = error.message
            raise
        self.fault = ""
        return found.proven(self.known.gpus) if self.known is not None else found

    async def close(self) -> None:
        """Stops following. Runs go on and can be adopted. Idempotent."""
        self._runs = {}
        for task in (self._looking, self._finding):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._tethers.close()
        await self.engine.close()

    # ---------------------------------------------------------------------------------------------------------------- runs

    async def place(
        self, name: str, task: Task, directory: Path, offer: ExecutorOffer | None, secrets: OpenSecrets
    ) -> Run:
        """Has a runner placed for a task, on a machine that can do what was promised."""
        spec = msgspec.structs.replace(self._spec(name), task=shown(task), directory=str(directory), offer=offer)
        files = RunDirectory(self.runs_directory / spec.name)
        try:
            await asyncio.to_thread(self._settle)
            await asyncio.to_thread(files.create, spec)
            job_id = await self._submit(files, task)
        except (EngineError, OSError) as error:
            files.remove()
            return RefusedRun(Ending(EndReason.PROVIDER_FAULT, -1, f"{self.engine.name} took no job: {error}"))
        return self._follow(files, name, task, job_id, secrets)

    async def adopt(self, name: str, task: Task, secrets: OpenSecrets) -> Run | None:
        """Follows a run of an earlier process: one that goes on, waits, or has ended meanwhile."""
        if name in self._runs:
            return self._runs[name][0]
        files = RunDirectory(self.runs_directory / name)
        if not files.exists():
            return None
        return self._follow(files, name, task, files.id(), secrets)

    async def sweep(self, kind: str, keep: Sequence[str]) -> int:
        """Ends and removes the runs of one kind that are neither kept nor followed. Returns how many."""
        known, removed = {*keep, *self._runs}, 0
        for path in [path for path in _entries(self.runs_directory) if path.name not in known]:
            files = RunDirectory(path)
            spec = files.spec()
            if spec is None or spec.task is None or spec.task.executor == kind:
                await self._end(files)
                removed += int(spec is not None and spec.task is not None)
        return removed

    def _follow(self, files: RunDirectory, name: str, task: Task, job_id: str, secrets: OpenSecrets) -> PlacedRun:
        def done() -> None:
            self._runs.pop(name, None)
            files.remove()

        lead = partial(self._tethers.connect, name)
        run = PlacedRun(
            files,
            self.engine.name,
            job_id,
            cancel=self._cancel,
            lead=lead,
            done=done,
            secrets=secrets if task.secrets else None,
        )
        self._runs[name] = (run, task)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="jobs of the cluster")
        return run

    def _spec(self, name: str) -> Spec:
        """What any runner is told."""
        settings = self._settings
        return Spec(
            name,
            self.unreserved,
            egress=settings.egress,
            egress_networks=settings.egress_networks,
            simulated_gpus=self._cluster.simulated_gpus,
        )

    async def _submit(self, files: RunDirectory, task: Task, gpus: tuple[Gpu, ...] = ()) -> str:
        """Has a runner placed, with these GPUs, by the engine's names, or those that the task was promised."""
        command = (self._cluster.python, "-m", "dms.executors.cluster.runner", str(files.path))
        reserved = Resources(
            cpu_millicores=task.resources.cpu_millicores or self.unreserved.cpu_millicores,
            memory_bytes=task.resources.memory_bytes or self.unreserved.memory_bytes,
        )
        beside = Resources(memory_bytes=RUNNER.memory_bytes + agents_of(task))
        wall_ms = task.limits.wall_ms + task.limits.grace_ms + MARGIN_MS
        taken = msgspec.structs.replace(add(reserved, beside), gpus=gpus or self._ordered(task.resources.gpus))
        order = Order(command, files.path, taken, wall_ms)
        job_id = await self.engine.submit(self.name_of(files.path.name), order)
        await asyncio.to_thread(files.keep_id, job_id)
        return job_id

    def _ordered(self, promised: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
        try:
            return ordered(promised, self.known.gpus if self.known is not None else {})
        except LookupError:
            raise EngineError("a GPU that was promised is of no kind that is known of its machines now") from None

    async def _look(self) -> None:
        """Tells each run what the engine says of it, while there are any. An engine that is away says nothing, and runs go on."""
        while self._runs:
            await asyncio.sleep(JOBS_LOOK_S)
            followed = list(self._runs.items())
            try:
                jobs = await self.engine.jobs()
            except EngineError as error:
                self.fault = error.message
                _logger.warning("%s does not say how its jobs are: %s", self.engine.name, error)
                for _, (run, _) in followed:
                    run.unanswered(time.monotonic())
                continue
            self.fault = ""
            for name, (run, _) in followed:
                run.seen(jobs.get(self.name_of(name)))

    async def _cancel(self, job_id: str) -> None:
        try:
            await self.engine.cancel(job_id)
        except EngineError as error:
            _logger.error("%s does not end job %s, which will run nothing: %s", self.engine.name, job_id, error)

    async def _end(self, files: RunDirectory) -> None:
        """Ends whatever a run still does, and removes its files."""
        if not await asyncio.to_thread(files.claim, "swept"):
            await asyncio.to_thread(files.ask_to_stop, 0)
        deadline = time.monotonic() + GONE_S
        with suppress(EngineError):
            while (job := (await self.engine.jobs()).get(self.name_of(files.path.name))) is not None:
                await self._cancel(job.id)
                if time.monotonic() > deadline:
                    _logger.error("job %s of %s does not end", job.id, self.engine.name)
                    break
                await asyncio.sleep(JOBS_LOOK_S / 4)
        await asyncio.to_thread(files.remove)

    # --------------------------------------------------------------------------------------------------------------- probing

    async def _find(self) -> Known:
        file = self._shared / "known.json"
        earlier = await asyncio.to_thread(_known_in, file)
        try:
            await asyncio.to_thread(self._settle)
        except OSError as error:
            hint = "name one in executors.cluster_directory that is there, and to which nobody but this user can write"
            raise MachineError("executor_unavailable", f"{self.engine.name}: {error}", hint=hint) from error
        try:
            self._listen()
            known = await self._known(earlier.gpus if earlier is not None else {})
            await asyncio.to_thread(file.write_bytes, msgspec.json.encode(known))
        except (EngineError, OSError) as error:
            if earlier is not None:
                _logger.warning("%s: what was proven earlier is offered: %s", self.engine.name, error)
                return earlier
            hint = f"look at {self.engine.name}, at executors.cluster_directory and executors.cluster_python"
            raise MachineError("executor_unavailable", f"{self.engine.name}: {error}", hint=hint) from error
        return known

    def _settle(self) -> None:
        """Makes the node's own place in the shared directory.

        Who could write there, or put something in its place, would have runners do what they like as the node's user, and seal secrets to them.

        Raises:
            OSError: there is none, or it is not this user's alone.
        """
        check_place(self._cluster.shared)
        own_directory(self._shared, os.geteuid())
        own_directory(self.runs_directory, os.geteuid())

    async def _known(self, earlier: Mapping[str, Gpu]) -> Known:
        """What is found now. All that is to be proven is at once: while it is, nobody hears of the jobs that run."""
        capacity = await self.capacity()
        proving = asyncio.create_task(self._prove_gpus(capacity, earlier))
        try:
            proof = await self._prove(_PROBE)
            gpus, unproven = await proving
        finally:
            await cancel([proving])
        return Known(capacity.proven(gpus), proof, gpus, unproven)

    def _listen(self) -> None:
        """Where its owner says that its machines reach this one."""
        if self._cluster.address is None:
            return
        host, port = self._cluster.address
        try:
            self._tethers.listen(host, port)
            self._deaf = ""
        except OSError as error:
            self._deaf = f"at executors.cluster_address, {host}:{port}, cannot be listened: {error.strerror or error}"
            _logger.error("%s", self._deaf)

    async def _prove_gpus(
        self, capacity: Capacity, earlier: Mapping[str, Gpu]
    ) -> tuple[dict[str, Gpu], dict[str, str]]:
        """What each kind of GPU is, and which kinds nobody can say that of. Of one that others have now, what was proven earlier is."""
        if not self._cluster.has_gpus:
            return {}, {}
        idle = kinds_of(capacity.idle.gpus)
        known = {kind: earlier[kind] for kind in capacity.gpu_kinds if kind in earlier and not idle[kind]}
        asked = [kind for kind in capacity.gpu_kinds if kind not in known]
        names = [f"{_PROBE}-gpu-{number}" for number in range(len(asked))]
        proofs = await asyncio.gather(*map(self._prove_gpu, names, asked), return_exceptions=True)
        unproven = {}
        for kind, proof in zip(asked, proofs, strict=True):
            if isinstance(proof, Gpu):
                known[kind] = proof
            elif isinstance(proof, EngineError):
                unproven[kind or "gpu"] = proof.message
                _logger.warning("GPUs (%s) of %s are not offered: %s", kind or "gpu", self.engine.name, proof)
            else:
                raise proof
        return known, unproven

    async def _prove_gpu(self, name: str, kind: str) -> Gpu:
        proof = await self._prove(name, (Gpu(model=kind),))
        if not proof.gpus:
            raise EngineError(f"{proof.machine} finds no device that it was given and can use")
        return proof.gpus[0]

    async def _prove(self, name: str, gpus: tuple[Gpu, ...] = ()) -> Proof:
        """What the machine can do that the engine gives to us.

        Raises:
            EngineError: it gave none in time, or none that can run a runner.
        """
        files = RunDirectory(self.runs_directory / name)
        if files.path.exists():
            await self._end(files)
        await asyncio.to_thread(files.create, self._spec(name))
        task = Task("sandbox", limits=Limits(wall_ms=int(self._cluster.start_s * 1000)))
        job_id = await self._submit(files, task, gpus)
        try:
            return await self._proof_of(files)
        finally:
            await self._cancel(job_id)
            await asyncio.to_thread(files.remove)

    async def _proof_of(self, files: RunDirectory) -> Proof:
        job: EngineJob | None = None
        try:
            async with asyncio.timeout(self._cluster.start_s):
                while (proof := await asyncio.to_thread(files.proof)) is None:
                    job = (await self.engine.jobs()).get(self.name_of(files.path.name))
                    if job is None and (proof := await asyncio.to_thread(files.proof)) is None:
                        raise EngineError(f"the runner failed: {files.complaint() or 'it said nothing'}")
                    await asyncio.sleep(JOBS_LOOK_S / 4)
        except TimeoutError as error:
            where = f"runs on {job.detail}" if job is not None and job.is_running else "waits in the queue"
            why = f" ({job.detail})" if job is not None and not job.is_running else ""
            raise EngineError(f"after {self._cluster.start_s:.0f} s the runner still {where}{why}") from error
        assert proof is not None
        return proof


class PlacedExecutor:
    """Implements `dms_actors.ports.Executor`: tasks of one kind, on the machines of a cluster. Lives on the node's loop."""

    libraries: tuple[str, ...] = ()

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name = name
        self.cluster = cluster
        self._offer: ExecutorOffer | None = None

    async def probe(self) -> ExecutorOffer:
        """See `Executor.probe`: what a machine of the cluster proved; each proves it again before its first task."""
        proof = (await self.cluster.find()).proof
        for name, message, hint in proof.faults:
            if name == self.name:
                raise MachineError("executor_unavailable", f"on {proof.machine}: {message}", hint=hint)
        offer = next(offer for offer in proof.offers if offer.name == self.name)
        self.promise(offer)
        return offer

    @property
    def closed(self) -> str:
        """Why jobs can have nothing beside their program; empty: they can what this executor can, be it nothing."""
        why = self.cluster.apart if ABILITIES[self.name] else ""
        return f"jobs are placed on a cluster here, and what runs there is not reached: {why}" if why else ""

    def promise(self, offer: ExecutorOffer) -> None:
        """From now on a machine has to prove as much as this before it runs a task."""
        self._offer = offer

    async def run(
        self,
        allocation_id: str,
        task: Task,
        directory: Path,
        secrets: Sequence[OpenSecret] = (),
        *,
        gives_way: bool = False,
    ) -> Run:
        """See `Executor.run`."""
        if wants_company(task) and self.closed:
            return RefusedRun(Ending(EndReason.PROVIDER_FAULT, -1, self.closed))
        return await self.cluster.place(allocation_id, task, directory, self._offer, lambda: secrets)

    async def adopt(
        self, allocation_id: str, task: Task, directory: Path, handle: str, secrets: OpenSecrets = tuple
    ) -> Run | None:
        """See `Executor.adopt`. A run that ended while no node was there is adopted too, for its output and its end."""
        return await self.cluster.adopt(allocation_id, task, secrets)

    async def sweep(self, keep: Sequence[str]) -> int:
        """See `Executor.sweep`."""
        return await self.cluster.sweep(self.name, keep)


def _known_in(file: Path) -> Known | None:
    """What an earlier node knew."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(file.read_bytes(), type=Known)
    return None


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []
