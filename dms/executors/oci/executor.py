"""The executor for containers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import resource
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from dms.executors import gpus as shown_gpus
from dms.executors import job_directory
from dms.executors.oci import config, faults, gpus, probe
from dms.executors.oci.config import Dialect, Inside, Machine, Place, User
from dms.executors.oci.engine import Engine, EngineError, Facts, State
from dms.executors.oci.faults import RefusedError
from dms.executors.oci.filter import profile
from dms.executors.oci.finding import find_engine, sockets
from dms.executors.oci.images import Images
from dms.executors.oci.leftovers import Leftovers, Removal
from dms.executors.oci.memory_files import MemoryFiles
from dms.executors.oci.notes import Notes
from dms.executors.oci.passage import Passage, Passages
from dms.executors.oci.run import ContainerRun, Launched
from dms.executors.oci.warden import Warden
from dms.executors.sandbox import program as sandbox_program
from dms.executors.sandbox import uids
from dms.executors.sandbox.refused import RefusedRun
from dms.executors.settings import ExecutorSettings, OciSettings
from dms_actors.ports import OpenSecrets, Run
from dms_proto.capability import ExecutorOffer, Isolation
from dms_proto.errors import MachineError
from dms_proto.secrets import OpenSecret, is_variable
from dms_proto.siblings import flaw_of
from dms_proto.work import Ending, EndReason, Task

FILTER_FILE: Final = "seccomp.json"
_logger: Final = logging.getLogger(__name__)
_CONFLICT: Final = 409
_NO_INIT: Final = re.compile(r"\binit\b|catatonit|tini", re.IGNORECASE)
NO_GPUS: Final = {shown_gpus.FOR_RUNTIME: shown_gpus.NONE}
"""Said to the runtime where a container is given none: an image may ask it for all."""
_FIRST_CDI: Final = {"docker": 25, "podman": 5}
"""The first versions that know devices by their CDI names in this API: podman 4 takes them for paths there."""


class OciExecutor:
    """Implements `dms_actors.ports.Executor`; lives on the node's loop."""

    name = "oci"
    libraries: tuple[str, ...] = ()

    def __init__(self, settings: ExecutorSettings) -> None:
        """Touches nothing yet.

        Args:
            settings: those in `oci` have to be there.
        """
        self._settings = settings
        self._oci = settings.oci or OciSettings()
        self._state = settings.state_directory / "oci"
        self._home = hashlib.sha256(str(settings.state_directory.resolve()).encode()).hexdigest()[:12]
        self._memory = MemoryFiles(self._home)
        self._notes = Notes(self._state / "freezes")
        self._passages = Passages(settings, self._state / "passages")
        self._runs: dict[str, ContainerRun] = {}
        self._leftovers = Leftovers()
        self._engine: Engine | None = None
        self._images: Images
        self._warden: Warden
        self._dialect: Dialect
        self._held = probe.Held()
        self._uids: uids.UidRange | None = None
        self._opening = asyncio.Lock()

    @property
    def facts(self) -> Facts | None:
        """What the engine says of itself; None before one was found."""
        return self._engine.facts if self._engine is not None else None

    @property
    def closed(self) -> str:
        """Why nothing can lead into a container here, or out of it, as the probe has found; empty: it can."""
        return self._held.closed

    @property
    def processes(self) -> frozenset[int]:
        """The outermost processes of all containers followed."""
        return frozenset(run.process for run in self._runs.values() if run.process)

    @property
    def state_directory(self) -> Path:
        """Where it keeps its files."""
        return self._state

    def user_inside(self, name: str) -> str:
        """Who a run of that name is in its container; an engine has to be open."""
        assert self._engine is not None
        return user_of(self._engine.facts, os.geteuid(), os.getegid(), self._uid(name)).inside

    def do_without_init(self, complaint: str) -> bool:
        """Whether a start that failed so may succeed without the engine's own first process; from now on it is not asked for."""
        if not self._dialect.has_init or not _NO_INIT.search(complaint):
            return False
        self._dialect = msgspec.structs.replace(self._dialect, has_init=False)
        return True

    async def open(self) -> Engine:
        """Finds the engine and prepares what runs share. Idempotent.

        Raises:
            MachineError: `executor_unavailable`.
        """
        async with self._opening:
            if self._engine is not None:
                return self._engine
            found = await find_engine(sockets(self._oci.socket, os.environ, os.geteuid()))
            try:
                self._check(found.facts)
                await asyncio.to_thread(self._furnish)
            except BaseException as error:
                await found.close()
                if isinstance(error, OSError):
                    raise MachineError("executor_unavailable", f"{self._state} cannot be used: {error}") from error
                raise
            self._dialect = dialect_of(found.facts, self._oci.runtime, str(self._state / FILTER_FILE))
            self._images = Images(found, self._oci, self._state / "images.json")
            self._warden = Warden(found.facts.socket, self._home, self._notes.directory, self._state / "warden.log")
            self._engine = found
            return found

    async def close(self) -> None:
        """Stops following. Runs go on and can be adopted. Idempotent."""
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            await run.detach()
        if self._engine is not None:
            found, self._engine = self._engine, None
            await self._leftovers.close()
            self._warden.close()
            await found.close()

    # ------------------------------------------------------------------------------------------------------------- the port

    async def probe(self) -> ExecutorOffer:
        """See `Executor.probe`."""
        facts = (await self.open()).facts
        self._passages.is_proven = False
        try:
            self._held = await probe.prove(self)
        except EngineError as error:
            raise MachineError("executor_unavailable", f"{facts.name} failed: {error}", hint="dms doctor") from error
        return ExecutorOffer(
            name=self.name,
            version=f"{facts.name} {facts.version}"[:128],
            isolation=Isolation.CONTAINER,
            limits=self._held.limits,
            meter=self._held.meter,
        )

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
        return await self.run_as(self.name, allocation_id, task, directory, secrets)

    async def run_as(
        self, owner: str, name: str, task: Task, directory: Path, secrets: Sequence[OpenSecret] = ()
    ) -> Run:
        """`run`, for an executor or for the probe."""
        if fault := fault_of(task, secrets):
            return RefusedRun(Ending(EndReason.BAD_PROGRAM, -1, fault))
        try:
            found = await self.open()
            passage = await self._passages.of(name, task)
            place = self._place(owner, passage, task, directory)
        except MachineError as error:
            return RefusedRun(Ending(EndReason.PROVIDER_FAULT, -1, str(error)))
        if self._held.closed and passage.is_wanted and owner == self.name:
            return RefusedRun(Ending(EndReason.PROVIDER_FAULT, -1, self._held.closed))
        held = list(secrets)
        images: list[config.Image] = []
        run = ContainerRun(found, self._launched(place, passage))

        async def prepare() -> None:
            images.append(await self._images.take(task.image, task.pull, run.say))

        async def launch(started_ms: int) -> State:
            values = tuple(held)
            held.clear()  # they are let go of once the program has them
            then = msgspec.structs.replace(place, started_ms=started_ms)
            return await self._launch(then, passage, task, images[0], values)

        def done() -> None:
            self._runs.pop(name, None)
            if images:
                self._images.let_go(task.image)

        self._runs[name] = run
        self._leftovers.forget(name)  # making a container removes what has its name
        run.begin(prepare, launch, done, partial(self._tidy, name))
        return run

    async def adopt(
        self, allocation_id: str, task: Task, directory: Path, handle: str, secrets: OpenSecrets = tuple
    ) -> Run | None:
        """See `Executor.adopt`. A run that ended while no node was there is adopted too, for its output and its end."""
        if allocation_id in self._runs:
            return self._runs[allocation_id]
        found = await self.open()
        try:
            state = await self._found(found, allocation_id)
        except EngineError as error:
            _logger.error("the container of %s cannot be looked for: %s", allocation_id, error)
            self._remove_later(allocation_id, partial(self._remove, allocation_id))
            return None
        passage = await self._passages.of(allocation_id, task)
        if state is None or (handle and handle != state.id) or not state.started or passage.is_half_open:
            await self._tidy(allocation_id)
            return None
        self._warden.start()
        place = msgspec.structs.replace(
            self._place(self.name, passage, task, directory),
            started_ms=int(state.labels.get(config.STARTED_LABEL, "0")),
        )
        run = ContainerRun(found, self._launched(place, passage))
        self._runs[allocation_id] = run
        run.adopt(state, lambda: self._forget(allocation_id), partial(self._tidy, allocation_id))
        return run

    async def sweep(self, keep: Sequence[str]) -> int:
        """See `Executor.sweep`."""
        try:
            return await self._sweep(keep)
        except EngineError as error:
            _logger.error("what dead runs have left cannot be looked for: %s", error)
            self._remove_later("what dead runs have left", partial(self._sweep, keep))
            return 0

    # ---------------------------------------------------------------------------------------------------------- one run

    def _furnish(self) -> None:
        """Makes the directory, and writes the filter where an engine can read it."""
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._state / f".{FILTER_FILE}.{os.getpid()}"
        fresh.write_text(profile())
        fresh.replace(self._state / FILTER_FILE)
        if os.geteuid() == 0:
            self._uids = uids.choose(self._settings, Path("/proc/self/uid_map").read_text())

    def _check(self, facts: Facts) -> None:
        if self._oci.runtime and self._oci.runtime not in facts.runtimes:
            known = ", ".join(facts.runtimes) or "none by name"
            raise MachineError(
                "executor_unavailable",
                f"{facts.name} has no runtime {self._oci.runtime!r}, only: {known}",
                hint="change executors.oci_runtime, or make the runtime known to the engine",
            )
        if os.geteuid() == 0 and facts.rootless:
            raise MachineError(
                "executor_unavailable",
                f"{facts.socket} is another user's rootless engine, and this node is root: files would belong to neither",
                hint="run the node as the engine's user",
            )

    def _place(self, owner: str, passage: Passage, task: Task, directory: Path) -> Place:
        if ":" in str(directory):
            raise MachineError(
                "sandbox_failed", f"{directory} cannot be shown to a container: there is a colon in its path"
            )
        assert self._engine is not None
        return Place(
            name=passage.name,
            home=self._home,
            owner=owner,
            directory=str(directory),
            memory="",
            user=user_of(self._engine.facts, os.geteuid(), os.getegid(), self._uid(passage.name)),
            allowance=sandbox_program.allowance_of(task, passage.program, self._settings),
            started_ms=0,
        )

    def _uid(self, name: str) -> int:
        return self._uids.of(name, self._settings.state_directory) if self._uids is not None else 0

    def _launched(self, place: Place, passage: Passage) -> Launched:
        return Launched(
            container=self._container(place.name),
            directory=Path(place.directory),
            allowance=place.allowance,
            meter=self._held.meter,
            tells_oom=self._held.tells_oom,
            notes=(self._notes, place.name),
            passage=passage,
            follows=self._dialect.follows,
            started_ms=place.started_ms,
        )

    def _container(self, name: str) -> str:
        return f"dms-{self._home}-{name}"

    async def _launch(
        self, place: Place, passage: Passage, task: Task, image: config.Image, secrets: Sequence[OpenSecret]
    ) -> State:
        """Makes and starts the container.

        Raises:
            RefusedError: it could not be; nothing of it is left.
            MachineError: this machine lacks what it needs; nothing of it is left.
            EngineError: the engine did not answer.
        """
        assert self._engine is not None
        has_variables = any(secret.variable for secret in secrets)
        try:
            given = shown_gpus.given(task.resources.gpus, self._settings.gpus)
            devices = await asyncio.to_thread(gpus.devices_of, given, self._oci.cdi, knows_cdi=self._dialect.knows_cdi)
            memory = self._memory.lay_out(place.name, secrets, place.user)
            place = msgspec.structs.replace(place, memory=memory)
            if place.user.outside:
                await asyncio.to_thread(job_directory.hand_over, Path(place.directory), place.user.outside)
            environment = {**task.environment, **devices.variables, **NO_GPUS, **shown_gpus.variables(given)}
            shown = passage.open(image, task.command, environment, place.user.outside)
            inside = Inside(image, shown.command, shown.environment, has_variables, devices, shown.binds, shown.hosts)
            wanted = config.container(place, inside, self._dialect, _machine())
            self._warden.start()
            container = await self._create(place.name, wanted)
            await self._check_runtime(container)
            await self._engine.start(container)
            state = await self._engine.state(container)
            if state is None:
                raise EngineError(404, "the container is gone")
            await passage.give(state.pid, partial(self._engine.until_exited, container))
        except BaseException as error:
            passage.drop()
            await self._tidy(place.name)
            if isinstance(error, OSError):
                raise MachineError("sandbox_failed", f"the job's directory: {error.strerror or error}") from error
            if isinstance(error, EngineError) and error.status:
                raise RefusedError(faults.start_failed(error.message, reads_variables=has_variables)) from error
            raise
        return state

    async def _create(self, name: str, wanted: dict[str, object]) -> str:
        assert self._engine is not None
        try:
            return await self._engine.create(self._container(name), wanted)
        except EngineError as error:
            if error.status != _CONFLICT:
                raise
        await self._engine.remove(self._container(name))  # what an earlier run of that name left
        return await self._engine.create(self._container(name), wanted)

    async def _check_runtime(self, container: str) -> None:
        """Whether it got the runtime that the owner wants: podman 4 passes over that name without a word.

        Raises:
            MachineError: `executor_unavailable`: it would be run by another.
        """
        assert self._engine is not None
        if not self._oci.runtime or (given := await self._engine.runtime_of(container)) == self._oci.runtime:
            return
        facts = self._engine.facts
        raise MachineError(
            "executor_unavailable",
            f"{facts.name} {facts.version} would run this by {given!r} and not by {self._oci.runtime!r}: make that its default, "
            "as `runtime` in podman's containers.conf, and leave executors.oci_runtime empty",
        )

    async def _found(self, found: Engine, name: str) -> State | None:
        """The container of a run, if it is this node's."""
        state = await found.state(self._container(name))
        if state is None or (state.labels.get(config.HOME_LABEL), state.labels.get(config.NAME_LABEL)) != (
            self._home,
            name,
        ):
            return None
        return state

    async def _sweep(self, keep: Sequence[str]) -> int:
        found = await self.open()
        known, removed = {*keep, *self._runs}, 0
        for container in await found.containers(**{config.HOME_LABEL: self._home}):
            if container.labels.get(config.NAME_LABEL) not in known:
                gone = await self._removed(found, container.id)
                removed += int(gone and container.labels.get(config.OWNER_LABEL) == self.name)
        for left in (self._memory, self._notes, self._passages):
            left.sweep(known)
        await self._images.tidy()
        return removed

    async def _removed(self, found: Engine, container: str) -> bool:
        """Removes it, now or as soon as the engine can. False: it was not there, or still is."""
        try:
            return await found.remove(container)
        except EngineError as error:
            _logger.error("container %s is not removed: %s", container, error)
            self._remove_later(container, partial(found.remove, container))
            return False

    async def _tidy(self, name: str) -> None:
        """Removes what a run that is over has left, now or as soon as the engine can."""
        if self._engine is not None:
            try:
                await self._remove(name)
            except EngineError as error:
                _logger.error("the container of %s is not removed: %s", name, error)
                self._remove_later(name, partial(self._remove, name))

    async def _remove(self, name: str) -> None:
        assert self._engine is not None
        await self._engine.remove(self._container(name))
        for left in (self._memory, self._notes, self._passages):
            left.remove(name)

    def _remove_later(self, name: str, removal: Removal) -> None:
        """With a warden, should the node end before the engine is back. One that is closed leaves it to the wardens there are."""
        if self._engine is not None:
            self._warden.start()
            self._leftovers.add(name, removal)

    def _forget(self, name: str) -> None:
        self._runs.pop(name, None)


