"""A cluster as what the node offers: which one its owner names, its capacity in place of the machine's, and what others use of it meanwhile."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec

from dms.config import Config, Home
from dms.config.settings import Executors
from dms.executors.cluster.cluster import Cluster
from dms.executors.cluster.engine import Capacity, EngineError
from dms.executors.cluster.files import place_of
from dms.executors.settings import (
    ClusterSettings,
    DaskSettings,
    EngineSettings,
    HtcondorSettings,
    KubernetesSettings,
    RaySettings,
    SlurmSettings,
)
from dms.hardware.facts import Facts
from dms.hardware.gpu_simulated import SIMULATED, simulate
from dms.hardware.gpu_types import Detection, FoundGpu
from dms.node.pool import capacity_of
from dms_proto.capability import NOTHING, Capability, Gpu, Resources
from dms_proto.errors import UserError
from dms_proto.market.arithmetic import add, clamp_subtract
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.units import format_bytes, format_cores, format_count

log = logging.getLogger(__name__)

_ENGINES: Final[dict[str, Callable[[Executors], EngineSettings]]] = {
    "slurm": lambda executors: SlurmSettings(
        conf=executors.slurm_conf, partition=executors.slurm_partition, account=executors.slurm_account
    ),
    "dask": lambda executors: DaskSettings(
        _named("dask", "dask_address", "scheduler", "tls://10.0.0.1:8786", executors.dask_address)
    ),
    "ray": lambda executors: RaySettings(
        address=_named("ray", "ray_address", "head", "https://10.0.0.1:8265", executors.ray_address),
        token_file=executors.ray_token_file,
    ),
    "htcondor": lambda executors: HtcondorSettings(
        conf=executors.htcondor_conf,
        requirements=executors.htcondor_requirements,
        accounting_group=executors.htcondor_accounting_group,
    ),
    "kubernetes": lambda executors: KubernetesSettings(
        pod=_named("kubernetes", "kubernetes_pod", "Pod", "/home/dms/pod.yaml", executors.kubernetes_pod),
        config=executors.kubernetes_config,
    ),
}
"""By their names among `executors.enabled`."""
_ADDRESS: Final = re.compile(r"(?:(?P<v4>[\d.]+)|\[(?P<v6>[^]]+)\])(?::(?P<port>\d{1,5}))?")
LOOK_S: Final = 10.0
"""Between two looks at what others use; more often where `provider.monitor_s` says so."""


_FREEZING: Final[dict[str, Callable[[Config], bool]]] = {
    "owner_first.enabled": lambda config: config.owner_first.enabled,
    "provider.offline_gives_way": lambda config: config.provider.offline_gives_way,
}
"""Settings by which jobs are frozen: on a cluster, each would be evicted at once instead."""


def cluster_settings(config: Config) -> ClusterSettings | None:
    """The cluster that the owner wants jobs to run on; None: they run on this machine.

    Raises:
        UserError: `bad_config`: something is missing, or does not go with a cluster.
    """
    engines = [engine for engine in _ENGINES if engine in config.executors.enabled]
    if not engines:
        return None
    engine = engines[0]
    if len(engines) > 1:
        why = f"executors.enabled has {' and '.join(engines)}"
        raise UserError(
            "bad_config", why, hint="a node offers one cluster: name one engine, and run a node for each other"
        )
    if not Path(config.executors.cluster_directory).is_absolute():
        why = f"executors.enabled has {engine}, and executors.cluster_directory names no directory"
        hint = "set it to the absolute path of a directory that this machine and those of the cluster share"
        raise UserError("bad_config", why, hint=hint)
    address = _address(config.executors.cluster_address)
    if config.provider.egress and address is None:
        why = f"executors.enabled has {engine}, and provider.egress lets jobs connect to elsewhere"
        hint = "set executors.cluster_address, by which runners are tied to this node, or leave provider.egress empty"
        raise UserError("bad_config", why, hint=hint)
    if capacity_of(config.pool) != NOTHING:
        why = f"executors.enabled has {engine}, and pool.cpu and pool.memory give something to the pool"
        raise UserError("bad_config", why, hint="a pool's containers run on the node's own machine: set pool.cpu to 0")
    for setting, is_on in _FREEZING.items():
        if is_on(config):
            why = f"executors.enabled has {engine}, and {setting} freezes what runs"
            raise UserError("bad_config", why, hint=f"jobs on a cluster cannot be frozen: set {setting} to false")
    return ClusterSettings(
        engine=_ENGINES[engine](config.executors),
        kinds=config.executors.enabled,
        shared=Path(config.executors.cluster_directory),
        python=config.executors.cluster_python or sys.executable,
        address=address,
        has_gpus=bool(set(config.provider.gpus) - {"none"}),
        simulated_gpus=_simulated(config.provider.simulate_gpus),
    )


def _simulated(text: str) -> str:
    simulate(text)
    return text


def _address(text: str) -> tuple[str, int] | None:
    """Where the machines of the cluster reach this one."""
    if not text:
        return None
    found = _ADDRESS.fullmatch(text)
    try:
        if found is None or (port := int(found["port"] or 0)) >= 1 << 16:
            raise ValueError(f"{text!r} is no address with a port")
        return str(ip_address(found["v6"] or found["v4"])), port
    except ValueError as error:
        hint = (
            "an address of this machine that those of the cluster reach, as 10.0.0.5, 10.0.0.5:7400 or [fd00::5]:7400"
        )
        raise UserError("bad_config", f"executors.cluster_address: {error}", hint=hint) from None


def _named(engine: str, setting: str, what: str, example: str, value: str) -> str:
    if not value:
        why = f"executors.enabled has {engine}, and executors.{setting} names no {what}"
        raise UserError("bad_config", why, hint=f"say where the {what} is, such as {example}")
    return value


def jobs_directory(home: Home, config: Config) -> Path:
    """Where the files of running jobs are: where they are run."""
    cluster = cluster_settings(config)
    return home.jobs if cluster is None else place_of(cluster.shared, home.executors) / "jobs"


def facts_of(cluster: Cluster | None, machine: Facts) -> Facts:
    """The facts of what jobs run on. Its disk is that of the directory that is shared, which `machine` was read for."""
    if cluster is None or cluster.known is None:
        return machine
    whole = cluster.known.capacity.whole
    return msgspec.structs.replace(
        machine,
        architecture=cluster.known.proof.architecture,
        cpu_model="",
        cpu_millicores=whole.cpu_millicores,
        memory_bytes=whole.memory_bytes,
        memory_available_bytes=whole.memory_bytes,
        limits=(),
    )


def gpus_on(cluster: Cluster) -> Detection:
    """The GPUs of its machines, as they were proven, and those of which nothing was."""
    if cluster.known is None:
        return Detection()
    found = [
        FoundGpu(gpu.vendor, gpu.model, offer=gpu, simulated=gpu.model.endswith(SIMULATED))
        for gpu in cluster.known.capacity.whole.gpus
    ]
    return Detection((*found, *(FoundGpu("", kind, problem=why) for kind, why in cluster.known.unproven.items())))


def capability_on(cluster: Cluster, capability: Capability, registered: Capability) -> Capability:
    """The capability to register at a start. Of a cluster of which nothing could be learned the amounts stay as they were."""
    if cluster.known is not None:
        return msgspec.structs.replace(capability, cpu_score=0)
    return msgspec.structs.replace(capability, resources=registered.resources, cpu_score=0)


def policy_on(cluster: Cluster | None, policy: ProviderPolicy, before: ProviderPolicy) -> ProviderPolicy:
    """The owner's conditions, with the bounds that a cluster's machines set, or set `before` if nothing could be learned of it."""
    if cluster is None:
        return policy
    sizes = before.machines if cluster.known is None else cluster.known.capacity.sizes
    return msgspec.structs.replace(policy, machines=sizes)


def in_words(capacity: Capacity) -> str:
    """What a cluster has, for a person."""
    whole, count = capacity.whole, format_count(len(capacity.machines), "machine")
    away = sum(not machine.takes_jobs for machine in capacity.machines)
    missing = f", {away} of them down or drained" if away else ""
    amounts = [format_cores(whole.cpu_millicores), format_bytes(whole.memory_bytes)]
    amounts += [format_count(len(whole.gpus), "GPU")] if whole.gpus else []
    return f"{capacity.version}: {count}{missing}, {', '.join(amounts)}"


def pressure_of(registered: Resources, capacity: Capacity, ours: Resources) -> Resources:
    """How much less than what is registered can be offered: machines are down, or others have them.

    Args:
        registered: of the cluster.
        capacity: of it now.
        ours: what our own jobs were given.
    """
    idle = capacity.idle
    within_reach = add(_countable(idle), _countable(ours))
    less = clamp_subtract(_countable(registered), within_reach)
    return msgspec.structs.replace(less, gpus=_others_gpus(registered.gpus, idle.gpus, ours.gpus))


def _countable(amount: Resources) -> Resources:
    return Resources(amount.cpu_millicores, amount.memory_bytes)


def _others_gpus(registered: Sequence[Gpu], idle: Sequence[Gpu], ours: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The devices that cannot be offered: of each kind as many as others have, whichever those are, of what none of ours was promised."""
    reach = Counter(map(_kind, (*idle, *ours)))
    promised = {gpu.device for gpu in ours}
    missing = Counter(map(_kind, registered)) - reach
    found = []
    for gpu in registered:
        if missing[_kind(gpu)] > 0 and gpu.device not in promised:
            missing[_kind(gpu)] -= 1
            found.append(gpu)
    return tuple(found)


