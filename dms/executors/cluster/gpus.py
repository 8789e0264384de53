"""GPUs of a cluster: how many of which kind its engine says there are, what one is by proof, and which of them an engine gave to a runner.

An engine counts, and calls kinds by names of its own ("a100"), or by none. What a kind is, by vendor, model and memory, a machine proves at the
node's start, by a trial run that is given one. What is offered are devices by such a proof; which one a job gets is the engine's choice, when it
starts the runner. The runner reads it from the variables that engines set, and runs no task on less than was promised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from dms.hardware.gpu_types import FoundGpu
from dms_proto.capability import Gpu

_T = TypeVar("_T")

VARIABLES: Final = {
    "CUDA_VISIBLE_DEVICES": "nvidia",
    "ROCR_VISIBLE_DEVICES": "amd",
    "HIP_VISIBLE_DEVICES": "amd",
}
"""By which engines say which devices a job was given, and of which vendor those are: by number among the vendor's, or by UUID or how one begins."""


def counted(machine: str, kind: str, count: int) -> tuple[Gpu, ...]:
    """What an engine says of a machine: so many devices of a kind, of which nothing else is known yet.

    Args:
        machine: its name, unique in the cluster.
        kind: the engine's name for it; empty where it has none.
        count: at least 0.
    """
    return tuple(Gpu(f"{machine}/{kind or 'gpu'}/{number}", model=kind) for number in range(count))


def kinds_of(gpus: Iterable[Gpu]) -> Counter[str]:
    """How many of each kind are ordered, by the engine's names."""
    return Counter(gpu.model for gpu in gpus)


def proven(gpus: Iterable[Gpu], kinds: Mapping[str, Gpu]) -> tuple[Gpu, ...]:
    """Devices that an engine has counted, as what their kinds were proven to be; without those of which nothing was."""
    return tuple(msgspec.structs.replace(kinds[gpu.model], device=gpu.device) for gpu in gpus if gpu.model in kinds)


def ordered(gpus: Iterable[Gpu], kinds: Mapping[str, Gpu]) -> tuple[Gpu, ...]:
    """What the engine is asked for, by its own names, to give what was promised.

    Raises:
        LookupError: no kind is known any more that is as good.
    """
    return tuple(Gpu(model=_first(kind for kind, has in kinds.items() if serves(gpu, has))) for gpu in gpus)


def serves(promised: Gpu, has: Gpu) -> bool:
    """Whether a device is what was promised."""
    return (promised.vendor, promised.model) == (has.vendor, has.model) and promised.memory_bytes <= has.memory_bytes


def given(environment: Mapping[str, str], found: Sequence[FoundGpu]) -> tuple[FoundGpu, ...]:
    """The devices of this machine that the engine gave to this process, and that can be used."""
    named = [
        gpu
        for variable, vendor in VARIABLES.items()
        for gpu in _named(environment.get(variable, ""), [gpu for gpu in found if gpu.vendor == vendor])
    ]
    return tuple(gpu for gpu in dict.fromkeys(named) if gpu.offer is not None)


def matched(promised: Sequence[Gpu], devices: Sequence[FoundGpu]) -> tuple[FoundGpu, ...]:
    """For each device that was promised one that was given, under the name by which it was promised.

    Raises:
        LookupError: there are too few that are as good.
    """
    left, found = list(devices), []
    for gpu in promised:
        at = _first(n for n, device in enumerate(left) if device.offer is not None and serves(gpu, device.offer))
        found.append(msgspec.structs.replace(left.pop(at), offer=gpu))
    return tuple(found)


def _first(found: Iterable[_T]) -> _T:
    for each in found:
        return each
    raise LookupError


def _named(names: str, devices: Sequence[FoundGpu]) -> Iterable[FoundGpu]:
    for name in filter(None, (name.strip() for name in names.split(","))):
        if name.isdecimal() and int(name) < len(devices):
            yield devices[int(name)]
        beginning = [gpu for gpu in devices if gpu.uuid and gpu.uuid.startswith(name)]
        yield from beginning if len(beginning) == 1 else [gpu for gpu in beginning if gpu.uuid == name]
