"""NVIDIA devices through NVML (the driver's management library), loaded only when asked and never at the price of an exception.

What a job needs to open: the control node, the nodes of unified memory, and the device's own; for an instance also the two that stand for the right
to use it (`/dev/nvidia-caps`), whose numbers the driver tells below /proc. Without those the parent's node opens nothing.

A device in MIG mode is offered as its instances, each with its own memory and cores in hardware: the only sharing fit for tenants who do not
trust each other (NVIDIA Multi-Instance GPU User Guide). A whole device is offered exclusively.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from dms.hardware.gpu_pci import why_not_open
from dms.hardware.gpu_types import FoundGpu, Probe, part_of
from dms_proto.capability import Gpu
from dms_proto.units import format_count

NvmlLoader = Callable[[], Any]
"""Gives the module `pynvml`, or something with its functions and its `NVMLError`. May raise ImportError or OSError."""

_VENDOR: Final = "nvidia"
_SHARED_NODES: Final = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
_CAPABILITIES: Final = "driver/nvidia/capabilities"
_ACCESS_MINOR: Final = re.compile(r"DeviceFileMinor:\s*(\d+)", re.ASCII)


def load_pynvml() -> Any:
    """The module `pynvml` of the package nvidia-ml-py."""
    import pynvml  # noqa: PLC0415 - 40 ms and useless without a driver

    return pynvml


class _Roots(NamedTuple):
    """Where device nodes are, and procfs."""

    dev: Path
    proc: Path


def read(
    load: NvmlLoader = load_pynvml, dev: Path = Path("/dev"), proc: Path = Path("/proc")
) -> tuple[tuple[FoundGpu, ...], Probe]:
    """Every device NVML lists, each opened, and how the probe went."""
    try:
        nvml = load()
    except (ImportError, OSError) as error:
        return (), Probe("nvml", ok=False, detail=f"pynvml cannot be loaded: {error}")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), Probe("nvml", ok=False, detail=f"no usable NVIDIA driver: {error}")
    try:
        driver = _str(nvml.nvmlSystemGetDriverVersion())
        count = int(nvml.nvmlDeviceGetCount())
        found = tuple(gpu for index in range(count) for gpu in _device(nvml, index, driver, _Roots(dev, proc)))
        return found, Probe("nvml", ok=True, detail=f"driver {driver} lists {format_count(count, 'device')}")
    except nvml.NVMLError as error:
        return (), Probe("nvml", ok=False, detail=f"NVML failed: {error}")
    finally:
        nvml.nvmlShutdown()


def _device(nvml: Any, index: int, driver: str, roots: _Roots) -> Iterator[FoundGpu]:
    """One entry per thing that could be offered; a device that fails is one entry that says why, the others are not lost with it."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        model = _str(nvml.nvmlDeviceGetName(handle))
        pci = normal_address(_str(nvml.nvmlDeviceGetPciInfo(handle).busId))
    except nvml.NVMLError as error:
        yield FoundGpu(_VENDOR, f"device {index}", driver=driver, problem=f"NVML cannot read it: {error}")
        return
    found = FoundGpu(_VENDOR, model, pci, driver)
    try:
        problem, hint = _problem(nvml, handle, roots.dev)
        if problem:
            yield _refused(found, problem, hint)
        elif _in_mig_mode(nvml, handle):
            yield from _instances(nvml, handle, found, roots)
        else:
            memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
            nodes = _nodes(roots.dev, f"nvidia{int(nvml.nvmlDeviceGetMinorNumber(handle))}")
            yield _offered(found, Gpu(str(index), _VENDOR, model, memory), _str(nvml.nvmlDeviceGetUUID(handle)), nodes)
    except nvml.NVMLError as error:
        yield _refused(
            found, f"NVML cannot read it: {error}", "nvidia-smi may say more; a reset or reboot may be needed"
        )


def _problem(nvml: Any, handle: Any, dev: Path) -> tuple[str, str]:
    for node in (dev / "nvidiactl", dev / f"nvidia{int(nvml.nvmlDeviceGetMinorNumber(handle))}"):
        reason = why_not_open(node)
        if reason:
            hint = "run nvidia-modprobe, or pass the device into the container" if "exist" in reason else ""
            return reason, hint
    if nvml.nvmlDeviceGetComputeMode(handle) == nvml.NVML_COMPUTEMODE_PROHIBITED:
        return "its compute mode is Prohibited", "nvidia-smi -c EXCLUSIVE_PROCESS"
    return "", ""


def _in_mig_mode(nvml: Any, handle: Any) -> bool:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # the model has no such mode
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _instances(nvml: Any, handle: Any, parent: FoundGpu, roots: _Roots) -> Iterator[FoundGpu]:
    seen, minor = 0, int(nvml.nvmlDeviceGetMinorNumber(handle))
    for index in range(int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:  # indices may have gaps
            continue
        seen += 1
        name = _str(nvml.nvmlDeviceGetName(instance))
        memory = int(nvml.nvmlDeviceGetMemoryInfo(instance).total)
        uuid = _str(nvml.nvmlDeviceGetUUID(instance))
        found = FoundGpu(_VENDOR, name, parent.pci, parent.driver)
        nodes = _nodes(roots.dev, f"nvidia{minor}", *_access_nodes(nvml, instance, minor, roots.proc))
        part = part_of(_slices(nvml, handle, instance), (memory, int(nvml.nvmlDeviceGetMemoryInfo(handle).total)))
        yield _offered(found, Gpu(uuid, _VENDOR, name, memory, part=part), uuid, nodes)
    if not seen:
        yield _refused(parent, "it is in MIG mode and has no instance", "nvidia-smi mig -cgi PROFILE -C makes one")


def _slices(nvml: Any, handle: Any, instance: Any) -> tuple[int, int]:
    """Compute slices of an instance, and of its card: those of the largest profile. None of none, where the driver does not tell."""
    try:
        own = int(nvml.nvmlDeviceGetAttributes(instance).computeInstanceSliceCount)
    except nvml.NVMLError:
        return 0, 0
    whole = own
    for profile in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        with suppress(nvml.NVMLError):  # the model has no such profile
            whole = max(whole, int(nvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, profile).sliceCount))
    return own, whole


def _access_nodes(nvml: Any, instance: Any, minor: int, proc: Path) -> Iterator[str]:
    """The nodes that stand for the right to use an instance; none where the driver does not tell their numbers."""
    gpu, compute = nvml.nvmlDeviceGetGpuInstanceId(instance), nvml.nvmlDeviceGetComputeInstanceId(instance)
    for place in (f"mig/gi{gpu}/access", f"mig/gi{gpu}/ci{compute}/access"):
        try:
            text = (proc / _CAPABILITIES / f"gpu{minor}" / place).read_text(errors="replace")
        except OSError:
            continue
        if match := _ACCESS_MINOR.search(text):
            yield f"nvidia-caps/nvidia-cap{match[1]}"


def _nodes(dev: Path, *own: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(dev / name), f"/dev/{name}") for name in (*_SHARED_NODES, *own))


def normal_address(bus_id: str) -> str:
    """NVML's ``00000000:3B:00.0`` as sysfs writes it, ``0000:3b:00.0``."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def _offered(found: FoundGpu, offer: Gpu, uuid: str, nodes: tuple[tuple[str, str], ...]) -> FoundGpu:
    return FoundGpu(found.vendor, found.model, found.pci, found.driver, offer, uuid=uuid, nodes=nodes)


def _refused(found: FoundGpu, problem: str, hint: str) -> FoundGpu:
    return FoundGpu(found.vendor, found.model, found.pci, found.driver, None, problem, hint)


def _str(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
