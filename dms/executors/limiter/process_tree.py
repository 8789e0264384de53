"""What /proc says about a process and its descendants, for the limiter that has no cgroups."""

from __future__ import annotations

import os
import signal
from typing import Final

_TICK_US: Final = 1_000_000 // os.sysconf("SC_CLK_TCK")
_STOP_BIT: Final = 1 << (signal.SIGSTOP - 1)
_STAT_PPID: Final = 1
_STAT_UTIME: Final = 11
_STAT_STIME: Final = 12
_STAT_START: Final = 19
"""Places in /proc/PID/stat counted after the command name, which may itself contain spaces and brackets."""


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command name, or [] when there is no such process."""
    text = _read(f"/proc/{pid}/stat")
    return text[text.rfind(")") + 2 :].split() if text else []


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid, its identity. 0 when there is none or it is a zombie."""
    fields = stat(pid)
    return int(fields[_STAT_START]) if is_alive(fields) else 0


def is_alive(fields: list[str]) -> bool:
    """Whether these fields of `stat` are those of a process that has not ended."""
    return bool(fields) and fields[0] not in "ZX"


def is_stopped(pid: int) -> bool:
    """Whether a process stands still by SIGSTOP, or will before it does anything more; one that has ended does."""
    lines = dict(line.split(":\t", 1) for line in _read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    if not lines or lines["State"][0] in "TtZX":
        return True
    return any(int(lines[waiting], 16) & _STOP_BIT for waiting in ("SigPnd", "ShdPnd"))


def parent_in(fields: list[str]) -> int:
    """The parent's process id in the fields of `stat`, or 0."""
    return int(fields[_STAT_PPID]) if fields else 0


def name(pid: int) -> str:
    """What it runs, in at most 15 characters, or ""."""
    return _read(f"/proc/{pid}/comm").rstrip("\n")


def parent(pid: int) -> int:
    """Its parent's process id, or 0."""
    return parent_in(stat(pid))


def descendants(pid: int) -> list[int]:
    """`pid` and everything below it. For the first process of a PID namespace that is the whole namespace, since orphans become its children."""
    if os.access(f"/proc/{pid}/task/{pid}/children", os.R_OK):
        found = [pid]
        for member in found:  # grows while it is read
            found.extend(children(member))
        return found
    return _descendants_by_scan(pid)


def cpu_us(pids: list[int]) -> int:
    """CPU time of the processes that are alive now."""
    total = 0
    for pid in pids:
        if fields := stat(pid):
            total += int(fields[_STAT_UTIME]) + int(fields[_STAT_STIME])
    return total * _TICK_US


def pss_bytes(pids: list[int]) -> int:
    """Memory of the processes, pages shared between them counted once (proportional set size)."""
    total = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(("Pss:", "SwapPss:")):
                total += int(line.split()[1]) * 1024
    return total


def children(pid: int) -> list[int]:
    """Its direct children; [] also on a kernel without CONFIG_PROC_CHILDREN."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names only, and often
    except OSError:
        return found
    for thread in threads:
        found.extend(map(int, _read(f"/proc/{pid}/task/{thread}/children").split()))
    return found


def _descendants_by_scan(pid: int) -> list[int]:
    """For kernels without CONFIG_PROC_CHILDREN."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and (fields := stat(int(name))):
            children.setdefault(int(fields[_STAT_PPID]), []).append(int(name))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
