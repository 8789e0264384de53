"""Looks at the machine every few seconds and tells the ledger how much less it can offer (`pressure`).

What is ours is told apart from what is others' by the process tree: the node, its network process, its sandboxes and everything they started,
living or already waited for. Reading it costs in proportion to our own processes, not to the machine's: about a millisecond every 5 s.
Lives on the node's asyncio loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from dms.hardware.cgroups import read_limits
from dms.hardware.own_use import OwnUse, own_use
from dms.hardware.pressure import Amounts, Pressure, Sample, State, follow
from dms.hardware.stat import CpuTicks, read_ticks
from dms_proto.capability import Resources

log = logging.getLogger(__name__)


class Look(msgspec.Struct, frozen=True):
    """Raw counters at one moment; two of them make a `Sample`."""

    at: float
    machine: CpuTicks
    own: OwnUse
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int


def look(
    home: Path, roots: Collection[int], clock: Callable[[], float] = time.monotonic, proc: Path = Path("/proc")
) -> Look:
    """Reads every counter once."""
    total, available = _memory(proc)
    disk = os.statvfs(home)
    return Look(
        at=clock(),
        machine=read_ticks(proc),
        own=own_use(roots, proc),
        memory_total=total,
        memory_available=available,
        disk_total=disk.f_blocks * disk.f_frsize,
        disk_free=disk.f_bavail * disk.f_frsize,
    )


def sample_between(before: Look, after: Look, cpu_millicores: int, own_disk_bytes: int = 0) -> Sample:
    """What was used between two looks.

    Args:
        before: the earlier look.
        after: the later one.
        cpu_millicores: what this process may use of the machine (`Facts.cpu_millicores`).
        own_disk_bytes: what allocations and blobs hold on the home's file system.
    """
    passed = after.machine - before.machine
    cores = (os.cpu_count() or 1) * 1000
    used = round(cores * (passed.busy + passed.steal) / passed.total) if passed.total else 0
    own = min(used, round(cores * after.own.ticks_since(before.own) / passed.total)) if passed.total else 0
    # Under a quota or an affinity the rest of the machine is not ours to offer: others may use it without taking anything from us.
    others = max(0, used - own - (cores - cpu_millicores))
    return Sample(
        at=after.at,
        capacity=Amounts(cpu_millicores, after.memory_total, after.disk_total),
        used=Amounts(own + others, after.memory_total - after.memory_available, after.disk_total - after.disk_free),
        own=Amounts(own, after.own.memory_bytes, own_disk_bytes),
    )


class Monitor:
    """Samples until it is stopped, and calls `on_change` whenever the pressure changes."""

    def __init__(
        self,
        home: Path,
        cpu_millicores: int,
        registered: Callable[[], Resources],
        *,
        interval_s: float = 5.0,
        adopted: Callable[[], Collection[int]] = tuple,
        own_disk_bytes: Callable[[], int] = lambda: 0,
        on_change: Callable[[Pressure], None] = lambda _pressure: None,
    ) -> None:
        self._home = home
        self._cpu_millicores = cpu_millicores
        self._registered = registered
        self._interval_s = interval_s
        self._adopted = adopted
        self._own_disk_bytes = own_disk_bytes
        self._on_change = on_change
        self._state = State()
        self._before: Look | None = None
        self._task: asyncio.Task[None] | None = None
        self.last: Sample | None = None
        """The newest sample, for `dms status`; None before the second look."""

    @property
    def pressure(self) -> Pressure:
        """The pressure in force."""
        return self._state.pressure

    def start(self) -> None:
        """Begins to sample on the running loop."""
        assert self._task is None, "the monitor runs already"
        self._before = self._look()
        self._task = asyncio.create_task(self._run(), name="hardware monitor")

    async def stop(self) -> None:
        """Ends sampling. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def check(self) -> Pressure:
        """Takes one sample now: what the timer does, callable before a large promise and in tests."""
        now = self._look()
        before, self._before = self._before, now
        if (
            before is None or now.machine.total <= before.machine.total
        ):  # too soon for a single clock tick to have passed
            self._before = before or now
            return self.pressure
        self.last = sample_between(before, now, self._cpu_millicores, self._own_disk_bytes())
        previous = self.pressure
        self._state = follow(self._state, self.last, self._registered())
        if self.pressure != previous:
            self._on_change(self.pressure)
        return self.pressure

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                self.check()
            except OSError as error:  # the home's file system went away: the store will say so louder
                log.warning("the machine could not be sampled: %s", error)

    def _look(self) -> Look:
        return look(self._home, {os.getpid(), *self._adopted()})


def _memory(proc: Path) -> tuple[int, int]:
    """(total, available) in bytes, within the memory limit on this process."""
    values = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    limits = read_limits(proc)
    total = min(values["MemTotal"], limits.memory_bytes or values["MemTotal"])
    available = values.get("MemAvailable", values["MemFree"])
    if limits.memory_bytes is not None:
        available = min(available, limits.memory_bytes - (limits.memory_used_bytes or 0))
    return total, max(0, available)
