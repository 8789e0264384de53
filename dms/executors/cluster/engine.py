"""The port to a cluster's engine: what it has, and placing our runner on one of its machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from dms.executors.cluster.gpus import kinds_of, proven
from dms_proto.capability import Gpu, Resources

MAX_SIZES: Final = 64
"""Most sizes of machines that are told apart."""
MAX_GPUS: Final = 256
"""Most devices that are offered: as many as a capability holds."""
ANSWER_S: Final = 20.0
"""Seconds that an engine may take for an answer: Slurm's own commands give up after 10 s by default."""
CONNECT_S: Final = 6.0
"""Seconds to reach one over the network."""
MAX_COMPLAINT: Final = 300
"""Characters told of what an engine or a runner complains of."""


def last_line(said: str) -> str:
    """Where engines and runners say what was the matter, after all that was touched by it; empty if they say nothing."""
    lines = said.strip().splitlines()
    return lines[-1].strip()[:MAX_COMPLAINT] if lines else ""


class EngineError(Exception):
    """The engine does not answer, or refuses. `message` is for a person."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Machine(msgspec.Struct, frozen=True):
    """A machine of the cluster.

    Attributes:
        name: the engine's.
        whole: what the engine gives of it to jobs; GPUs as `gpus.counted` names them.
        idle: what of that no job has now.
        takes_jobs: whether it does now; False for one that is down or drained, of which nothing is idle.
    """

    name: str
    whole: Resources
    idle: Resources
    takes_jobs: bool = True


class Bounds(msgspec.Struct, frozen=True):
    """What of a cluster its engine gives to this user, however much there is.

    Attributes:
        whole: at most.
        idle: at most now, beside what the user has.
    """

    whole: Resources
    idle: Resources


class Capacity(msgspec.Struct, frozen=True):
    """What a cluster has.

    Attributes:
        version: of the engine.
        machines: all of them.
        bounds: what this user may have of them; None: all.
    """

    version: str
    machines: tuple[Machine, ...]
    bounds: Bounds | None = None

    @property
    def whole(self) -> Resources:
        """All machines together, within the bounds."""
        return self._bounded(_sum(machine.whole for machine in self.machines))

    @property
    def idle(self) -> Resources:
        """What no job has now, and this user may have."""
        idle = _sum(machine.idle for machine in self.machines)
        return idle if self.bounds is None else _least(idle, self.bounds.idle)

    @property
    def sizes(self) -> tuple[Resources, ...]:
        """The sizes of machines, within the bounds, largest first: one allocation has to fit into one."""
        sizes = {_unnamed(self._bounded(machine.whole)) for machine in self.machines}
        return tuple(sorted(sizes, key=_size, reverse=True)[:MAX_SIZES])

    @property
    def gpu_kinds(self) -> tuple[str, ...]:
        """The kinds of GPUs there are, by the engine's names."""
        return tuple(sorted(kinds_of(self.whole.gpus)))

    def proven(self, kinds: Mapping[str, Gpu]) -> Capacity:
        """With GPUs as what their kinds were proven to be, and without others."""

        def known(amount: Resources) -> Resources:
            return msgspec.structs.replace(amount, gpus=proven(amount.gpus, kinds))

        machines = (msgspec.structs.replace(m, whole=known(m.whole), idle=known(m.idle)) for m in self.machines)
        return msgspec.structs.replace(self, machines=tuple(machines))

    def _bounded(self, amount: Resources) -> Resources:
        return amount if self.bounds is None else _least(amount, self.bounds.whole)


class Order(msgspec.Struct, frozen=True):
    """What an engine shall start, once, on one machine.

    Attributes:
        command: the runner.
        directory: in which it starts; whatever it says to nobody else goes to `runner.log` there.
        resources: what it takes of the machine; of GPUs, whose model is the engine's name for their kind, it is told by which variables which.
        wall_ms: after which the engine may end it: the runner keeps to less.
    """

    command: tuple[str, ...]
    directory: Path
    resources: Resources
    wall_ms: int


class EngineJob(msgspec.Struct, frozen=True):
    """A job of ours that is not over.

    Attributes:
        id: the engine's.
        is_running: whether it was started.
        detail: where it runs, or what it waits for; for a person.
    """

    id: str
    is_running: bool
    detail: str = ""


class Engine(Protocol):
    """Every call raises `EngineError` when the engine does not answer.

    Attributes:
        name: among `executors.enabled`.
    """

    name: str

    async def capacity(self) -> Capacity:
        """What it has."""
        ...

    async def submit(self, name: str, order: Order) -> str:
        """Places a job; gives the engine's id of it."""
        ...

    async def jobs(self) -> Mapping[str, EngineJob]:
        """The jobs of this user that are not over, by name."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Ends a job. One that is over is no error."""
        ...

    async def close(self) -> None:
        """Lets go of the engine; jobs go on. Idempotent."""
        ...


def _sum(amounts: Iterable[Resources]) -> Resources:
    cpu = memory = 0
    gpus: tuple[Gpu, ...] = ()
    for each in amounts:
        cpu, memory, gpus = cpu + each.cpu_millicores, memory + each.memory_bytes, gpus + each.gpus
    return Resources(cpu_millicores=cpu, memory_bytes=memory, gpus=gpus[:MAX_GPUS])


def _unnamed(amount: Resources) -> Resources:
    """By what it has, whichever machine has it."""
    gpus = (msgspec.structs.replace(gpu, device=str(number)) for number, gpu in enumerate(amount.gpus))
    return msgspec.structs.replace(amount, gpus=tuple(gpus))


def _least(one: Resources, other: Resources) -> Resources:
    """Of cores and memory; GPUs are those of one."""
    cpu, memory = min(one.cpu_millicores, other.cpu_millicores), min(one.memory_bytes, other.memory_bytes)
    return msgspec.structs.replace(one, cpu_millicores=cpu, memory_bytes=memory)


def _size(amount: Resources) -> tuple[int, int, tuple[Gpu, ...]]:
    return amount.cpu_millicores, amount.memory_bytes, amount.gpus
