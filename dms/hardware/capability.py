"""What to register by default: the machine, less room for its owner, at the owner's prices.

Defaults where the owner set nothing:

=========  ========================================================================================
CPU        all but one core; three quarters where there are fewer than 4
memory     three quarters of the total, and nine tenths of what is available now if that is less
disk       half of what is free where the home lies, at most 100 GiB
GPUs       every device that could be opened
=========  ========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from dms.config.settings import Config, Provider
from dms.hardware.benchmark import Benchmark
from dms.hardware.facts import Facts
from dms.hardware.gpu import detect
from dms.hardware.gpu_simulated import simulate
from dms.hardware.gpu_types import Detection
from dms_proto.capability import Capability, ExecutorOffer, Gpu, Isolation, Price, Resources
from dms_proto.egress import NO_EGRESS, Egress
from dms_proto.errors import UserError
from dms_proto.market.arithmetic import canonical
from dms_proto.units import CORE, GIB, MIB, format_bytes, format_cores

MAX_DEFAULT_DISK: Final = 100 * GIB
SIMULATED_LABEL: Final = "simulated-gpus"
"""Set to "yes" on machines with invented GPUs."""
_CPU_STEP: Final = 50
_MEMORY_STEP: Final = 16 * MIB
"""Offers are rounded down to these: nobody wants to read 2 399 141 888 bytes."""


def find_gpus(provider: Provider) -> Detection:
    """The machine's GPUs, or the invented ones when the owner asked for those.

    Raises:
        UserError: `bad_config`: `provider.simulate_gpus` is not of its form.
    """
    return simulate(provider.simulate_gpus) if provider.simulate_gpus else detect()


def propose(
    facts: Facts,
    gpus: Detection,
    benchmark: Benchmark | None,
    executors: Sequence[ExecutorOffer],
    settings: Config,
    *,
    libraries: Sequence[str] = (),
) -> Capability:
    """The capability to register: what the owner set, and the defaults above for the rest.

    Args:
        facts: of this machine.
        gpus: from `find_gpus`.
        benchmark: the last one; its score is published only if it is trusted.
        executors: as proven by their probes.
        settings: `provider`, `node` and `executors` are used.
        libraries: what programs find in the executors.

    Raises:
        UserError: `bad_config`: a setting offers more than the machine has, or a GPU it does not have.
    """
    provider = settings.provider
    return Capability(
        resources=canonical(
            Resources(
                cpu_millicores=_cpu(facts, provider),
                memory_bytes=_memory(facts, provider),
                disk_bytes=_disk(facts, provider),
                gpus=_gpus(gpus, provider),
            )
        ),
        architecture=facts.architecture,
        cpu_score=benchmark.score if benchmark is not None and benchmark.trusted else 0,
        executors=tuple(offer for offer in executors if _strong_enough(offer, settings.executors.minimum_isolation)),
        libraries=tuple(libraries),
        labels=dict(settings.node.labels) | _marks(gpus, provider),
        country=settings.node.country,
        job_classes=provider.job_classes,
        max_wall_ms=provider.max_wall_ms,
        egress=egress_of(provider),
        price=Price(
            start=provider.price_start,
            cpu_core_hour=provider.price_cpu_core,
            memory_gib_hour=provider.price_memory_gib,
            disk_gib_hour=provider.price_disk_gib,
            gpu_hour=provider.price_gpu,
        ),
    )


def egress_of(provider: Provider) -> Egress:
    """Where its owner lets jobs connect to."""
    return Egress(provider.egress, provider.egress_bytes) if provider.egress else NO_EGRESS


def notes(
    facts: Facts, gpus: Detection, benchmark: Benchmark | None, executors: Sequence[ExecutorOffer], settings: Config
) -> tuple[str, ...]:
    """What an owner should know about the proposal: each thing that is less than they may expect, with its reason."""
    said = [f"offers are within a limit on this process: {limit}" for limit in facts.limits]
    said += [
        f"GPU {gpu.pci or gpu.model} ({gpu.model}) is not offered: {gpu.problem}" for gpu in gpus.gpus if gpu.problem
    ]
    if benchmark is None:
        said.append("no score is published: the benchmark has not run")
    elif not benchmark.trusted:
        said.append(f"no score is published: {benchmark.reason}")
    least = settings.executors.minimum_isolation
    said += [
        f"executor {offer.name} is not offered: its isolation, {offer.isolation}, is weaker than {least} (executors.minimum_isolation)"
        for offer in executors
        if not _strong_enough(offer, least)
    ]
    return tuple(said)


def _cpu(facts: Facts, provider: Provider) -> int:
    if provider.cpu is not None:
        _refuse_beyond("provider.cpu", provider.cpu, facts.cpu_millicores, format_cores)
        return provider.cpu
    total = facts.cpu_millicores
    offered = total - CORE if total >= 4 * CORE else total * 3 // 4
    return offered - offered % _CPU_STEP


def _memory(facts: Facts, provider: Provider) -> int:
    if provider.memory is not None:
        _refuse_beyond("provider.memory", provider.memory, facts.memory_bytes, format_bytes)
        return provider.memory
    offered = min(facts.memory_bytes * 3 // 4, facts.memory_available_bytes * 9 // 10)
    return offered - offered % _MEMORY_STEP


def _disk(facts: Facts, provider: Provider) -> int:
    if provider.disk is not None:
        # Against the whole disk: on a restart our own blobs have taken some of what is free. What is missing later is pressure.
        _refuse_beyond("provider.disk", provider.disk, facts.disk_total_bytes, format_bytes)
        return provider.disk
    offered = min(facts.disk_free_bytes // 2, MAX_DEFAULT_DISK)
    return offered - offered % _MEMORY_STEP


def _gpus(found: Detection, provider: Provider) -> tuple[Gpu, ...]:
    wanted = set(provider.gpus)
    if wanted == {"all"}:
        return found.offers
    if wanted in ({"none"}, set()):
        return ()
    names = [gpu.device for gpu in found.offers]
    for name in sorted(wanted - set(names)):
        there = f"this machine has {', '.join(names)}" if names else "this machine has none that can be used"
        raise UserError(
            "bad_config", f"provider.gpus names {name!r}; {there}", hint="dms doctor shows why a device is left out"
        )
    return tuple(gpu for gpu in found.offers if gpu.device in wanted)


def _marks(gpus: Detection, provider: Provider) -> dict[str, str]:
    invented = {gpu.offer.device for gpu in gpus.gpus if gpu.simulated and gpu.offer is not None}
    return {SIMULATED_LABEL: "yes"} if any(gpu.device in invented for gpu in _gpus(gpus, provider)) else {}


def _strong_enough(offer: ExecutorOffer, least: Isolation) -> bool:
    order = list(Isolation)  # weakest first
    return order.index(offer.isolation) >= order.index(least)


def _refuse_beyond(name: str, wanted: int, there: int, show: Callable[[int], str]) -> None:
    if wanted > there:
        raise UserError(
            "bad_config",
            f"{name} is {show(wanted)}, and this machine has {show(there)}",
            hint=f"lower {name} or leave it out",
        )
