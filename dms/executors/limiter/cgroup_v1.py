"""cgroup v1, for a root node on an old or hybrid hierarchy: one directory per controller and run.

Groups are made below the node's own, so that jobs stay within whatever limits the node itself lives under.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dms.executors.limiter import cgroup_files as files
from dms.executors.limiter import signals
from dms.executors.limiter.base import SETUP_PROCESSES, Allowance, Group, Reading, cannot_prepare
from dms_proto.capability import Meter

CONTROLLERS: Final = ("cpu", "cpuacct", "memory", "pids")
SHARES_OF_CORE: Final = 1024
"""Weight of one core against the other programs of the machine, each of which has this weight: who reserved two cores gets two when all want more."""
LEAST_SHARES: Final = 2
CPU_PERIOD_US: Final = 100_000
"""The kernel's default, which is therefore not written."""


class GroupV1:
    """One run's directories, in the order of `CONTROLLERS`."""

    paused_start: bool = False

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths: Sequence[str] = tuple(paths)
        # Hierarchies may be co-mounted (cpu,cpuacct): joining one directory twice is harmless but costs a migration.
        self.join: Sequence[str] = tuple(f"{path}/cgroup.procs" for path in dict.fromkeys(paths))
        self._cpu, self._cpuacct, self._memory, self._pids = self.paths

    def limit(self, allowance: Allowance) -> None:
        """See `Group.limit`."""
        files.write(f"{self._cpu}/cpu.cfs_quota_us", max(1000, allowance.cpu_millicores * CPU_PERIOD_US // 1000))
        if not files.is_lent(self._cpu):
            shares = max(LEAST_SHARES, allowance.cpu_millicores * SHARES_OF_CORE // 1000)
            files.write(f"{self._cpu}/cpu.shares", shares)
        memory, with_swap = f"{self._memory}/memory.limit_in_bytes", f"{self._memory}/memory.memsw.limit_in_bytes"
        limits = [memory, with_swap] if os.access(with_swap, os.W_OK) else [memory]  # only with swap accounting
        if allowance.memory_bytes > files.number(memory):
            limits.reverse()  # that of both is never below that of memory alone
        for limit in limits:
            files.write(limit, allowance.memory_bytes)
        files.write(f"{self._pids}/pids.max", allowance.processes + SETUP_PROCESSES)

    def rlimits(self) -> list[tuple[int, int]]:
        """See `Group.rlimits`."""
        return []

    def attach(self, pid: int) -> None:
        """See `Group.attach`: nothing to do."""

    def read(self) -> Reading:
        """See `Group.read`."""
        return Reading(
            cpu_us=files.number(f"{self._cpuacct}/cpuacct.usage") // 1000,
            memory_bytes=files.number(f"{self._memory}/memory.usage_in_bytes"),
            memory_peak_bytes=files.number(f"{self._memory}/memory.max_usage_in_bytes"),
            oom_kills=files.field(f"{self._memory}/memory.oom_control", "oom_kill"),
        )

    def processes(self) -> list[int]:
        """See `Group.processes`."""
        return files.members(self._pids)

    def freeze(self) -> None:
        """See `Group.freeze`."""
        signals.freeze(self.processes)

    def thaw(self) -> None:
        """See `Group.thaw`."""
        signals.thaw(self.processes)

    def hurry(self) -> None:
        """See `Group.hurry`."""
        if files.is_lent(self._cpu):
            files.make_busy(self._cpu, "cpu.shares", SHARES_OF_CORE)

    def kill(self) -> None:
        """See `Group.kill`."""
        self.hurry()
        files.kill_members(self._pids)

    def remove(self) -> bool:
        """See `Group.remove`."""
        return files.remove(dict.fromkeys(self.paths))


class CgroupV1:
    """Root on cgroup v1."""

    name = "cgroup-v1"
    meter = Meter.EXACT
    enforces: tuple[str, ...] = ("cpu", "memory", "processes")
    poll_s = 1.0

    def __init__(self, bases: Sequence[Path]) -> None:
        self._bases = tuple(bases)

    def prepare(self, name: str, *, gives_way: bool = False) -> GroupV1:
        """See `Limiter.prepare`."""
        group = self._group(name, gives_way=gives_way)
        try:
            for base, path in zip(self._bases, group.paths, strict=True):
                _make(base, path)
            if gives_way:
                files.make_idle(group.paths[0], "cpu.shares", LEAST_SHARES)
        except OSError as error:
            group.remove()
            raise cannot_prepare(name, error) from error
        return group

    def reopen(self, paths: Sequence[str], allowance: Allowance) -> GroupV1:
        """See `Limiter.reopen`."""
        return GroupV1(paths)

    def leftovers(self) -> list[Group]:
        """See `Limiter.leftovers`."""
        found = {run for base in self._bases for run in files.runs_of(base)}
        return [self._group(name, gives_way=gives_way) for name, gives_way in sorted(found)]

    def _group(self, name: str, *, gives_way: bool) -> GroupV1:
        return GroupV1([str(files.group_of(base, name, gives_way=gives_way)) for base in self._bases])

    def release(self) -> None:
        """See `Limiter.release`."""
        files.remove(map(str, self._bases))


def _make(base: Path, path: str) -> None:
    """Makes a run's directory; one for two controllers is made by the first, and the one that holds them may have been released."""
    for _ in range(2):
        try:
            os.mkdir(path)  # noqa: PTH102 - on every job's path
        except FileExistsError:
            return
        except FileNotFoundError:
            _make_base(base)
        else:
            return


def _make_base(base: Path) -> None:
    """Makes the directory that holds the runs'. Without the weight of the whole machine all of them together would count as one other program."""
    base.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):  # of another controller
        files.write(f"{base}/cpu.shares", SHARES_OF_CORE * (os.cpu_count() or 1))


def find(root: Path, name: str) -> CgroupV1 | None:
    """The limiter with its groups in `name` below the node's own groups, or None where a controller is missing or not writable."""
    own = files.own_groups()
    bases = []
    for controller in CONTROLLERS:
        base = root / controller / own.get(controller, "/").lstrip("/")
        if controller not in own or not (base / "cgroup.procs").exists():
            return None
        bases.append(base / name)
    try:
        for base in bases:
            _make_base(base)
            files.remove_empty_siblings(base)
    except OSError:
        files.remove(str(base) for base in bases)
        return None
    return CgroupV1(bases)
