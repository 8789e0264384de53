"""A job's secrets, in memory, where its container sees them: a directory per run on a file system that has no disk.

::

    ROOT/dms-HOME-RUN/         0700, the node's
      files/NAME               what the job finds below /run/secrets
      variables                a script that makes variables of the others

The engine is told the paths, never the values, and nothing of it is written anywhere. It outlives the node, as the container does; it goes with the
run or with the next sweep, and with the machine in any case.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dms.executors import job_directory
from dms.executors.oci.config import User, script
from dms_proto.errors import MachineError
from dms_proto.secrets import OpenSecret

KINDS: Final = ("tmpfs", "ramfs")


class MemoryFiles:
    """Those of one node."""

    def __init__(self, home: str) -> None:
        """Touches nothing yet.

        Args:
            home: tells the directories of this node from those of others.
        """
        self._prefix = f"dms-{home}-"

    def lay_out(self, name: str, secrets: Sequence[OpenSecret], user: User) -> str:
        """Writes the secrets of a run and gives their directory; nothing where there are none.

        Raises:
            MachineError: `sandbox_failed`: this machine has no such file system, or no room there.
        """
        if not secrets:
            return ""
        self.remove(name)
        directory = _root() / f"{self._prefix}{name}"
        try:
            (directory / "files").mkdir(mode=0o700, parents=True)
            directory.chmod(0o700)
            for secret in secrets:
                if not secret.variable:
                    _write(directory / "files" / secret.name, secret.value)
            _write(directory / "variables", script(secrets))
            (directory / "files").chmod(0o500)
            if user.outside:
                for path in (directory / "files", directory / "variables", *(directory / "files").iterdir()):
                    os.chown(path, user.outside, user.outside)
        except OSError as error:
            self.remove(name)
            raise MachineError("sandbox_failed", f"no room in memory for secrets: {error.strerror}") from error
        return str(directory)

    def remove(self, name: str) -> None:
        """Takes the secrets of a run away. Idempotent."""
        for root in _roots():
            _remove(root / f"{self._prefix}{name}")

    def sweep(self, keep: Collection[str]) -> None:
        """Takes away those of all runs but these."""
        kept = {f"{self._prefix}{name}" for name in keep}
        for root in _roots():
            for directory in root.glob(f"{self._prefix}*"):
                if directory.name not in kept:
                    _remove(directory)


def _write(path: Path, value: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)


def _remove(directory: Path) -> None:
    with suppress(OSError):
        (directory / "files").chmod(0o700)
    job_directory.remove(directory)


def _root() -> Path:
    for root in _roots():
        return root
    raise MachineError(
        "sandbox_failed", "secrets need a file system in memory, and neither $XDG_RUNTIME_DIR nor /dev/shm is one"
    )


def _roots() -> list[Path]:
    """File systems in memory that this process may write to."""
    candidates = (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm")  # noqa: S108 - looked at below
    mounts = Path("/proc/self/mountinfo").read_text()
    return [
        Path(path) for path in candidates if path and os.access(path, os.W_OK | os.X_OK) and is_in_memory(path, mounts)
    ]


def is_in_memory(path: str, mountinfo: str) -> bool:
    """Whether a path lies on a file system without a disk.

    Args:
        path: absolute.
        mountinfo: content of /proc/self/mountinfo; of two mounts at one place the later counts.
    """
    kind, longest = "", -1
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= longest:
            kind, longest = after.split()[0], len(point)
    return kind in KINDS
