"""Whether processes are frozen, as the kernel has it: their control group is, or they were stopped by a signal."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dms.executors.limiter import process_tree

CGROUPS: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


def frozen(pids: Iterable[int]) -> set[bool]:
    """What is so of these: empty without any, both where some are and some are not."""
    return {is_frozen(pid) or process_tree.is_stopped(pid) for pid in pids}


def is_frozen(pid: int) -> bool:
    """Whether the control group of a process is frozen."""
    with suppress(OSError):  # it has just ended
        groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        unified = next((line[3:] for line in groups if line.startswith("0::")), "")
        states = [root / unified.lstrip("/") / "cgroup.events" for root in CGROUPS]
        return any("frozen 1" in state.read_text() for state in states if state.exists())
    return False
