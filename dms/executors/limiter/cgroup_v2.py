"""cgroup v2: a subtree the node owns, either delegated to it (systemd `Delegate=yes`) or made by root.

In a delegated subtree the node first moves itself into a leaf, because a group with members cannot hand controllers to its children.
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

CONTROLLERS: Final = ("cpu", "memory", "pids")
WEIGHT_OF_CORE: Final = 100
"""Weight of one core against the other programs of the machine, each of which has this weight: who reserved two cores gets two when all want more."""
LEAST_WEIGHT: Final = 1
CPU_PERIOD_US: Final = 100_000
_ENABLE: Final = " ".join(f"+{controller}" for controller in CONTROLLERS)
NODE_LEAF: Final = "node"
"""Leaf of a delegated group that holds the node's own processes."""


class GroupV2:
    """One run's directory."""

    paused_start: bool = False

    def __init__(self, path: str) -> None:
        self.paths: Sequence[str] = (path,)
        self.join: Sequence[str] = (f"{path}/cgroup.procs",)
        self._path = path

    def limit(self, allowance: Allowance) -> None:
        """See `Group.limit`."""
        quota = max(1000, allowance.cpu_millicores * CPU_PERIOD_US // 1000)
        files.write(f"{self._path}/cpu.max", f"{quota} {CPU_PERIOD_US}")
        if not files.is_lent(self._path):
            weight = max(LEAST_WEIGHT, allowance.cpu_millicores * WEIGHT_OF_CORE // 1000)
            files.write(f"{self._path}/cpu.weight", min(10_000, weight))
        files.write(f"{self._path}/memory.max", allowance.memory_bytes)
        with suppress(FileNotFoundError):  # kernels without swap
            files.write(f"{self._path}/memory.swap.max", 0)
        with suppress(FileNotFoundError):  # since 4.19: over memory ends the whole job, not its fattest process
            files.write(f"{self._path}/memory.oom.group", 1)
        files.write(f"{self._path}/pids.max", allowance.processes + SETUP_PROCESSES)

    def rlimits(self) -> list[tuple[int, int]]:
        """See `Group.rlimits`."""
        return []

    def attach(self, pid: int) -> None:
        """See `Group.attach`: nothing to do."""

    def read(self) -> Reading:
        """See `Group.read`."""
        current = files.number(f"{self._path}/memory.current")
        return Reading(
            cpu_us=files.field(f"{self._path}/cpu.stat", "usage_usec"),
            memory_bytes=current,
            memory_peak_bytes=files.number(f"{self._path}/memory.peak") or current,  # memory.peak since 5.19
            oom_kills=files.field(f"{self._path}/memory.events", "oom_kill"),
        )

    def processes(self) -> list[int]:
        """See `Group.processes`."""
        return files.members(self._path)

    def freeze(self) -> None:
        """See `Group.freeze`."""
        try:
            files.write(f"{self._path}/cgroup.freeze", 1)  # since 5.2
        except FileNotFoundError:
            signals.freeze(self.processes)

    def thaw(self) -> None:
        """See `Group.thaw`."""
        try:
            files.write(f"{self._path}/cgroup.freeze", 0)
        except FileNotFoundError:
            signals.thaw(self.processes)

    def hurry(self) -> None:
        """See `Group.hurry`."""
        if files.is_lent(self._path):
            files.make_busy(self._path, "cpu.weight", WEIGHT_OF_CORE)

    def kill(self) -> None:
        """See `Group.kill`."""
        self.hurry()
        try:
            files.write(f"{self._path}/cgroup.kill", 1)  # since 5.14
        except OSError:
            files.kill_members(self._path)

    def remove(self) -> bool:
        """See `Group.remove`."""
        return files.remove(self.paths)


class CgroupV2:
    """A cgroup v2 subtree of our own."""

    meter = Meter.EXACT
    enforces: tuple[str, ...] = ("cpu", "memory", "processes")
    poll_s = 1.0

    def __init__(self, name: str, base: Path) -> None:
        self.name = name
        self._base = base

    def prepare(self, name: str, *, gives_way: bool = False) -> GroupV2:
        """See `Limiter.prepare`."""
        path = files.group_of(self._base, name, gives_way=gives_way)
        group = GroupV2(str(path))
        try:
            self.make_base()
            path.mkdir(exist_ok=True)
            if gives_way:
                files.make_idle(str(path), "cpu.weight", LEAST_WEIGHT)
        except OSError as error:
            group.remove()
            raise cannot_prepare(name, error) from error
        return group

    def make_base(self) -> None:
        """Makes the group that holds the runs' groups.

        Raises:
            OSError: not permitted.
        """
        if not self._base.is_dir():
            self._base.mkdir()
            # Else all runs together would count as one other program.
            files.write(f"{self._base}/cpu.weight", min(10_000, WEIGHT_OF_CORE * (os.cpu_count() or 1)))
            files.write(f"{self._base}/cgroup.subtree_control", _ENABLE)

    def reopen(self, paths: Sequence[str], allowance: Allowance) -> GroupV2:
        """See `Limiter.reopen`."""
        return GroupV2(paths[0])

    def leftovers(self) -> list[Group]:
        """See `Limiter.leftovers`."""
        found = sorted(files.runs_of(self._base))
        return [GroupV2(str(files.group_of(self._base, name, gives_way=gives_way))) for name, gives_way in found]

    def release(self) -> None:
        """See `Limiter.release`."""
        files.remove([str(self._base)])


def find_delegated(root: Path, name: str, own: str, pids: Sequence[int]) -> CgroupV2 | None:
    """The limiter in the node's own group, when it was delegated to this user and holds only `pids` (the node's processes)."""
    group = root / own.lstrip("/")
    if (
        group.name == NODE_LEAF and (group.parent / name).is_dir()
    ):  # an earlier call, or the process that started us, moved us here
        group = group.parent
    if group == root or not os.access(group / "cgroup.procs", os.W_OK) or not os.access(group, os.W_OK):
        return None
    if not set(files.members(str(group))) <= set(pids):
        return None  # other programs live here: rearranging their group is not ours to do
    try:
        (group / NODE_LEAF).mkdir(exist_ok=True)
        for pid in files.members(str(group)):
            files.write(f"{group}/{NODE_LEAF}/cgroup.procs", pid)
        return _with_controllers("cgroup-v2-delegated", group, name)
    except OSError:
        return None


def find_root(root: Path, name: str) -> CgroupV2 | None:
    """The limiter in a group of its own at the top of the hierarchy: needs root."""
    try:
        return _with_controllers("cgroup-v2", root, name)
    except OSError:
        return None


def _with_controllers(limiter: str, group: Path, name: str) -> CgroupV2 | None:
    if not set(CONTROLLERS) <= set(files.read(f"{group}/cgroup.controllers").split()):
        return None
    files.write(f"{group}/cgroup.subtree_control", _ENABLE)
    found = CgroupV2(limiter, group / name)
    found.make_base()
    files.remove_empty_siblings(group / name)
    return found
