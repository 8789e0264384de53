"""What is used of each GPU now, by the NVIDIA driver's own figures. What nobody measures is left out, never guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from dms.hardware.gpu_nvml import NvmlLoader, load_pynvml
from dms.hardware.gpu_types import FoundGpu


class GpuUse(msgspec.Struct, frozen=True):
    """The use of one device, by whomever.

    Attributes:
        device: as it is offered.
        busy_percent: of the last moment, in which something ran on it; None: not told, as for a hardware instance.
        memory_bytes: of its memory in use.
        processes: programs that compute on it.
    """

    device: str
    busy_percent: int | None
    memory_bytes: int
    processes: int


def read_use(found: Sequence[FoundGpu], load: NvmlLoader = load_pynvml) -> tuple[GpuUse, ...]:
    """The use of those devices whose driver tells it; nothing for invented ones. Never raises."""
    told = [gpu for gpu in found if gpu.offer is not None and gpu.uuid and not gpu.simulated]
    if not told:
        return ()
    try:
        nvml = load()
        nvml.nvmlInit()
    except Exception:  # noqa: BLE001 - whatever a missing library raises, there are no figures
        return ()
    try:
        return tuple(use for gpu in told for use in _use(nvml, gpu))
    finally:
        nvml.nvmlShutdown()


def _use(nvml: Any, gpu: FoundGpu) -> Iterator[GpuUse]:
    assert gpu.offer is not None
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
        processes = len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except nvml.NVMLError:
        return
    yield GpuUse(gpu.offer.device, _busy(nvml, handle), memory, processes)


def _busy(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError:  # an instance has no figure of its own
        return None
