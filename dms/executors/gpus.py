"""How a job finds the GPUs it was given: device nodes that are its own, and variables that name its devices.

=========================  ====================================================================================
variable                   what it says
=========================  ====================================================================================
CUDA_VISIBLE_DEVICES       NVIDIA's, by UUID, in the order in which the job asked for them
NVIDIA_VISIBLE_DEVICES     the same for NVIDIA's container runtime; "void" in a container that was given none
=========================  ====================================================================================

A job's own value of these does not count: with the second, an image could ask the runtime for devices of others. Invented devices have names and
no nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dms.hardware.gpu_types import FoundGpu
from dms_proto.capability import Gpu
from dms_proto.errors import MachineError

FOR_CUDA: Final = "CUDA_VISIBLE_DEVICES"
FOR_RUNTIME: Final = "NVIDIA_VISIBLE_DEVICES"
NONE: Final = "void"
"""With this, NVIDIA's container runtime shows no device, whatever the image asks for."""


def given(gpus: Sequence[Gpu], found: Sequence[FoundGpu]) -> tuple[FoundGpu, ...]:
    """The devices of this machine that a task was given, in the order of its needs.

    Args:
        gpus: with the devices that were assigned.
        found: the devices of this machine.

    Raises:
        MachineError: `sandbox_failed`: one of them is not there any more.
    """
    known = {gpu.offer.device: gpu for gpu in found if gpu.offer is not None}
    for gpu in gpus:
        if gpu.device not in known:
            raise MachineError(
                "sandbox_failed",
                f"GPU {gpu.device} ({gpu.model}) cannot be used on this machine any more",
                hint="dms doctor --only gpus shows why",
            )
    return tuple(dict.fromkeys(known[gpu.device] for gpu in gpus))


def variables(devices: Sequence[FoundGpu]) -> dict[str, str]:
    """The variables that name them; none for a job that has no NVIDIA device."""
    names = ",".join(gpu.uuid for gpu in devices if gpu.vendor == "nvidia" and gpu.uuid)
    return {FOR_CUDA: names, FOR_RUNTIME: names} if names else {}


def nodes(devices: Sequence[FoundGpu]) -> tuple[tuple[str, str], ...]:
    """(device node on this machine, where the job finds it), each once."""
    return tuple(dict.fromkeys(node for gpu in devices for node in gpu.nodes))
