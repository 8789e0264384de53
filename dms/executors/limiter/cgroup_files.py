"""Reading and writing the small files that cgroups are made of."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

LENT: Final = "lent-"
"""Begins the name of a group that gives way. None that other nodes start with looks like it to `remove_empty_siblings`."""


def write(path: str, value: int | str) -> None:
    """Writes one value.

    Raises:
        OSError: with the file's name.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def read(path: str) -> str:
    """The whole file, or "" when it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 65536).decode()
    except OSError:
        return ""
    finally:
        os.close(fd)


def number(path: str) -> int:
    """The file as a number, or 0."""
    text = read(path).strip()
    return int(text) if text.isdigit() else 0


def field(path: str, name: str) -> int:
    """The number after `name` in a file of "name number" lines, or 0."""
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


def members(directory: str) -> list[int]:
    """Process ids in a group."""
    return [int(line) for line in Path(directory, "cgroup.procs").read_text().split()] if _exists(directory) else []


def kill_members(directory: str) -> None:
    """SIGKILL to every member, again until no new ones appear: a forking job is slower than a loop without pauses."""
    for _ in range(100):
        pids = members(directory)
        if not pids:
            return
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def remove(directories: Iterable[str]) -> bool:
    """Removes groups. False: at least one still has members."""
    done = True
    for directory in directories:
        try:
            os.rmdir(directory)  # noqa: PTH106 - on every job's path
        except FileNotFoundError:
            continue
        except OSError:
            done = False
    return done


def remove_empty_siblings(base: Path) -> None:
    """Removes what other nodes on this machine left empty; one that is still used is not empty, or is made again for its next run."""
    prefix = base.name.partition("-")[0] + "-"
    for sibling in base.parent.glob(f"{prefix}*"):
        if sibling != base:
            remove([str(sibling)])


def group_of(base: Path, name: str, *, gives_way: bool) -> Path:
    """Where a run has its group: in the one of all runs, or beside that, since inside it could give way to nothing but other runs."""
    return base.with_name(f"{LENT}{base.name}-{name}") if gives_way else base / name


def is_lent(group: str) -> bool:
    """Whether a run's group gives way, or did until it was to end."""
    return Path(group).name.startswith(LENT)


def runs_of(base: Path) -> set[tuple[str, bool]]:
    """The runs that have a group there, each with whether it gives way. The group of all runs need not exist itself."""
    inside = {(entry.name, False) for entry in base.iterdir() if entry.is_dir()} if base.is_dir() else set()
    prefix = f"{LENT}{base.name}-"
    return inside | {(entry.name.removeprefix(prefix), True) for entry in base.parent.glob(f"{prefix}*")}


def make_idle(group: str, weight: str, least: int) -> None:
    """What is in a group runs when nothing beside it wants to, and makes room at once for what does.

    Args:
        group: its directory.
        weight: the file that says its weight.
        least: what is written there on kernels before 5.15, which can do no more than divide the time.

    Raises:
        OSError: there is no such file.
    """
    try:
        write(f"{group}/cpu.idle", 1)
    except FileNotFoundError:
        write(f"{group}/{weight}", least)


def make_busy(group: str, weight: str, usual: int) -> None:
    """Takes back `make_idle`. Nothing is raised: a group that is gone needs it no more."""
    for file, value in (("cpu.idle", 0), (weight, usual)):
        with suppress(OSError):
            write(f"{group}/{file}", value)


def own_groups() -> dict[str, str]:
    """This process's group by controller name as in /proc/self/cgroup; "" is cgroup v2."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _exists(directory: str) -> bool:
    return os.access(directory, os.R_OK)  # a plain stat: the group may be gone
