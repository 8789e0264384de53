"""What this node and its allocations use: the sum over the process tree below it, living or already waited for.

Costs in proportion to our own processes, not to the machine's. Trees are walked through /proc/PID/task/TID/children, proc(5).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

MAX_TREE: Final = 10_000
"""Processes of ours that are looked at; a fork bomb in a job must not stall the node (its own limit is far lower)."""


LARGE_PROCESS: Final = 256 << 20
"""Bytes of resident memory from which PSS is not worth its cost (about 2 ms per GiB)."""


class ProcessUse(msgspec.Struct, frozen=True):
    """One process of ours. Times in clock ticks: its own, and those of its children that ended and were waited for."""

    started: int
    own_ticks: int
    waited_ticks: int


class OwnUse(msgspec.Struct, frozen=True):
    """What the node and its allocations use. The memory is that of the living."""

    processes: dict[int, ProcessUse] = {}
    memory_bytes: int = 0

    def ticks_since(self, earlier: OwnUse) -> int:
        """CPU ticks between two readings.

        The sum over the tree, children already waited for included, is exact unless something was killed and its parent did not wait for it
        (the end of a sandbox's process namespace): then its past falls out of the sum. What the living alone have used since is a lower
        bound that such a death cannot reach. So: the larger of both.
        """
        tree = self._sum() - earlier._sum()
        living = 0
        for pid, now in self.processes.items():
            before = earlier.processes.get(pid)
            same = before is not None and before.started == now.started
            living += now.own_ticks - (before.own_ticks if before is not None and same else 0)
        return max(tree, living)

    def _sum(self) -> int:
        return sum(process.own_ticks + process.waited_ticks for process in self.processes.values())


def own_use(roots: Collection[int], proc: Path = Path("/proc")) -> OwnUse:
    """Reads the trees below `roots`.

    Args:
        roots: the node's process id, and those of adopted runs that are no longer below it.
        proc: where procfs is mounted.
    """
    processes, memory = {}, 0
    for pid in _tree(roots, proc):
        use = _process_use(proc / str(pid))
        if use is not None:
            processes[pid] = use
            memory += _memory_of(proc / str(pid))
    return OwnUse(processes, memory)


def _tree(roots: Collection[int], proc: Path) -> Iterator[int]:
    waiting, seen = list(roots), set(roots)
    while waiting and len(seen) < MAX_TREE:
        pid = waiting.pop()
        yield pid
        for child in _children(pid, proc):
            if child not in seen:
                seen.add(child)
                waiting.append(child)


def _children(pid: int, proc: Path) -> Iterator[int]:
    """The children of every thread of `pid`: a child belongs to the thread that started it."""
    try:
        for thread in (proc / str(pid) / "task").iterdir():
            yield from (int(word) for word in (thread / "children").read_text().split())
    except OSError:  # it ended meanwhile
        return


def _process_use(process: Path) -> ProcessUse | None:
    """Fields 14 to 17 and 22 of proc_pid_stat(5); None when it ended meanwhile."""
    try:
        text = (process / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may contain anything; field 3 is the first here
    utime, stime, cutime, cstime = (int(field) for field in fields[11:15])
    return ProcessUse(int(fields[19]), utime + stime, cutime + cstime)


def _memory_of(process: Path) -> int:
    """PSS (shared pages counted once over all) of small processes, RSS of large ones: nearly the same there, and PSS walks over all pages."""
    resident = 0
    with contextlib.suppress(OSError, IndexError):  # ended meanwhile, a zombie, or not ours to read
        resident = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if resident <= LARGE_PROCESS:
            for line in (process / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    return resident
