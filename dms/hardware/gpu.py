"""GPU detection: what is on the bus, what the drivers say, what this process may open. Only what was opened is offered.

Works without any driver or library: then every device carries the reason why it is not offered. Invented machines are in `gpu_simulated`.
"""

from __future__ import annotations

from pathlib import Path

from dms.hardware import gpu_nvml, gpu_pci
from dms.hardware.gpu_types import Detection, FoundGpu, Probe
from dms_proto.units import format_count


def detect(
    sysfs: Path = Path("/sys"),
    dev: Path = Path("/dev"),
    load_nvml: gpu_nvml.NvmlLoader = gpu_nvml.load_pynvml,
    proc: Path = Path("/proc"),
) -> Detection:
    """The GPUs of this machine. Never raises; what fails is a probe that says so.

    Args:
        sysfs: where sysfs is mounted.
        dev: where device nodes are.
        load_nvml: gives pynvml; called only when an NVIDIA device or driver is there.
        proc: where procfs is mounted.
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
        from_nvml, probe = gpu_nvml.read(load_nvml, dev, proc)
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
