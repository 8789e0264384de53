"""The engine that all sandboxed executors share: it prepares what every sandbox needs once, starts runs, finds them again and sweeps after them.

Layout of its state directory::

    runs/          the files of runs (see `run_files`)
    etc/           what jobs see as /etc
    egress/etc/    what those see that may connect to elsewhere
    seccomp.bpf    the system call filter
    launcher.log   complaints of the launcher
    egress.log     complaints of proxies
    names.log      complaints of those who keep a job's names
    names.door     where these find the node: see `dms.node.siblings`
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from dms.executors import gpus, job_directory
from dms.executors.limiter import Allowance, Group, Limiter
from dms.executors.limiter import detect as detect_limiter
from dms.executors.run_clock import RunClock
from dms.executors.sandbox import bwrap, profile, run_files, seccomp, uids, wanted
from dms.executors.sandbox.descriptors import Descriptors
from dms.executors.sandbox.launcher import Claim, Launcher, Order, Spare
from dms.executors.sandbox.launcher_main import MOUNT_ROOT
from dms.executors.sandbox.process import Process, is_same
from dms.executors.sandbox.program import Program, allowance_of, fault_of
from dms.executors.sandbox.refused import RefusedRun
from dms.executors.sandbox.run import Place, SandboxRun, handle_of
from dms.executors.sandbox.run_files import METER, Record, RunFiles, Status
from dms.executors.sandbox.spares import SparePool
from dms.executors.sandbox.wanted import Outside
from dms.executors.sandbox.watch import DirectoryWatch
from dms.executors.settings import ExecutorSettings
from dms.hardware.gpu_types import FoundGpu
from dms_actors.ports import Run
from dms_proto.capability import Meter
from dms_proto.errors import MachineError
from dms_proto.siblings import hosts_of
from dms_proto.units import MIB
from dms_proto.work import Ending, EndReason, Task

_logger: Final = logging.getLogger(__name__)

ARGUMENTS_FD: Final = 4
"""Descriptors of bubblewrap: 0-2 standard streams, 3 status (`launcher_main.STATUS_FD`), 4 options, 5 seccomp, then block, result, doors if any."""
_READ_ARGUMENTS: Final = ("--args", str(ARGUMENTS_FD), "--")
_READ: Final = os.O_RDONLY | os.O_CLOEXEC
_HALF_STARTED_S: Final = 2.0
_UNRECORDED_S: Final = 0.1
"""How long a run that an earlier node was just starting may take to write its record, and then until bubblewrap names its process."""


class Sandbox:
    """Starts and follows runs. One per node process; lives on its loop."""

    def __init__(self, settings: ExecutorSettings) -> None:
        """Touches nothing yet.

        Args:
            settings: see there.
        """
        self.settings = settings
        self.binary = ""
        self._bwrap_home: Path | None = None
        self.limiter: Limiter
        self._spares: SparePool
        self.proof: asyncio.Task[tuple[str, ...]] | None = None
        self._state = settings.state_directory
        self._runs_directory = self._state / "runs"
        self._launcher = Launcher(self._state / "launcher.log", outlives=settings.outlives_node)
        self._watch = DirectoryWatch(self._runs_directory)
        self._runs: dict[str, SandboxRun] = {}
        self._uids: uids.UidRange | None = None
        self._host_options = b""
        self._devnull = -1
        self._boot = ""

    @property
    def launcher_pid(self) -> int:
        """Process id of the launcher, 0 before the start."""
        return self._launcher.pid

    @property
    def processes(self) -> frozenset[int]:
        """The outermost processes of all runs followed. Those of an earlier node's runs are not below this process."""
        return frozenset(pid for run in self._runs.values() for pid in run.processes)

    def start(self) -> None:
        """Prepares everything that runs share. Idempotent.

        Raises:
            MachineError: `executor_unavailable`.
        """
        if self._devnull >= 0:
            return
        self.binary = bwrap.find(self.settings.bwrap)
        self._bwrap_home = bwrap.home_of(self.binary)
        try:
            self._runs_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            seccomp.cached(self._state)
            profile.build_etc(self._state)
            profile.build_trusting_etc(self._state / "egress")
            self._boot = run_files.boot_id()
        except OSError as error:
            raise MachineError("executor_unavailable", f"{self._state} cannot be used: {error}") from error
        home = hashlib.sha256(str(self._state.resolve()).encode()).hexdigest()[:12]
        self.limiter = detect_limiter(self.settings.cgroup_root, f"dms-{home}", self.settings.limiters)
        if os.geteuid() == 0:
            self._uids = uids.choose(self.settings, Path("/proc/self/uid_map").read_text())
        self._host_options = profile.encode(profile.host_options())
        self._watch.start()
        self._launcher.start()
        self._spares = SparePool(self._launcher, self.limiter)
        self._spares.refill_soon(0)
        self._devnull = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    async def run(self, name: str, task: Task, program: Program, directory: Path, *, gives_way: bool = False) -> Run:
        """Starts a program. Whatever goes wrong is told by the run's events."""
        if fault := fault_of(task, program):
            return RefusedRun(Ending(EndReason.BAD_PROGRAM, -1, fault))
        try:
            self.start()
            program = _with_gpus(program, gpus.given(task.resources.gpus, self.settings.gpus))
            files = RunFiles(self._runs_directory, name)
            spare = await self._spares.take(gives_way=gives_way)
        except (MachineError, ValueError) as error:
            return RefusedRun(Ending(EndReason.PROVIDER_FAULT, -1, str(error)))
        uid = self._uids.of(name, self._state) if self._uids else 0
        allowance = allowance_of(task, program, self.settings)
        place = Place(
            files, spare.group, directory, uid, allowance, self.limiter, program.judge, program.overhead_bytes
        )
        run = SandboxRun(place, RunClock(_now_ms()))
        run.set_monitor(spare.process)
        self._follow(name, run, partial(self._launch, program=program, spare=spare))
        return run

    async def adopt(self, name: str, task: Task, program: Program, directory: Path, handle: str) -> SandboxRun | None:
        """Takes over a run of an earlier process: one that still goes on, or one that ended meanwhile and left its exit code.

        Returns:
            The run, or None: nothing is known of how it ended, and what was left of it is cleaned up.
        """
        self.start()
        if name in self._runs:
            return self._runs[name]
        files = RunFiles(self._runs_directory, name)
        if not files.open():
            return None
        record, status, inner = await self._found(files, handle)
        if record is None or (inner is None and not status.tells_the_end):
            files.close()
            self._clean_up(name, record, status, directory)
            return None
        allowance = allowance_of(task, program, self.settings)
        group = self.limiter.reopen(record.groups, allowance)
        place = Place(
            files, group, directory, record.uid, allowance, self.limiter, program.judge, program.overhead_bytes
        )
        run = SandboxRun(place, RunClock(record.started_ms, status.frozen_ms, status.frozen_at))
        self._follow(name, run, partial(self._resume, record=record, status=status, inner=inner))
        return run

    async def sweep(self, executor: str, keep: Sequence[str]) -> int:
        """Ends and removes runs of `executor` that are neither kept nor followed now, and what belongs to no run at all. Returns how many runs."""
        self.start()
        removed = 0
        known = set(keep) | set(self._runs)
        on_disk = run_files.names(self._runs_directory)
        for name in on_disk - known:
            files = RunFiles(self._runs_directory, name)
            record, status = await self._read_settled(files)
            if record is None or record.executor == executor:
                self._clean_up(name, record, status, Path(record.directory) if record else None)
                removed += 1
        for group in self.groups_of_nobody():
            group.kill()
            group.remove()
        return removed

    async def close(self) -> None:
        """Stops following. Runs go on and can be adopted. Idempotent."""
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            run.detach()
        self._watch.close()
        if self._devnull >= 0:
            await self._spares.close()
        await self._launcher.close(wait=not runs)
        if self._devnull >= 0:
            self.limiter.release()
            os.close(self._devnull)
            self._devnull = -1

    # ---------------------------------------------------------------------------------------------------------- starting

    def groups_of_nobody(self) -> list[Group]:
        """Groups that hold neither a run that has files nor a spare of ours: what is left of an earlier node's spares and half-started runs."""
        used = {tuple(group.paths) for group in self._spares.groups()}
        used |= {tuple(run.place.group.paths) for run in self._runs.values()}
        for name in run_files.names(self._runs_directory):
            files = RunFiles(self._runs_directory, name)
            if files.open() and (record := files.record()):
                used.add(tuple(record.groups))
            files.close()
        return [group for group in self.limiter.leftovers() if tuple(group.paths) not in used]

    def _follow(self, name: str, run: SandboxRun, launch: Callable[[SandboxRun], object]) -> None:
        self._runs[name] = run
        self._watch.add(name, run.look)
        run.supervise(launch, partial(self._forget, name))  # type: ignore[arg-type]

    def _forget(self, name: str) -> None:
        self._watch.discard(name)
        self._runs.pop(name, None)

    async def _launch(self, run: SandboxRun, program: Program, spare: Spare) -> None:
        place = run.place
        spare.process.listen(run.look)
        try:
            place.group.limit(place.allowance)
            place.files.create()
            if place.uid:
                job_directory.hand_over(place.directory, place.uid)
            with self._order(run, program) as (order, fds):
                spare.send(order, fds)
            meter = int(self.limiter.meter is not Meter.EXACT)
            claim = Claim(spare.process.pid, _now_ms() + place.allowance.wall_ms, meter)
            await self._launcher.claim(claim, place.files.fd("status"))
        except BaseException:
            spare.dismiss()
            spare.process.kill()
            raise
        run.keep_until_started(spare.dismiss)

    def _record(self, place: Place, program: Program) -> Record:
        return Record(
            executor=program.executor,
            boot=self._boot,
            started_ms=_now_ms(),
            directory=str(place.directory),
            uid=place.uid,
            groups=tuple(place.group.paths),
        )

    @contextmanager
    def _order(self, run: SandboxRun, program: Program) -> Iterator[tuple[Order, list[int]]]:
        """What the spare process is told, with the descriptors that bubblewrap gets at 0, 1, 2, …; those opened here are closed in the end."""
        place = run.place
        files = place.files
        given = Descriptors(self._devnull, files.fd("stdout"), files.fd("stderr"), files.fd("status"))
        try:
            arguments = os.memfd_create("arguments", os.MFD_CLOEXEC)
            given.give(arguments)
            given.give(os.open(self._state / "seccomp.bpf", _READ))
            block = self._block(run, given) if place.group.paused_start else -1
            numbers = self._numbers(run, program, given)
            etc = self._state / ("egress/etc" if program.egress.destinations else "etc")
            sources = [place.directory, etc, *(path for path, _ in program.binds)]
            mounts = [str(path) for path in sources] if place.uid else []
            binary = self.binary
            if place.uid and self._bwrap_home is not None:
                binary = f"{MOUNT_ROOT}/{len(mounts)}/{Path(binary).resolve().relative_to(self._bwrap_home)}"
                mounts.append(str(self._bwrap_home))
            names = [f"{MOUNT_ROOT}/{number}" if place.uid else str(path) for number, path in enumerate(sources)]
            binds = tuple((name, target) for name, (_, target) in zip(names[2:], program.binds, strict=True))
            hosts = profile.HOSTS + hosts_of(program.names)
            view = profile.View(
                job=names[0],
                etc=names[1],
                binds=binds,
                devices=program.devices,
                secrets=tuple((given.give(_in_memory(value)), name) for name, value in program.secrets.items()),
                block=block,
                hosts=given.give(_in_memory(hosts.encode())) if program.names.count else -1,
            )
            options = profile.job_options(view, program.environment, place.allowance.memory_bytes)
            os.pwrite(arguments, self._host_options + profile.encode(options), 0)
            argv = (binary, *_READ_ARGUMENTS, *wanted.filled(program.command, numbers))
            record = msgspec.structs.asdict(self._record(place, program))
            yield Order(argv, mounts, self._rlimits(place.allowance, place.group), place.uid, record), given.all
        finally:
            given.close()

    @staticmethod
    def _block(run: SandboxRun, given: Descriptors) -> int:
        """The pipe on which the sandbox waits until its limits are set."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        run.set_block(write_end)
        return given.give(read_end)

    def _numbers(self, run: SandboxRun, program: Program, given: Descriptors) -> dict[str, int]:
        """The descriptors that the words of the command name, by those words."""
        files = run.place.files
        outside = Outside(files.name, run.monitor_fd, files.fd("stderr"), run.place.uid, self.settings)
        makers: dict[str, Callable[[], int]] = {
            wanted.RESULT: lambda: given.share(files.add("result")),
            wanted.DOOR: lambda: given.give(files.open_door().detach()),
            wanted.EXEC: lambda: given.give(files.open_exec_door().detach()),
            wanted.EGRESS: lambda: given.give(run.add_companion(outside.proxy(program, files.add(METER))).detach()),
            wanted.NAMES: lambda: given.give(run.add_companion(outside.keeper(program)).detach()),
        }
        return {word: makers[word]() for word in wanted.wanted(program)}

    def _rlimits(self, allowance: Allowance, group: Group) -> list[tuple[int, int]]:
        # The ceiling for what is written between two looks. The limit proper, of the job's output and of its directory, is enforced by looking.
        largest_file = max(allowance.disk_bytes, allowance.log_bytes, MIB)
        return [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, largest_file), *group.rlimits()]

    # ------------------------------------------------------------------------------------------------- adopting, sweeping

    async def _resume(self, run: SandboxRun, record: Record, status: Status, inner: Process | None) -> None:
        if inner is None:
            run.set_gone(f"{status.child_pid}:0")
            return
        inner.listen(run.look)
        run.set_inner(inner)
        if is_same(inner.pid, parent=record.monitor) and (monitor := Process.find(record.monitor, run.look)):
            run.set_monitor(monitor)

    async def _found(self, files: RunFiles, handle: str) -> tuple[Record | None, Status, Process | None]:
        """What is left of a run. Its bubblewrap outlives its program for the moment in which it writes how that ended, and is waited for."""
        begun = time.monotonic()
        while True:
            record = files.record()
            may_be_told = record is not None and record.boot == self._boot and is_same(record.monitor)
            status = files.status()
            inner = self._find_inner(record, status, handle)
            is_told = inner is not None or status.tells_the_end
            if is_told or not may_be_told or time.monotonic() > begun + _HALF_STARTED_S:
                return record, status, inner
            await asyncio.sleep(0.01)

    def _find_inner(self, record: Record | None, status: Status, handle: str) -> Process | None:
        """The first process inside, if it still runs and is the one recorded."""
        if record is None or record.boot != self._boot or status.child_pid is None:
            return None
        if handle and handle != handle_of(status.child_pid):
            return None
        found = Process.find(status.child_pid, lambda: None, pid_namespace=status.pid_namespace or 0)
        # Where the kernel does not let us look at its namespace, the bubblewrap that started it vouches for it.
        return found or Process.find(status.child_pid, lambda: None, parent=record.monitor)

    async def _read_settled(self, files: RunFiles) -> tuple[Record | None, Status]:
        """The status of a run; of one that was just being started, once bubblewrap has told its process."""
        if not files.open():
            return None, Status()
        try:
            record, status = files.record(), files.status()
            begun = time.monotonic()
            while time.monotonic() < begun + _HALF_STARTED_S and (
                (record is None and time.monotonic() < begun + _UNRECORDED_S)
                or (record is not None and status.child_pid is None and is_same(record.monitor))
            ):
                await asyncio.sleep(0.01)
                record, status = files.record(), files.status()
            return record, status
        finally:
            files.close()

    def _clean_up(self, name: str, record: Record | None, status: Status, directory: Path | None) -> None:
        self._end_processes(name, record, status)
        if directory is not None:
            job_directory.take_back(directory)
        with suppress(ValueError):
            RunFiles(self._runs_directory, name).remove()

    def _end_processes(self, name: str, record: Record | None, status: Status) -> None:
        if inner := self._find_inner(record, status, ""):
            inner.kill()
            inner.close()
        if record is None or not record.groups:
            return
        group = self.limiter.reopen(record.groups, Allowance(1, 1, 1, 1, 1, 1))
        group.kill()
        for _ in range(100):
            if group.remove():
                return
            time.sleep(0.002)  # milliseconds, and only after a crash
        _logger.error("run %s: its cgroup cannot be removed yet", name)


def _with_gpus(program: Program, devices: Sequence[FoundGpu]) -> Program:
    environment = {**program.environment, **gpus.variables(devices)}
    return msgspec.structs.replace(program, environment=environment, devices=gpus.nodes(devices))


def _in_memory(value: bytes) -> int:
    """A descriptor from which `value` can be read once; it has no name anywhere."""
    descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
    os.pwrite(descriptor, value, 0)
    return descriptor


def _now_ms() -> int:
    return int(time.time() * 1000)
