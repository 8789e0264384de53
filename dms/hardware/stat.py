"""CPU time of the whole machine from /proc/stat: proc(5)."""

from __future__ import annotations

from pathlib import Path

import msgspec


class CpuTicks(msgspec.Struct, frozen=True):
    """CPU time in clock ticks (usually 1/100 s), over all cores. `busy` is time that programs got; `steal` was kept by a hypervisor."""

    busy: int
    idle: int
    steal: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.busy + self.idle + self.steal

    def __sub__(self, earlier: CpuTicks) -> CpuTicks:
        # The kernel may step iowait back, and a resumed virtual machine more: never below zero.
        return CpuTicks(
            max(0, self.busy - earlier.busy), max(0, self.idle - earlier.idle), max(0, self.steal - earlier.steal)
        )


def read_ticks(proc: Path = Path("/proc")) -> CpuTicks:
    """The counters now; zeros where there is no /proc/stat."""
    try:
        with (proc / "stat").open() as file:
            return parse_ticks(file.readline())
    except OSError:
        return CpuTicks(0, 0, 0)


def parse_ticks(line: str) -> CpuTicks:
    """The first line of /proc/stat. Time of guests is already in user and nice; waiting for a disk leaves the core free."""
    user, nice, system, idle, iowait, irq, softirq, steal = ([int(part) for part in line.split()[1:9]] + [0] * 8)[:8]
    return CpuTicks(busy=user + nice + system + irq + softirq, idle=idle + iowait, steal=steal)
