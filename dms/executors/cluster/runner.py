"""The runner: what an engine starts on a machine of a cluster. `python -m dms.executors.cluster.runner DIRECTORY [--escorted]`.

It has what a node has to run a task, and nothing else of a node: no key, no network, no store. What it offers was proven on one machine of the
cluster, so each machine proves it for itself before its first task, and one that can do less runs nothing. Its sandbox ends with it: nobody would
look after what outlives it. A task that something is to lead into, or out of, is tied to the node by the runner (`tether`).
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms import __version__
from dms.escort import ESCORTED
from dms.executors import job_directory
from dms.executors.cluster.files import Proof, RunDirectory, Spec
from dms.executors.cluster.gpus import VARIABLES, given, matched
from dms.executors.cluster.handover import HandoverError, Keyhole
from dms.executors.cluster.kinds import KINDS
from dms.executors.cluster.scratch import held, left_behind, scratch_directory
from dms.executors.cluster.tethered import Reach, Tethered, apart
from dms.executors.sandbox import run_files
from dms.executors.sandbox.engine import Sandbox
from dms.executors.sandbox.keeper import Keepers
from dms.executors.sandbox.verdict import SIGNAL_BASE
from dms.executors.settings import ExecutorSettings
from dms.hardware.gpu import detect
from dms.hardware.gpu_simulated import simulate
from dms.hardware.gpu_types import FoundGpu
from dms_actors.ports import EgressRefused, Executor, Exited, LogChunk, Run, Started, UsageSample
from dms_proto.capability import ExecutorOffer, Meter
from dms_proto.errors import MachineError
from dms_proto.secrets import OpenSecret
from dms_proto.work import Ending, EndReason, Task, wants_company

LOOK_S: Final = 0.2
"""Between two looks whether the task is to be stopped, or is given its secrets."""
GIVEN_S: Final = 180.0
"""How long a node that is away may take to give them: less than the engine leaves beside the time of the task (`cluster.MARGIN_MS`)."""


class Runner:
    """One run on this machine.

    Args:
        files: of the run.
        spec: what is in them.
        scratch: this user's directory on this machine.
        is_escorted: whether the end of standard input asks it to end, as SIGTERM does.
    """

    def __init__(self, files: RunDirectory, spec: Spec, scratch: Path, *, is_escorted: bool = False) -> None:
        self._files = files
        self._spec = spec
        self._scratch = scratch
        self._is_escorted = is_escorted
        self._told = asyncio.Event()
        """Set when the engine has asked it to end."""

    async def serve(self) -> None:
        """Does what is asked, and leaves nothing on this machine but what it has proven."""
        node = self._node.name  # others of this user's nodes may have runs of that name here
        runners = self._scratch / "runners"
        runners.mkdir(mode=0o700, exist_ok=True)
        state = runners / f"{node}-{self._spec.name}"
        with held(state):
            await self._clear(runners)
            devices = await asyncio.to_thread(self._given_gpus)
            task = self._spec.task
            try:
                promised = matched(task.resources.gpus if task is not None else (), devices)
            except LookupError:
                self._files.tell(Exited(Ending(EndReason.PROVIDER_FAULT, -1, _too_few(devices))))
                return
            sandbox, executors = self._executors(state, promised)
            try:
                if task is None:
                    # Who is given a device is asked about that, whatever the machine has proven already.
                    proof = await (self._known_proof(executors) if devices else self._fresh_proof(executors))
                    why = await apart(self._node, self._spec.name)
                    gpus = tuple(device.offer for device in devices if device.offer is not None)
                    self._files.keep_proof(msgspec.structs.replace(proof, apart=why, gpus=gpus))
                else:
                    self._files.tell(Exited(await self._ran(executors, state)))
            finally:
                await sandbox.close()
                job_directory.remove(state)

    @property
    def _node(self) -> Path:
        """The node's own place in the shared directory."""
        return self._files.path.parents[1]

    async def _clear(self, runners: Path) -> None:
        """Removes what runners left that were killed: of a stranger's task there may be something among it."""
        for state in left_behind(runners):
            with suppress(MachineError, OSError):
                sandbox, executors = self._executors(state)
                for executor in executors.values():
                    await executor.sweep([])
                await sandbox.close()
            job_directory.remove(state)

    def _given_gpus(self) -> tuple[FoundGpu, ...]:
        """The devices of this machine that the engine gave to this runner; it is asked for them only where there is one to be had."""
        if not any(os.environ.get(variable) for variable in VARIABLES):
            return ()
        simulated = self._spec.simulated_gpus
        return given(os.environ, (simulate(simulated) if simulated else detect()).gpus)

    def _executors(self, state: Path, gpus: tuple[FoundGpu, ...] = ()) -> tuple[Sandbox, dict[str, Executor]]:
        settings = ExecutorSettings(
            state_directory=state,
            unreserved=self._spec.unreserved,
            gpus=gpus,
            egress=self._spec.egress,
            egress_networks=self._spec.egress_networks,
            outlives_node=False,
        )
        sandbox = Sandbox(settings)
        return sandbox, {kind.name: kind(sandbox) for kind in KINDS}

    async def _ran(self, executors: Mapping[str, Executor], state: Path) -> Ending:
        assert self._spec.task is not None
        executor = executors.get(self._spec.task.executor)
        lacking = await self._lacking(executors)
        if executor is None or lacking:
            return Ending(EndReason.PROVIDER_FAULT, -1, lacking or f"no executor {self._spec.task.executor!r} here")
        if wants_company(self._spec.task):
            return await self._ran_tied(executor, self._spec.task, state)
        return await self._ran_to_its_end(executor, self._spec.task)

    async def _ran_tied(self, executor: Executor, task: Task, state: Path) -> Ending:
        tethered = Tethered(self._node, self._spec.name)
        keepers = Keepers(tethered.lead_out)
        try:
            if why := await tethered.tie():
                return Ending(EndReason.PROVIDER_FAULT, -1, f"{socket.gethostname()} cannot be led into: {why}")
            keepers.listen(state)
            return await self._ran_to_its_end(executor, task, tethered.reach_by)
        finally:
            await keepers.close()
            await tethered.close()

    async def _ran_to_its_end(
        self, executor: Executor, task: Task, reach_by: Callable[[Reach], None] = lambda _reach: None
    ) -> Ending:
        secrets = await self._secrets() if task.secrets else ()
        if isinstance(secrets, Ending):
            return secrets
        run = await executor.run(self._spec.name, task, Path(self._spec.directory), secrets)
        del secrets
        reach_by(run.connect)
        watching = asyncio.create_task(self._watch(run))
        try:
            return await self._followed(run)
        finally:
            watching.cancel()

    async def _secrets(self) -> tuple[OpenSecret, ...] | Ending:
        """What the node gives to the task; or how it ends without."""
        keyhole = Keyhole()
        self._files.show_key(keyhole.public)
        try:
            async with asyncio.timeout(GIVEN_S):
                while not (sealed := self._files.take_secrets()) and self._files.grace_ms() is None:  # noqa: ASYNC110 - files
                    await asyncio.sleep(LOOK_S)
            # Looked at after the secrets: they may have been given to what had been stopped before.
            if self._files.grace_ms() is not None:
                return Ending(EndReason.CANCELLED, -1, "stopped before it was started")
            return keyhole.open(self._spec.name, sealed)
        except TimeoutError:
            return Ending(EndReason.PROVIDER_FAULT, -1, f"the node gave it no secrets within {GIVEN_S:.0f} s")
        except HandoverError as error:
            return Ending(EndReason.PROVIDER_FAULT, -1, str(error))

    async def _followed(self, run: Run) -> Ending:
        ending = Ending(EndReason.PROVIDER_FAULT, -1, "the run said nothing of its end")
        async for event in run.events():
            match event:
                case LogChunk(stream=stream, data=data):
                    self._files.append(stream, data)
                case Started() | UsageSample() | EgressRefused():
                    self._files.tell(event)
                case Exited(ending=ending):
                    pass
        if await self._is_the_engines_doing(ending):
            why = f"the cluster's engine ended it on {socket.gethostname()}"
            return msgspec.structs.replace(ending, reason=EndReason.PROVIDER_STOPPED, detail=why)
        return ending

    async def _is_the_engines_doing(self, ending: Ending) -> bool:
        """Whether the engine has ended it. An engine may tell the task's own processes to end as well, and those before this one."""
        if ending.reason is EndReason.KILLED_BY_SIGNAL:
            if ending.exit_code != SIGNAL_BASE + signal.SIGTERM:
                return False
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), LOOK_S)
            return self._told.is_set()
        return self._told.is_set() and ending.reason in {EndReason.CANCELLED, EndReason.PROVIDER_FAULT}

    async def _watch(self, run: Run) -> None:
        """Stops the run when the node asks for it, or the engine does by SIGTERM: it may tell the processes of the sandbox as well, at once."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._told.set)
        if self._is_escorted:
            asyncio.get_running_loop().add_reader(sys.stdin, self._left_alone)
        known: int | None = None
        while True:
            grace_ms = self._files.grace_ms()
            if grace_ms is not None and grace_ms != known:
                known = grace_ms
                await run.stop(grace_ms)
            elif self._told.is_set():
                await run.stop(0)
            await asyncio.sleep(LOOK_S)

    def _left_alone(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        self._told.set()

    async def _lacking(self, executors: Mapping[str, Executor]) -> str:
        """What was promised and does not hold on this machine; empty: all of it does."""
        wanted = self._spec.offer
        if wanted is None:
            return ""
        proof = await self._known_proof(executors)
        found = next((offer for offer in proof.offers if offer.name == wanted.name), None)
        faults = [f"{what}, {why}" for what, why, _ in proof.faults if what == wanted.name]
        if found is None:
            return f"{proof.machine} cannot run it: {'; '.join(faults) or 'it was not proven there'}"
        flaws = shortfall(wanted, found)
        return f"{proof.machine} cannot hold what was promised: {flaws}" if flaws else ""

    async def _known_proof(self, executors: Mapping[str, Executor]) -> Proof:
        """What this machine proved since it was started, to this version, by an earlier run or by this one."""
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self._proof_file.read_bytes(), type=Proof)
        return await self._fresh_proof(executors)

    @property
    def _proof_file(self) -> Path:
        return self._scratch / f"proof-{__version__}-{run_files.boot_id()}.json"

    async def _fresh_proof(self, executors: Mapping[str, Executor]) -> Proof:
        file = self._proof_file
        proof = await _prove(executors)
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(proof))
        fresh.replace(file)
        return proof


async def _prove(executors: Mapping[str, Executor]) -> Proof:
    offers, faults = [], []
    for name, executor in executors.items():
        try:
            offers.append(await executor.probe())
        except MachineError as error:
            faults.append((name, error.message, error.hint))
    return Proof(socket.gethostname(), platform.machine(), tuple(offers), tuple(faults))


def _too_few(devices: Sequence[FoundGpu]) -> str:
    given_here = ", ".join(device.model for device in devices) or "no GPU that can be used"
    return f"{socket.gethostname()} was given {given_here}, which is less than what was promised"


def shortfall(wanted: ExecutorOffer, found: ExecutorOffer) -> str:
    """In what a machine's executor is less than the one that was promised; empty: in nothing."""
    missing = [f"no hard limit of {limit}" for limit in wanted.limits if limit not in found.limits]
    if found.isolation is not wanted.isolation:
        missing.append(f"isolation {found.isolation}, not {wanted.isolation}")
    meters = list(Meter)  # most exact first
    if meters.index(found.meter) > meters.index(wanted.meter):
        missing.append(f"its meter is {found.meter}, not {wanted.meter}")
    return ", ".join(missing)


def main(path: str, *options: str) -> int:
    """Runs what the directory says, if nobody else does. What goes wrong here is said on stderr, which is `runner.log`."""
    files = RunDirectory(Path(path))
    spec = files.spec()
    if spec is None or not files.claim(socket.gethostname()):
        print(f"{path}: not to be run, or not again", file=sys.stderr)
        return 1
    try:
        scratch = scratch_directory(Path(tempfile.gettempdir()), os.geteuid())
        asyncio.run(Runner(files, spec, scratch, is_escorted=ESCORTED in options).serve())
    except (MachineError, OSError) as error:
        print(f"{socket.gethostname()}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
