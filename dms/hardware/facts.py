"""Facts of this machine, as far as this process may use it.

Inside a container or a service unit with limits, the limit is the fact: a node that offered its host's cores would break every promise made on
them. Machine-wide figures come from psutil, what psutil does not know (model, quota, steal) from /proc and /sys. Everything takes about 2 ms.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

import msgspec

from dms.hardware.cgroups import CgroupLimits, read_limits
from dms_proto.units import format_count

_PART_NAMES: Final = {
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd4f": "Neoverse-V2",
    "0xd49": "Neoverse-N2",
    "0xd08": "Cortex-A72",
}
"""ARM's /proc/cpuinfo has part numbers and no names: Arm MIDR_EL1 documentation."""


class Facts(msgspec.Struct, frozen=True):
    """What the machine has, within the limits on this process.

    Attributes:
        architecture: as the kernel names it: "x86_64", "aarch64".
        cpu_model: the vendor's name; empty when the kernel does not say.
        cores: logical cores of the whole machine.
        cores_physical: without hyper-threads; 0 when unknown.
        cpu_millicores: what this process may use: affinity and CPU quota applied.
        memory_bytes: total, or the tightest memory limit.
        memory_available_bytes: what could be had now without swapping, within that limit.
        disk_total_bytes: of the file system that holds the node's home.
        disk_free_bytes: what this user may still write there.
        kernel: name and release.
        system: the distribution, such as "Debian GNU/Linux 12".
        load_milli: one-minute load average, thousandths.
        steal_permille: share of time since boot that a hypervisor kept from this machine.
        limits: one line per limit that makes the figures smaller than the machine's.
    """

    architecture: str
    cpu_model: str
    cores: int
    cores_physical: int
    cpu_millicores: int
    memory_bytes: int
    memory_available_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
    kernel: str
    system: str
    load_milli: int
    steal_permille: int
    limits: tuple[str, ...] = ()


def read_facts(home: Path, proc: Path = Path("/proc"), root: Path = Path("/")) -> Facts:
    """The facts now.

    Args:
        home: directory of the node (or any path below where it will be): its file system's space counts.
        proc: where procfs is mounted.
        root: prefixed to the cgroup mount points; another than / only to read a recorded tree.
    """
    import psutil  # noqa: PLC0415 - 40 ms that commands which never ask need not pay

    memory = psutil.virtual_memory()
    cores = psutil.cpu_count(logical=True) or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    limits = read_limits(proc, root)
    disk = _disk(home)
    affinity = (f"CPU affinity: {usable} of {format_count(cores, 'core')}",) if usable < cores else ()
    return Facts(
        architecture=platform.machine(),
        cpu_model=cpu_model(_text(proc / "cpuinfo")),
        cores=cores,
        cores_physical=psutil.cpu_count(logical=False) or 0,
        cpu_millicores=min(usable * 1000, limits.cpu_millicores or usable * 1000),
        memory_bytes=min(memory.total, limits.memory_bytes or memory.total),
        memory_available_bytes=memory_available(memory.available, limits),
        disk_total_bytes=disk.f_blocks * disk.f_frsize,
        disk_free_bytes=disk.f_bavail * disk.f_frsize,
        kernel=f"{platform.system()} {platform.release()}",
        system=_system(root),
        load_milli=round(os.getloadavg()[0] * 1000),
        steal_permille=_steal_permille(_text(proc / "stat")),
        limits=affinity + limits.sources,
    )


def memory_available(machine: int, limits: CgroupLimits) -> int:
    """What can be had of `machine` available bytes under `limits`."""
    if limits.memory_bytes is None:
        return machine
    return max(0, min(machine, limits.memory_bytes - (limits.memory_used_bytes or 0)))


def cpu_model(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo; empty when it has none."""
    values: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip().lower(), value.strip())
    for key in ("model name", "cpu model", "uarch", "cpu"):
        if values.get(key):
            return " ".join(values[key].split())
    part = values.get("cpu part", "")
    return _PART_NAMES.get(part, f"ARM part {part}" if part else "")


def _disk(home: Path) -> os.statvfs_result:
    path = home.absolute()
    while not path.exists():
        path = path.parent
    return os.statvfs(path)


def _system(root: Path) -> str:
    for line in _text(root / "etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return platform.system()


def _steal_permille(stat: str) -> int:
    fields = stat.partition("\n")[0].split()[1:9]
    ticks = [int(field) for field in fields if field.isdigit()]
    return ticks[7] * 1000 // sum(ticks) if len(ticks) == 8 and any(ticks) else 0


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
