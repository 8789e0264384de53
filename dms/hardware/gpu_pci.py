"""GPUs as the PCI bus shows them: found without any driver or library, in about a millisecond.

Device classes are those of the PCI Code and ID Assignment Specification. AMD's memory size comes from the amdgpu driver's sysfs file
(Documentation/gpu/amdgpu/driver-misc.rst), Intel's discrete cards' from the xe driver's.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

import msgspec

from dms.hardware.gpu_types import FoundGpu
from dms_proto.capability import Gpu

VENDORS: Final = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
CLASSES: Final = {
    "0x0300": "VGA controller",
    "0x0302": "3D controller",
    "0x0380": "display controller",
    "0x1200": "accelerator",
}
_MEMORY_FILES: Final = ("mem_info_vram_total", "tile0/physical_vram_size_bytes")


class PciGpu(msgspec.Struct, frozen=True):
    """A GPU on the bus. `render` is the name of its DRM render node ("renderD128"), `memory_bytes` 0 where the driver does not say."""

    address: str
    vendor: str
    device: str
    driver: str = ""
    render: str = ""
    memory_bytes: int = 0
    product: str = ""


def scan(sysfs: Path = Path("/sys")) -> tuple[PciGpu, ...]:
    """The GPUs on the bus, by address."""
    try:
        directories = sorted((sysfs / "bus/pci/devices").iterdir())
    except OSError:
        return ()
    return tuple(
        _read_device(directory)
        for directory in directories
        if _text(directory / "class")[:6] in CLASSES and _text(directory / "vendor") in VENDORS
    )


def usable(gpu: PciGpu, index: int, dev: Path = Path("/dev")) -> FoundGpu:
    """An AMD or Intel GPU with its offer, or the reason why there is none. NVIDIA devices need NVML for that (`gpu_nvml`).

    Args:
        gpu: from `scan`.
        index: counts the devices of this vendor from 0; it names the device ("amd0").
        dev: where device nodes are.
    """
    model = gpu.product or f"device {gpu.device}"
    problem, hint = _problem(gpu, dev)
    offer = Gpu(f"{gpu.vendor}{index}", gpu.vendor, model, gpu.memory_bytes) if not problem else None
    nodes = tuple((str(node), f"/dev/{node.relative_to(dev)}") for node in _nodes(gpu, dev))
    return FoundGpu(gpu.vendor, model, gpu.address, gpu.driver, offer, problem, hint, nodes=nodes)


def why_not_open(node: Path) -> str:
    """Opens a device node for reading and writing and closes it again: empty when that works, else the reason."""
    try:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return f"{node} does not exist"
        return f"{node} cannot be opened: {error.strerror}"
    return ""


def _problem(gpu: PciGpu, dev: Path) -> tuple[str, str]:
    """(why it cannot be offered, what to do about it); both empty when it can."""
    if not gpu.driver:
        return "no driver is bound to it", f"install the {gpu.vendor} driver"
    if not gpu.memory_bytes:
        if gpu.vendor == "intel":
            return "it shares the machine's memory, so it cannot be given to a job by itself", ""
        return f"its driver {gpu.driver} does not tell its memory", "use the amdgpu driver"
    if not gpu.render:
        return "it has no render node", f"check that the driver {gpu.driver} loaded without errors (dmesg)"
    for node in _nodes(gpu, dev):
        reason = why_not_open(node)
        if reason:
            return reason, "add the node's user to the groups render and video" if "denied" in reason else ""
    return "", ""


def _nodes(gpu: PciGpu, dev: Path) -> tuple[Path, ...]:
    render = (dev / "dri" / gpu.render,) if gpu.render else ()
    # Compute goes through the kernel fusion driver, graphics alone would do without.
    return (*render, dev / "kfd") if gpu.vendor == "amd" else render


def _read_device(directory: Path) -> PciGpu:
    render = next((node.name for node in sorted(_list(directory / "drm")) if node.name.startswith("renderD")), "")
    memory = next((text for name in _MEMORY_FILES if (text := _text(directory / name))), "0")
    driver = directory / "driver"
    return PciGpu(
        address=directory.name,
        vendor=VENDORS[_text(directory / "vendor")],
        device=_text(directory / "device"),
        driver=driver.resolve().name if driver.exists() else "",
        render=render,
        memory_bytes=int(memory, 0) if memory.isalnum() and memory[:1].isdigit() else 0,
        product=_text(directory / "product_name"),
    )


def _list(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
