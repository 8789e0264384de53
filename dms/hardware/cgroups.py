"""What the control groups around this process leave to it: the CPU, memory and cores a container or service unit may really use.

A group is bound by its own limits and by those of every group above it, so the tightest on the way up counts. Reads cgroup v2 and v1 (and both
at once, "hybrid"). The group paths in /proc/PID/cgroup are relative to what is mounted, which in a container is often a part of the tree
(mountinfo, field 4): cgroups(7).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from dms_proto.units import format_bytes, format_cores

UNLIMITED_BYTES: Final = 1 << 60
"""cgroup v1 writes "no limit" as 2^63 rounded down to a page; anything this large is none."""


class CgroupLimits(msgspec.Struct, frozen=True):
    """The tightest limits found; None where there is none. `sources` says which file set which."""

    cpu_millicores: int | None = None
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    """Use of the group that sets `memory_bytes`, without what the kernel could drop at once."""
    sources: tuple[str, ...] = ()


def read_limits(proc: Path = Path("/proc"), root: Path = Path("/"), pid: str = "self") -> CgroupLimits:
    """The limits on process `pid`.

    Args:
        proc: where procfs is mounted.
        root: prefixed to mount points; another than / only to read a recorded tree.
        pid: whose groups.
    """
    cpu: list[tuple[int, str]] = []
    memory: list[tuple[int, int, str]] = []
    for kind, directory in _groups(proc, root, pid):
        quota = _cpu_quota(kind, directory)
        if quota is not None:
            cpu.append((quota, f"{directory}: {format_cores(quota)}"))
        limit = _memory_limit(kind, directory)
        if limit is not None:
            memory.append((limit, _memory_used(kind, directory), f"{directory}: {format_bytes(limit)} of memory"))
    tightest_cpu, tightest_memory = min(cpu, default=None), min(memory, default=None)
    return CgroupLimits(
        cpu_millicores=tightest_cpu[0] if tightest_cpu else None,
        memory_bytes=tightest_memory[0] if tightest_memory else None,
        memory_used_bytes=tightest_memory[1] if tightest_memory else None,
        sources=tuple(found[-1] for found in (tightest_cpu, tightest_memory) if found),
    )


def _groups(proc: Path, root: Path, pid: str) -> Iterator[tuple[str, Path]]:
    """(``v2`` or a v1 controller name, directory) of each group this process is in, innermost first, up to the mount point."""
    paths = {}
    for line in _read(proc / pid / "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        for controller in ["v2"] if number == "0" and not controllers else controllers.split(","):
            paths[controller] = path
    for kind, mounted, mount_point in _mounts(proc, pid):
        for controller in kind:
            if controller in paths:
                top = root / mount_point.lstrip("/")
                yield from ((controller, directory) for directory in _upwards(top, mounted, paths[controller]))


def _mounts(proc: Path, pid: str) -> Iterator[tuple[list[str], str, str]]:
    """(controllers, which part of the hierarchy is mounted, where) of each cgroup mount: proc_pid_mountinfo(5)."""
    for line in _read(proc / pid / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), [*after.split(), "", "", ""][:3]
        if kind == "cgroup2":
            yield ["v2"], fields[3], fields[4]
        elif kind == "cgroup":
            yield options.split(","), fields[3], fields[4]


def _upwards(top: Path, mounted: str, path: str) -> Iterator[Path]:
    """The group's directory and its parents up to `top`; `top` alone when the group lies outside what is mounted."""
    inside = path.removeprefix(mounted.rstrip("/")).strip("/") if path.startswith(mounted) else ""
    directory = top / inside if ".." not in inside.split("/") else top
    while directory != top:
        yield directory
        directory = directory.parent
    yield top


def _cpu_quota(kind: str, directory: Path) -> int | None:
    """Millicores, rounded down; None without a quota."""
    if kind == "v2":
        quota, _, period = _read(directory / "cpu.max").strip().partition(" ")
    elif kind == "cpu":
        quota = _read(directory / "cpu.cfs_quota_us").strip()
        period = _read(directory / "cpu.cfs_period_us").strip()
    else:
        return None
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0:  # "max", -1 or no such controller
        return None
    return int(quota) * 1000 // int(period)


def _memory_limit(kind: str, directory: Path) -> int | None:
    name = {"v2": "memory.max", "memory": "memory.limit_in_bytes"}.get(kind)
    text = _read(directory / name).strip() if name else ""
    return int(text) if text.isdigit() and int(text) < UNLIMITED_BYTES else None


def _memory_used(kind: str, directory: Path) -> int:
    current, inactive = (
        ("memory.current", "inactive_file") if kind == "v2" else ("memory.usage_in_bytes", "total_inactive_file")
    )
    used = _read(directory / current).strip()
    for line in _read(directory / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == inactive and value.isdigit() and used.isdigit():
            return max(0, int(used) - int(value))
    return int(used) if used.isdigit() else 0


def _read(file: Path) -> str:
    """The text of a small kernel file; empty where it does not exist or may not be read."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
