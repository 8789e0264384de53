"""Reading and writing the small files that cgroups are made of."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


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


def own_groups() -> dict[str, str]:
    """This process's group by controller name as in /proc/self/cgroup; "" is cgroup v2."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _exists(directory: str) -> bool:
    return os.access(directory, os.R_OK)  # a plain stat: the group may be gone