def dialect_of(facts: Facts, runtime: str = "", filter_file: str = "") -> Dialect:
    """How an engine wants things said.

    Args:
        facts: of the engine.
        runtime: by which containers shall be run; empty for the engine's default.
        filter_file: where the system call filter lies.
    """
    major = facts.version.partition(".")[0]
    knows_cdi = major.isdigit() and int(major) >= _FIRST_CDI[facts.name]
    if facts.name == "podman":
        return Dialect(
            log_driver="k8s-file",
            log_factor=48,
            follows=False,
            masks_by_option=True,
            filter_file=filter_file,
            runtime=runtime,
            knows_cdi=knows_cdi,
        )
    return Dialect(runtime=runtime, knows_cdi=knows_cdi)


def user_of(facts: Facts, uid: int, gid: int, own_uid: int) -> User:
    """Who a job is, so that what it leaves can be the node's again.

    Args:
        facts: of the engine.
        uid: of the node.
        gid: of the node.
        own_uid: the run's own user, where the node is root.
    """
    if uid == 0:
        return User(f"{own_uid}:{own_uid}", outside=own_uid)
    if not facts.rootless:
        return User(f"{uid}:{gid}")
    if facts.name == "podman":
        return User(f"{uid}:{gid}", namespace="keep-id")
    return User("0:0")  # rootless Docker maps no user but its root to the one who runs it; it has no capabilities


def fault_of(task: Task, secrets: Sequence[OpenSecret]) -> str:
    """Why this task can never be started, or ""."""
    if not task.image:
        return "a job for a container needs an image"
    if task.names.count and (flaw := flaw_of(task.executor, task.names.count, len(task.ports))):
        return f"it cannot have names: {flaw}"
    if any(secret.variable and not is_variable(secret.value) for secret in secrets):
        return "a secret that is to be a variable is no text"
    return sandbox_program.fault_in_words(task, task.command)


def _machine() -> Machine:
    return Machine(
        _least(config.MAX_FILES, resource.RLIMIT_NOFILE), _least(config.MAX_PROCESSES, resource.RLIMIT_NPROC)
    )


def _least(most: int, limit: int) -> int:
    hard = resource.getrlimit(limit)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)
