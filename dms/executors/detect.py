"""Which executors this machine can offer: each is probed, and what could not be proven is reported with its reason."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

import msgspec

from dms.executors.cluster.cluster import Cluster
from dms.executors.cluster.engines import engine_of
from dms.executors.oci.executor import OciExecutor
from dms.executors.python.executor import PythonExecutor
from dms.executors.sandbox.engine import Sandbox
from dms.executors.sandbox.executor import SandboxExecutor
from dms.executors.settings import ExecutorSettings
from dms.executors.wasm.executor import WasmExecutor
from dms_actors.ports import Executor
from dms_proto.capability import ExecutorOffer
from dms_proto.errors import MachineError

_logger: Final = logging.getLogger(__name__)


class Unavailable(msgspec.Struct, frozen=True):
    """An executor that cannot run here, and why."""

    name: str
    error: MachineError


def libraries_of(executors: Iterable[tuple[Executor, ExecutorOffer]]) -> tuple[str, ...]:
    """What programs find in these executors, each library once."""
    return tuple(dict.fromkeys(library for executor, _ in executors for library in executor.libraries))


class Detected:
    """The executors of this machine, and what they share, which has to be closed.

    Attributes:
        available: executors with what their probe proved, in the order in which a job's owner would prefer them.
        unavailable: the others.
        cluster: whose machines they are; None: this machine's.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        containers: OciExecutor | None,
        cluster: Cluster | None,
        available: list[tuple[Executor, ExecutorOffer]],
        unavailable: list[Unavailable],
    ) -> None:
        self.available = available
        self.unavailable = unavailable
        self._sandbox = sandbox
        self._containers = containers
        self.cluster = cluster

    def processes(self) -> frozenset[int]:
        """The outermost processes of all runs: what they use is the node's own use, adopted or not."""
        return self._sandbox.processes | (self._containers.processes if self._containers is not None else frozenset())

    async def close(self) -> None:
        """Lets go of runs (they go on and can be adopted), of the launcher and of the container engine. Idempotent."""
        await self._sandbox.close()
        if self._containers is not None:
            await self._containers.close()
        if self.cluster is not None:
            await self.cluster.close()


async def detect(settings: ExecutorSettings) -> Detected:
    """Probes every executor; containers only where the settings have them. Never raises for what the machine lacks.

    Where the jobs run on a cluster, what this machine itself could run is not asked: its capacity is not what is offered.
    """
    sandbox = Sandbox(settings)
    cluster = Cluster(settings, engine_of(settings.cluster.engine)) if settings.cluster is not None else None
    containers = OciExecutor(settings) if settings.oci is not None and cluster is None else None
    candidates: tuple[Executor, ...] = (SandboxExecutor(sandbox), WasmExecutor(sandbox), PythonExecutor(sandbox))
    if cluster is not None:
        candidates = cluster.executors()
    elif containers is not None:
        candidates = (*candidates, containers)
    results = await asyncio.gather(*(_probe(executor) for executor in candidates))
    available = [
        (executor, result)
        for executor, result in zip(candidates, results, strict=True)
        if isinstance(result, ExecutorOffer)
    ]
    unavailable = [result for result in results if isinstance(result, Unavailable)]
    return Detected(sandbox, containers, cluster, available, unavailable)


async def _probe(executor: Executor) -> ExecutorOffer | Unavailable:
    try:
        return await executor.probe()
    except MachineError as error:
        _logger.warning("executor %s is not available: %s", executor.name, error)
        return Unavailable(executor.name, error)