def _kind(gpu: Gpu) -> tuple[str, str, int]:
    return gpu.vendor, gpu.model, gpu.memory_bytes


class ClusterWatch:
    """Asks the engine every few seconds and says how much less can be offered. While it does not answer, that is everything."""

    def __init__(
        self, cluster: Cluster, registered: Resources, interval_s: float, on_change: Callable[[Resources, str], None]
    ) -> None:
        """Asks nothing yet.

        Args:
            cluster: to ask of.
            registered: of it.
            interval_s: between two questions.
            on_change: told the pressure, and why, whenever it is another.
        """
        self._cluster = cluster
        self._registered = registered
        self._interval_s = min(interval_s, LOOK_S)
        self._on_change = on_change
        self._told = (NOTHING, "")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins on the running loop."""
        self._task = asyncio.create_task(self._run(), name="cluster watch")

    async def stop(self) -> None:
        """Ends it. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def look(self) -> None:
        """Asks once."""
        told = await self._seen()
        if told != self._told:
            self._told = told
            if told[1]:
                log.warning("less is offered: %s", told[1])
            self._on_change(*told)

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)

    async def _seen(self) -> tuple[Resources, str]:
        try:
            capacity = await self._cluster.capacity()
        except EngineError as error:
            everything = msgspec.structs.replace(self._registered, disk_bytes=0)
            return everything, f"{self._cluster.engine.name} does not answer: {error}"
        pressure = pressure_of(self._registered, capacity, self._cluster.in_use)
        if pressure == NOTHING:
            return NOTHING, ""
        amounts = [format_cores(pressure.cpu_millicores), format_bytes(pressure.memory_bytes)]
        amounts += [format_count(len(pressure.gpus), "GPU")] if pressure.gpus else []
        return (
            pressure,
            f"{', '.join(amounts[:-1])} and {amounts[-1]} less are free than is offered on {in_words(capacity)}",
        )
