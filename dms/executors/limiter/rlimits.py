"""Resource limits and polling: what is left where the node may not use cgroups.

Processes are limited by the kernel (RLIMIT_NPROC, counted per user namespace since Linux 5.14). Memory is the proportional set size of the whole PID
namespace, polled; RLIMIT_DATA keeps a single process from running far ahead between two polls. RLIMIT_AS is not used: it counts address space that is
only reserved, and WebAssembly, Go and Java reserve gigabytes. There is no CPU quota: a job can use every core, and pays for what it used.

Nothing gives way by weight here. A process can make itself idle (SCHED_IDLE), but a plain user's node could not take that back once it is to save
what it has done.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from dms.executors.limiter import process_tree, signals
from dms.executors.limiter.base import SETUP_PROCESSES, Allowance, Group, Reading
from dms_proto.capability import Meter

DATA_HEADROOM: Final = 2
"""RLIMIT_DATA is this many times the memory allowance: polling sees and names the excess first, the kernel refuses the rest."""


_NOTHING: Final = Allowance(1, 1, 1, 1, 1, 1)


class PolledGroup:
    """One run, known by the first process of its PID namespace. `paths` is empty: there is nothing on disk to find it by."""

    join: Sequence[str] = ()
    paths: Sequence[str] = ()

    def __init__(self, *, own_user: bool) -> None:
        self._allowance = _NOTHING
        self._own_user = own_user
        self.paused_start: bool = not own_user
        self._pid = 0
        self._peak = 0
        self._cpu_us = 0
        self._over = 0

    def limit(self, allowance: Allowance) -> None:
        """See `Group.limit`."""
        self._allowance = allowance

    def rlimits(self) -> list[tuple[int, int]]:
        """See `Group.rlimits`."""
        wall_s = -(-self._allowance.wall_ms // 1000)
        processes = [(resource.RLIMIT_NPROC, self._most_processes())] if self._own_user else []
        return [
            *processes,
            (resource.RLIMIT_DATA, DATA_HEADROOM * self._allowance.memory_bytes),
            (resource.RLIMIT_CPU, wall_s * max(1, os.cpu_count() or 1) + 1),
        ]

    def attach(self, pid: int) -> None:
        """See `Group.attach`."""
        self._pid = pid
        if not self._own_user:
            # Not before the start: until its own user namespace exists, the limit would count all of this user's other processes.
            limit = self._most_processes()
            with suppress(ProcessLookupError):  # it has ended already
                resource.prlimit(pid, resource.RLIMIT_NPROC, (limit, limit))

    def read(self) -> Reading:
        """See `Group.read`."""
        pids = self.processes()
        memory = process_tree.pss_bytes(pids)
        self._peak = max(self._peak, memory)
        self._cpu_us = max(self._cpu_us, process_tree.cpu_us(pids))
        if memory > self._allowance.memory_bytes:
            self._over = 1
        return Reading(cpu_us=self._cpu_us, memory_bytes=memory, memory_peak_bytes=self._peak, oom_kills=self._over)

    def processes(self) -> list[int]:
        """See `Group.processes`."""
        return process_tree.descendants(self._pid) if self._pid and process_tree.start_time(self._pid) else []

    def freeze(self) -> None:
        """See `Group.freeze`."""
        signals.freeze(self.processes)

    def thaw(self) -> None:
        """See `Group.thaw`."""
        signals.thaw(self.processes)

    def hurry(self) -> None:
        """See `Group.hurry`: it has not given way."""

    def kill(self) -> None:
        """See `Group.kill`."""
        for pid in self.processes()[:1]:  # the first process of a PID namespace takes all others with it
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> bool:
        """See `Group.remove`."""
        return not self.processes()

    def _most_processes(self) -> int:
        return self._allowance.processes + SETUP_PROCESSES


class Rlimits:
    """The limiter every Linux has."""

    name = "rlimits"
    meter = Meter.LOWER_BOUND
    enforces: tuple[str, ...] = ("processes",)
    poll_s = 0.1

    def __init__(self, *, own_user: bool) -> None:
        """Nothing to set up.

        Args:
            own_user: whether every run has a user of its own, whose processes can be counted from the first.
        """
        self._own_user = own_user

    def prepare(self, name: str, *, gives_way: bool = False) -> PolledGroup:
        """See `Limiter.prepare`."""
        return PolledGroup(own_user=self._own_user)

    def reopen(self, paths: Sequence[str], allowance: Allowance) -> PolledGroup:
        """See `Limiter.reopen`."""
        group = PolledGroup(own_user=self._own_user)
        group.limit(allowance)
        return group

    def leftovers(self) -> list[Group]:
        """See `Limiter.leftovers`."""
        return []

    def release(self) -> None:
        """See `Limiter.release`."""
