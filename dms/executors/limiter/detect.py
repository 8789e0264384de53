"""Chooses the strongest limiter this process may use: delegated cgroup v2, cgroup v2 as root, cgroup v1 as root, then resource limits with polling.

`systemd-run --scope` is not in the list: a process and a D-Bus round trip for each job cost more than the sandbox itself. A node that is to have
hard limits without root runs as a systemd user unit with `Delegate=yes` (and `KillMode=process`, so that jobs survive its restart).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from dms.executors.limiter import cgroup_files, cgroup_v1, cgroup_v2, process_tree
from dms.executors.limiter.base import Limiter
from dms.executors.limiter.rlimits import Rlimits

ORDER: Final = ("cgroup-v2-delegated", "cgroup-v2", "cgroup-v1", "rlimits")


def detect(root: Path, name: str, only: tuple[str, ...] = ()) -> Limiter:
    """The first limiter of `ORDER` that works here.

    Args:
        root: where cgroups are mounted.
        name: of the group that will hold this node's runs; unique per node on the machine, the same after a restart.
        only: names to consider; empty for all. "rlimits" always remains.
    """
    for candidate in ORDER:
        if (not only or candidate in only) and (found := _find(candidate, root, name)) is not None:
            return found
    return Rlimits(own_user=os.geteuid() == 0)


def _find(candidate: str, root: Path, name: str) -> Limiter | None:
    own = cgroup_files.own_groups()
    # A hybrid machine has v2 in a corner without controllers; `_with_controllers` notices.
    v2_root = root / "unified" if (root / "unified").is_dir() else root
    is_root = os.geteuid() == 0
    match candidate:
        case "cgroup-v2-delegated" if "" in own:
            return cgroup_v2.find_delegated(v2_root, name, own[""], process_tree.descendants(os.getpid()))
        case "cgroup-v2" if "" in own and is_root:
            return cgroup_v2.find_root(v2_root, name)
        case "cgroup-v1" if is_root:
            return cgroup_v1.find(root, name)
    return None
