"""GPU detection: what is on the bus, what the drivers say, what this process may open. Only what was opened is offered.

Works without any driver or library (then every device carries the reason why it is not offered), and with an invented machine for tests and
demonstrations: ``simulate("2xA100-40G,1xL4-24G")``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dms.hardware import gpu_nvml, gpu_pci
from dms.hardware.gpu_types import Detection, FoundGpu, Probe
from dms_proto.capability import Gpu
from dms_proto.errors import UserError
from dms_proto.units import GIB, format_count

__all__ = ["SIMULATED", "Detection", "FoundGpu", "Probe", "detect", "simulate"]

SIMULATED: Final = " (simulated)"
"""Ends the model of every invented device, so that no bid can pass one off as real."""
MAX_SIMULATED: Final = 64
_ONE: Final = re.compile(
    r"\s*(\d{1,2})\s*x\s*([A-Za-z0-9][A-Za-z0-9 ._-]{0,40}?)-(\d{1,4})\s*G(?:i?B)?\s*", re.IGNORECASE | re.ASCII
)


def detect(
    sysfs: Path = Path("/sys"), dev: Path = Path("/dev"), load_nvml: gpu_nvml.NvmlLoader = gpu_nvml.load_pynvml
) -> Detection:
    """The GPUs of this machine. Never raises; what fails is a probe that says so.

    Args:
        sysfs: where sysfs is mounted.
        dev: where device nodes are.
        load_nvml: gives pynvml; called only when an NVIDIA device or driver is there.
    """
    on_bus = gpu_pci.scan(sysfs)
    probes = [
        Probe(
            "pci",
            ok=bool(on_bus),
            detail=f"{format_count(len(on_bus), 'GPU')} on the bus" if on_bus else "no GPU on the bus",
        )
    ]
    found: list[FoundGpu] = []
    nvidia = [gpu for gpu in on_bus if gpu.vendor == "nvidia"]
    if nvidia or (dev / "nvidiactl").exists():
        from_nvml, probe = gpu_nvml.read(load_nvml, dev)
        probes.append(probe)
        found += from_nvml
        found += _unlisted(nvidia, from_nvml, probe)
    for vendor in ("amd", "intel"):
        devices = [gpu for gpu in on_bus if gpu.vendor == vendor]
        found += [gpu_pci.usable(gpu, index, dev) for index, gpu in enumerate(devices)]
        if devices:
            opened = sum(gpu.offer is not None for gpu in found if gpu.vendor == vendor)
            probes.append(
                Probe(vendor, ok=bool(opened), detail=f"{opened} of {format_count(len(devices), 'device')} can be used")
            )
    return Detection(tuple(found), tuple(probes))


def simulate(text: str) -> Detection:
    """Invented NVIDIA or AMD devices from ``COUNTxMODEL-MEMORYG``, comma-separated; an empty text invents none.

    Raises:
        UserError: `bad_config`: not of that form.
    """
    devices: list[tuple[str, int]] = []
    for part in text.split(",") if text.strip() else []:
        match = _ONE.fullmatch(part)
        if match is None or int(match[1]) == 0 or int(match[3]) == 0:
            raise UserError(
                "bad_config",
                f"provider.simulate_gpus: {part.strip()!r} is not COUNTxMODEL-MEMORYG",
                hint="for example 2xA100-40G,1xL4-24G",
            )
        devices += [(match[2], int(match[3]) * GIB)] * int(match[1])
    if len(devices) > MAX_SIMULATED:
        raise UserError(
            "bad_config", f"provider.simulate_gpus: {format_count(len(devices), 'device')}, more than {MAX_SIMULATED}"
        )
    found = tuple(_invented(index, model, memory) for index, (model, memory) in enumerate(devices))
    return Detection(
        found, (Probe("simulated", ok=True, detail=format_count(len(found), "invented device")),) if found else ()
    )


def _unlisted(on_bus: list[gpu_pci.PciGpu], listed: tuple[FoundGpu, ...], probe: Probe) -> list[FoundGpu]:
    """The NVIDIA devices on the bus that NVML does not know, each with the reason."""
    known = {gpu.pci for gpu in listed}
    problem = "the driver does not list it (is it passed into this container?)" if probe.ok else probe.detail
    hint = "" if probe.ok else "install the NVIDIA driver; nvidia-smi must work for the node's user"
    return [
        FoundGpu("nvidia", f"device {gpu.device}", gpu.address, gpu.driver, problem=problem, hint=hint)
        for gpu in on_bus
        if gpu.address not in known
    ]


def _invented(index: int, model: str, memory: int) -> FoundGpu:
    vendor = "amd" if re.match(r"(mi\d|radeon|rx)", model, re.IGNORECASE) else "nvidia"
    name = model + SIMULATED
    return FoundGpu(vendor, name, offer=Gpu(f"sim-{index}", vendor, name, memory), simulated=True)
